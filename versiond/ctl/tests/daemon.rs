//! Each command against a daemon's admin socket that a test controls: what it asks, prints and returns.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use fake::{Daemon, Ended, versionctl};
use serde_json::{Value, json};

/// A swap in the middle: g1 drains two streams, g2 serves.
fn status() -> Value {
    let load = |stream: u64| json!({"request": 0, "stream": stream, "upgrade": 0, "job": 0});
    let generation = |n: u64, phase: &str, sha: &str, inflight: u64| {
        json!({"generation": n, "sha256": sha.repeat(64), "phase": phase, "pid": 4000 + n, "port": 20000 + n,
               "phase_ms": 61_000, "inflight": inflight, "by_class": load(inflight), "oldest_ms": 12_000, "admitted": 9})
    };
    json!({
        "schema": 1, "version": "0.1.0", "host": "gpu-07", "boot": "b1", "state": "serving", "ready": true,
        "uptime_ms": 200_000, "isolation": {"processes": "group", "users": "none", "socket_ownership": "verified"},
        "catalog": {"source": "file:/etc/catalog.json", "revision": 42, "read_ms_ago": 3_000},
        "slots": [
            {"service": "demo", "name": "v1", "desired": "b".repeat(64), "ready": true,
             "generations": [generation(2, "serving", "b", 0), generation(1, "draining", "a", 2)],
             "reasons": [{"code": "draining", "generation": 1, "inflight": 2, "left_ms": 60_000}]},
            {"service": "demo", "name": "v2", "desired": "c".repeat(64), "ready": false, "generations": [],
             "reasons": [{"code": "not_approved"}]},
        ],
        "receipts": [
            {"service": "demo", "name": "v0", "generation": 0, "sha256": "d".repeat(64), "cause": "swap",
             "at_start": load(3), "admitted": 100, "finished": load(2), "cut": load(1), "longest_ms": 900_000,
             "took_ms": 900_000, "outcome": "deadline_cut"},
        ],
    })
}

fn drain(state: &str, seq: u64, since_ms: u64, stream: u64) -> Value {
    json!({"schema": 1, "id": "gpu-07", "boot": "b1", "seq": seq, "state": state, "mode": "all", "since_ms": since_ms,
           "inflight": stream, "by_class": {"request": 0, "stream": stream, "upgrade": 0, "job": 0},
           "by_service": {}, "oldest_ms": 5_000, "forecast_ms": 40_000})
}

#[test]
fn status_shows_every_generation_every_wait_and_every_cut() {
    let daemon = Daemon::answering(|_, _| (200, status()));
    let Ended { code, out, err } = daemon.run(&["status"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let has = |words: &[&str]| out.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["gpu-07", "serving, ready", "3 min 20 s"]), "{out}");
    assert!(has(&["file:/etc/catalog.json", "revision 42"]), "{out}");
    assert!(has(&["demo/v1", "g2", "serving", "bbbbbbbb", "4002", "20002", "1 min 1 s"]), "{out}");
    assert!(has(&["g1", "draining", "aaaaaaaa", "2 stream", "12 s"]), "{out}");
    assert!(has(&["demo/v2", "nothing runs"]) && has(&["demo/v2", "[not_approved]"]), "{out}");
    assert!(has(&["demo/v0", "CUT 1 stream", "finished 2 stream"]), "{out}");

    let told: Value = serde_json::from_str(&daemon.run(&["status", "--json"]).out).unwrap();
    assert_eq!(told, status());
    assert_eq!(daemon.asked(), ["GET /v1/status", "GET /v1/status"]);
    // The daemon's own configuration writes `unix:` before the path.
    let named = format!("unix:{}", daemon.socket().display());
    assert!(versionctl(&["--admin", &named, "status"]).output().unwrap().status.success());
}

#[test]
fn why_asks_for_the_slot_and_a_refusal_has_its_exit_code() {
    let daemon = Daemon::answering(|_, path| {
        if path.ends_with("v1.0%2Ba") {
            let reason = json!({"code": "not_approved", "text": "no version in the catalog"});
            let slot = json!({"service": "demo", "name": "v1.0+a", "serving": 3, "reasons": [reason]});
            (200, json!({"schema": 1, "host": [{"code": "host_stopping"}], "slots": [slot]}))
        } else {
            (404, json!({"code": "unknown_slot", "message": "there is no slot demo/v9"}))
        }
    });
    let told = daemon.run(&["why", "demo/v1.0+a"]);
    assert_eq!(told.code, Some(0));
    for expected in ["host: ", "[host_stopping]", "demo/v1.0+a: g3 serves", "no version in the catalog [not_approved]"]
    {
        assert!(told.out.contains(expected), "{}", told.out);
    }
    let unknown = daemon.run(&["why", "demo/v9"]);
    assert_eq!((unknown.code, unknown.err.contains("unknown_slot")), (Some(4), true));
    assert_eq!(daemon.run(&["why", "demo"]).code, Some(64));
    assert_eq!(daemon.asked(), ["GET /v1/why?slot=demo/v1.0%2Ba", "GET /v1/why?slot=demo/v9"]);
}

#[test]
fn nobody_there_a_newer_daemon_and_a_wrong_line_each_have_their_code() {
    let nobody = Ended::of(&versionctl(&["--admin", "/nowhere/admin.sock", "status"]).output().unwrap());
    assert_eq!(nobody.code, Some(2));
    assert!(nobody.err.contains("/nowhere/admin.sock") && nobody.err.contains("--admin"), "{}", nobody.err);
    let mut newer = status();
    newer["schema"] = json!(2);
    let newer = Daemon::answering(move |_, _| (200, newer.clone())).run(&["status"]);
    assert_eq!((newer.code, newer.err.contains("schema 2")), (Some(1), true));
    let garbage = Daemon::answering(|_, _| (200, json!("hello"))).run(&["status"]);
    assert_eq!((garbage.code, garbage.err.contains("/v1/status")), (Some(1), true));
    // f36: a duration without unit is refused before anything is asked.
    for wrong in [&["stats"][..], &["drain", "--timeout", "5s"], &["drain", "--wait", "--timeout", "5"], &[]] {
        assert_eq!(versionctl(wrong).output().unwrap().status.code(), Some(64), "{wrong:?}");
    }
    assert_eq!(versionctl(&["--help"]).output().unwrap().status.code(), Some(0));
}

#[test]
fn drain_waits_until_the_last_stream_has_ended() {
    let polls = AtomicU64::new(0);
    let daemon = Daemon::answering(move |method, path| match (method, path.split('?').next().unwrap()) {
        ("POST", "/v1/drain") => (200, drain("cordoned", 7, 0, 2)),
        ("GET", "/drain/status") => {
            let n = polls.fetch_add(1, Ordering::Relaxed);
            (200, drain("cordoned", 8 + n, 10_000 + n, 1_u64.saturating_sub(n)))
        }
        _ => (404, json!({"code": "unknown_path", "message": "no"})),
    });
    let ended = daemon.run(&["drain", "--wait"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    for expected in ["cordoned, in flight: 2 stream, oldest 5 s, expected empty in 40 s", "1 stream", "drained in 10 s"]
    {
        assert!(ended.out.contains(expected), "{}", ended.out);
    }
    let asked = daemon.asked();
    assert_eq!(asked[0], "POST /v1/drain");
    assert!(asked[1].starts_with("GET /drain/status?since=7&wait=") && asked[2].contains("since=8"), "{asked:?}");
    assert_eq!(asked.len(), 3);
}

#[test]
fn drain_gives_up_is_refused_or_is_taken_back_with_an_exit_code_for_each() {
    let busy = Daemon::answering(|_, _| (200, drain("cordoned", 7, 10_000, 3)));
    let timed_out = busy.run(&["drain", "--wait", "--timeout", "300ms"]);
    assert_eq!((timed_out.code, timed_out.err.contains("3 stream")), (Some(3), true));

    let leaving = Daemon::answering(|_, _| (409, json!({"code": "host_leaving", "message": "the host is stopping"})));
    for command in [&["drain", "--wait"][..], &["undrain"]] {
        assert_eq!(leaving.run(command).code, Some(4));
    }
    let undone = Daemon::answering(|method, _| match method {
        "POST" => (200, drain("cordoned", 7, 10_000, 3)),
        _ => (200, drain("serving", 8, 0, 3)),
    });
    assert_eq!(undone.run(&["drain", "--wait"]).code, Some(4));
}

#[test]
fn drain_without_wait_returns_at_once_and_undrain_takes_it_back() {
    let daemon = Daemon::answering(|method, _| match method {
        "DELETE" => (200, drain("serving", 9, 0, 0)),
        _ => (200, drain("cordoned", 7, 0, 3)),
    });
    let json: Value = serde_json::from_str(&daemon.run(&["drain", "--json"]).out).unwrap();
    assert_eq!(json["state"], "cordoned");
    let back = daemon.run(&["undrain"]);
    assert_eq!((back.code, back.out.as_str()), (Some(0), "gpu-07: serving, nothing in flight\n"));
    assert_eq!(daemon.asked(), ["POST /v1/drain", "DELETE /v1/drain"]);
}

#[test]
fn watch_prints_each_change_as_a_line_where_there_is_no_terminal() {
    let rounds = AtomicU64::new(0);
    let daemon = Daemon::answering(move |_, path| {
        if path.starts_with("/drain/status") {
            return (200, drain("serving", 1, 0, 0));
        }
        let mut now = status();
        if rounds.fetch_add(1, Ordering::Relaxed) > 0 {
            now["slots"][0]["generations"][1]["phase"] = json!("exited");
        }
        (200, now)
    });
    let mut watch = daemon.command(&["watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = Vec::new();
    for line in BufReader::new(watch.stdout.take().unwrap()).lines() {
        seen.push(line.unwrap());
        if seen.iter().any(|line| line == "demo/v1 g1 draining -> exited") {
            break;
        }
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(seen.contains(&"demo/v1 g2 serving".to_owned()), "{seen:?}");
    assert_eq!(seen.last().unwrap(), "demo/v1 g1 draining -> exited");
}
