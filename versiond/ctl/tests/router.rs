//! Each command for a router against an admin port that a test controls: what it asks, prints and returns.

#![allow(unreachable_pub, dead_code, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;
#[path = "fake/port.rs"]
mod port;

use std::sync::atomic::{AtomicU64, Ordering};

use fake::{Daemon, Ended, versionctl};
use port::Router;
use serde_json::{Value, json};

/// A row of `GET /v1/hosts`, with so many streams in flight.
fn host(id: &str, drain: Option<Value>, stream: u64) -> Value {
    let mut row = json!({
        "pool": "gpu", "id": id, "address": format!("{id}:8080"), "weight": 100, "health": "answering",
        "share_percent": 50.0, "inflight": stream,
        "by_class": {"request": 0, "stream": stream, "upgrade": 0, "job": 0},
        "oldest_ms": 5_000, "forecast_ms": 40_000, "admitted": 9,
    });
    match drain {
        Some(drain) => {
            row["drain"] = drain;
            row["out"] = json!({"code": "drained_here", "text": "this router drains it"});
        }
        None => row["role"] = json!("ready"),
    }
    row
}

fn of_router() -> Option<Value> {
    Some(json!({"mode": "all", "since_ms": 0, "of_router": true}))
}

fn hosts(rows: &[Value]) -> Value {
    json!({"schema": 1, "hosts": rows})
}

fn draining(rows: &[Value]) -> Value {
    json!({"schema": 1, "hosts": rows, "drained": false})
}

fn refused(status: u16, code: &str) -> (u16, Value) {
    (status, json!({"code": code, "message": "run `versionctl drain` on that host"}))
}

#[test]
fn hosts_shows_each_with_its_role_its_share_and_why_it_is_out() {
    let router = Router::answering(|_, _| (200, hosts(&[host("gpu-1", None, 2), host("gpu-2", of_router(), 0)])));
    let Ended { code, out, err } = router.run(&["hosts"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let has = |words: &[&str]| out.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["gpu-1", "gpu-1:8080", "answering", "ready", "50.0 %", "2 stream", "5 s"]), "{out}");
    assert!(has(&["gpu-2", "out", "router"]) && has(&["gpu-2: this router drains it [drained_here]"]), "{out}");
    let told: Value = serde_json::from_str(&router.run(&["hosts", "--json"]).out).unwrap();
    assert_eq!(told["hosts"][1]["id"], "gpu-2");
    let named = Ended::of(&versionctl(&["hosts", "--router", router.url()]).output().unwrap());
    assert_eq!(named.code, Some(0));
    assert_eq!(router.asked(), ["GET /v1/hosts", "GET /v1/hosts", "GET /v1/hosts"]);
}

#[test]
fn lookup_names_the_host_the_next_ones_and_why_others_are_out_and_fails_where_there_is_none() {
    let router = Router::answering(|_, path| {
        let mut report = json!({
            "schema": 1, "path": "/v2/sessions/7?x=1", "pool": "gpu", "key": "7", "version": "v2",
            "candidates": [{"id": "gpu-2", "address": "gpu-2:8080", "role": "ready"},
                           {"id": "gpu-1", "address": "gpu-1:8080", "role": "kept"}],
            "out": [{"id": "gpu-3", "address": "gpu-3:8080", "reason": {"code": "silent", "text": "it does not answer"}}],
            "alarms": [{"code": "panic", "text": "silence is not believed"}],
        });
        if path.ends_with("v9") {
            report["candidates"] = json!([]);
            report["refused"] = json!({"code": "unknown_version", "text": "no host has it"});
        }
        (200, report)
    });
    let Ended { code, out, err } = router.run(&["lookup", "/v2/sessions/7?x=1"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for line in ["pool     gpu", "key      7", "version  v2", "host     gpu-2  gpu-2:8080  ready"] {
        assert!(out.lines().any(|found| found == line), "{line}: {out}");
    }
    assert!(out.contains("next     gpu-1") && out.contains("out      gpu-3: it does not answer [silent]"), "{out}");
    assert!(out.contains("alarm    silence is not believed [panic]"), "{out}");

    let nobody = router.run(&["lookup", "/v9"]);
    assert_eq!((nobody.code, nobody.out.contains("gpu-3")), (Some(1), true));
    assert!(nobody.err.contains("no host has it (unknown_version)"), "{}", nobody.err);
    assert_eq!(router.asked(), ["GET /v1/lookup?path=%2Fv2%2Fsessions%2F7%3Fx%3D1", "GET /v1/lookup?path=%2Fv9"]);
}

#[test]
fn drain_of_a_host_waits_until_the_router_has_nothing_there() {
    let polls = AtomicU64::new(0);
    let router = Router::answering(move |method, _| match method {
        "PUT" => (200, hosts(&[host("gpu-1", of_router(), 2), host("gpu-2", None, 7)])),
        _ => {
            let left = 2_u64.saturating_sub(polls.fetch_add(1, Ordering::Relaxed));
            // What another host still has is not waited for.
            (200, draining(&[host("gpu-1", of_router(), left), host("gpu-3", of_router(), 9)]))
        }
    });
    let ended = router.run(&["drain", "gpu-1", "--wait"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    for expected in
        ["drained by this router, in flight: 2 stream, oldest 5 s, expected empty in 40 s", "1 stream", "nothing there"]
    {
        assert!(ended.out.contains(expected), "{}", ended.out);
    }
    let asked = router.asked();
    assert_eq!(asked[..2], ["PUT /v1/hosts/gpu-1/drain", "GET /drain/status"]);
    assert!(asked[2..].iter().all(|path| path == "GET /drain/status?wait=2000ms") && asked.len() == 4, "{asked:?}");
}

#[test]
fn drain_of_a_host_gives_up_is_taken_back_or_refused_with_an_exit_code_for_each() {
    let busy = Router::answering(|method, _| match method {
        "PUT" => (200, hosts(&[host("gpu-1", of_router(), 3)])),
        _ => (200, draining(&[host("gpu-1", of_router(), 3)])),
    });
    let timed_out = busy.run(&["drain", "gpu-1", "--wait", "--within", "300ms"]);
    assert_eq!((timed_out.code, timed_out.err.contains("3 stream")), (Some(3), true), "{timed_out:?}");

    let taken_back = Router::answering(|method, _| match method {
        "PUT" => (200, hosts(&[host("gpu-1", of_router(), 3)])),
        _ => (200, draining(&[])),
    });
    let ended = taken_back.run(&["drain", "gpu-1", "--wait"]);
    assert_eq!((ended.code, ended.err.contains("gpu-1 is not drained any more")), (Some(4), true));

    let there = Router::answering(|method, _| match method {
        "PUT" => refused(409, "drain_it_there"),
        _ => (200, draining(&[])),
    });
    let ended = there.run(&["drain", "gpu-1", "--wait"]);
    assert_eq!((ended.code, ended.err.contains("run `versionctl drain` on that host")), (Some(4), true));
}

#[test]
fn a_host_that_drains_by_its_own_word_is_waited_for_like_any_other() {
    let its_own = || Some(json!({"mode": "all", "since_ms": 9_000, "of_router": false}));
    let polls = AtomicU64::new(0);
    let router = Router::answering(move |method, _| match method {
        "PUT" => refused(409, "drain_it_there"),
        _ => {
            let left = 2_u64.saturating_sub(polls.fetch_add(1, Ordering::Relaxed));
            (200, draining(&[host("gpu-1", its_own(), left)]))
        }
    });
    let ended = router.run(&["drain", "gpu-1", "--wait"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert!(ended.out.contains("drained by its own word, in flight: 2 stream"), "{}", ended.out);
}

#[test]
fn undrain_says_what_the_host_is_now() {
    let router = Router::answering(|_, _| (200, hosts(&[host("gpu-1", None, 0), host("gpu-2", None, 0)])));
    let back = router.run(&["undrain", "gpu-1"]);
    assert_eq!((back.code, back.out.as_str()), (Some(0), "gpu-1: not drained any more, ready in gpu\n"));
    assert_eq!(router.asked(), ["DELETE /v1/hosts/gpu-1/drain"]);
}

#[test]
fn nobody_there_a_wrong_token_an_unknown_host_and_a_wrong_line_are_one_line_and_a_code_each() {
    let nobody = Ended::of(&versionctl(&["hosts", "--router", "http://127.0.0.1:1"]).output().unwrap());
    assert_eq!(nobody.code, Some(2));
    assert!(nobody.err.contains("cannot reach versiond-router on http://127.0.0.1:1"), "{}", nobody.err);
    assert!(nobody.err.contains("VERSIOND_ROUTER"), "{}", nobody.err);

    let guarded = Router::answering(|_, _| refused(401, "token"));
    let token = guarded.run(&["hosts"]);
    assert_eq!((token.code, token.err.contains("--token-file")), (Some(4), true), "{token:?}");

    let unknown = Router::answering(|_, _| (404, json!({"code": "unknown_host", "message": "no pool has gpu-9"})));
    let ended = unknown.run(&["drain", "gpu-9"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(4), "versionctl: refused: no pool has gpu-9 (unknown_host)\n"));

    for wrong in [&["drain", "--router", "http://127.0.0.1:8404"][..], &["lookup"], &["hosts", "--router", "gpu-1"]] {
        assert_eq!(versionctl(wrong).output().unwrap().status.code(), Some(64), "{wrong:?}");
    }
}

#[test]
fn a_daemons_token_is_never_sent_to_a_router() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{name}\n")).unwrap();
        path
    };
    let router = Router::answering(|_, _| (200, hosts(&[])));
    let asked = |set: &[(&str, &str)], args: &[&str]| {
        let mut command = router.command(args);
        for (variable, name) in set {
            command.env(variable, file(name));
        }
        assert!(command.output().unwrap().status.success(), "{args:?}");
        router.asked().pop().unwrap()
    };
    let daemons = ("VERSIOND_ADMIN_TOKEN_FILE", "of-the-daemon");
    assert_eq!(asked(&[daemons], &["hosts"]), "GET /v1/hosts");
    let routers = ("VERSIOND_ROUTER_TOKEN_FILE", "of-the-router");
    assert_eq!(asked(&[daemons, routers], &["hosts"]), "GET /v1/hosts [Bearer of-the-router]");
    let given = file("given").display().to_string();
    for args in [["--token-file", &given, "hosts"], ["hosts", "--token-file", &given]] {
        assert_eq!(asked(&[daemons, routers], &args), "GET /v1/hosts [Bearer given]");
    }
}

#[test]
fn a_router_in_the_environment_does_not_keep_this_host_from_being_drained() {
    let daemon = Daemon::answering(|_, _| (409, json!({"code": "host_leaving", "message": "the host is stopping"})));
    let ended = Ended::of(&daemon.command(&["drain"]).env("VERSIOND_ROUTER", "http://127.0.0.1:1").output().unwrap());
    assert_eq!((ended.code, ended.err.contains("host_leaving")), (Some(4), true));
}
