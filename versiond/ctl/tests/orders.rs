//! The orders to a slot and the denied hashes: what each asks of the daemon, and what it says.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "of the fake daemon, only what orders need is used here")]
mod fake;

use fake::{Daemon, versionctl};
use serde_json::{Value, json};

fn status() -> Value {
    json!({
        "schema": 1, "version": "0.1.0", "host": "gpu-07", "boot": "b1", "state": "serving", "ready": true,
        "uptime_ms": 200_000, "isolation": {"processes": "group", "users": "none", "socket_ownership": "verified"},
        "catalog": {"source": "file:/c.json"}, "receipts": [],
        "slots": [
            {"service": "demo", "name": "v1", "ready": true, "generations": [], "reasons": [{"code": "held_by_operator"}]},
            {"service": "demo", "name": "v2", "ready": true, "generations": [], "reasons": []},
        ],
    })
}

#[test]
fn an_order_is_a_verb_with_its_options_as_the_body() {
    let daemon = Daemon::answering(|_, _| (200, status()));
    let sha = "ab".repeat(32);
    let slot = "demo/v1";
    for (line, asked) in [
        (vec!["approve", slot], r#"approve {"accept_downtime":false,"force_order":false}"#.to_owned()),
        (
            vec!["approve", slot, "--accept-downtime", "--force-order"],
            r#"approve {"accept_downtime":true,"force_order":true}"#.to_owned(),
        ),
        (vec!["hold", slot], "hold {}".to_owned()),
        (vec!["release", slot], "release {}".to_owned()),
        (vec!["rollback", slot, "--force"], r#"rollback {"force":true}"#.to_owned()),
        (vec!["pin", slot, &sha], format!(r#"pin {{"sha256":"{sha}"}}"#)),
        (vec!["pin", slot], "pin {}".to_owned()),
        (vec!["unpin", slot], "unpin {}".to_owned()),
        (vec!["retry", slot], "retry {}".to_owned()),
        (vec!["restart", slot], "restart {}".to_owned()),
        (vec!["supersede", slot], "supersede {}".to_owned()),
    ] {
        let ended = daemon.run(&line);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{line:?}");
        assert_eq!(*daemon.asked().last().unwrap(), format!("POST /v1/services/demo/versions/v1/{asked}"));
        // Of the slot alone.
        assert!(ended.out.contains("[held_by_operator]") && !ended.out.contains("v2"), "{}", ended.out);
    }
}

#[test]
fn a_refused_order_has_its_exit_code_and_its_reason() {
    let refusal = json!({"code": "rollback_unsafe", "message": "going back is not known to be safe: data 3"});
    let ended = Daemon::answering(move |_, _| (409, refusal.clone())).run(&["rollback", "demo/v1"]);
    assert_eq!(ended.code, Some(4));
    assert!(ended.err.contains("data 3 (rollback_unsafe)"), "{}", ended.err);
}

#[test]
fn denied_hashes_are_listed_by_who_denies_them() {
    let (ours, theirs) = ("ab".repeat(32), "cd".repeat(32));
    let list = json!({"operator": [ours], "catalog": [theirs]});
    let daemon = Daemon::answering(move |_, _| (200, list.clone()));
    for line in [vec!["deny"], vec!["deny", &ours], vec!["allow", &ours]] {
        let out = daemon.run(&line).out;
        assert!(out.contains(&format!("{ours}  denied by the operator")), "{out}");
        assert!(out.contains(&format!("{theirs}  denied by the catalog")), "{out}");
    }
    let path = format!("/v1/deny/{ours}");
    assert_eq!(daemon.asked(), ["GET /v1/deny".to_owned(), format!("POST {path}"), format!("DELETE {path}")]);
}

#[test]
fn logs_show_every_line_with_its_generation_and_what_is_missing() {
    let line = |text: &str, dropped: u64| json!({"at_ms": 1, "generation": 3, "stream": "stderr", "text": text, "dropped": dropped});
    let lines = format!("{}\n{}\n", line("out of memory", 0), line("bye", 7));
    let daemon = Daemon::answering(move |_, _| (200, json!(lines)));
    let told = daemon.run(&["logs", "demo/v1", "--tail", "5", "--generation", "3"]);
    assert_eq!(told.out, "g3 stderr  out of memory\ng3 7 lines are missing\ng3 stderr  bye\n", "{}", told.err);
    assert_eq!(daemon.asked(), ["GET /v1/services/demo/versions/v1/logs?follow=0&tail=5&generation=3"]);
}

#[test]
fn a_plan_names_what_it_waits_for_and_a_reload_what_has_changed() {
    let daemon = Daemon::answering(|_, path| match path {
        "/v1/reload" => {
            (200, json!({"added": ["b"], "removed": [], "changed": ["a"], "restart_needed": ["host.listen"]}))
        }
        _ => {
            let reason = json!({"code": "held_by_operator", "text": "an operator holds the slot as it is"});
            let slot = json!({"service": "demo", "name": "v1", "serving": "a".repeat(64), "desired": "b".repeat(64),
                              "strategy": "hold", "away_ms": 2_000, "blocked_by": [reason]});
            (200, json!({"schema": 1, "slots": [slot]}))
        }
    });
    assert_eq!(
        daemon.run(&["plan", "demo/v1"]).out,
        "demo/v1: aaaaaaaa -> bbbbbbbb, requests wait for about 2 s\n  waits: an operator holds the slot as it is [held_by_operator]\n"
    );
    assert_eq!(
        daemon.run(&["reload"]).out,
        "added: b\nchanged: a\nin force from the next start of the daemon: host.listen\n"
    );
    assert_eq!(daemon.asked(), ["GET /v1/plan?slot=demo/v1", "POST /v1/reload"]);
}

#[test]
fn a_typing_error_is_refused_with_what_was_probably_meant() {
    let said = |line: &[&str]| String::from_utf8(versionctl(line).output().unwrap().stderr).unwrap();
    assert!(said(&["rolback", "demo/v1"]).contains("'rollback'"), "{}", said(&["rolback", "demo/v1"]));
    assert!(said(&["status", "--jsn"]).contains("'--json'"));
    assert!(said(&["pin", "demo/v1", "abc"]).contains("64 hexadecimal digits"));
    let help = String::from_utf8(versionctl(&["--help"]).output().unwrap().stdout).unwrap();
    for (code, meaning) in versionctl::exit::TABLE {
        assert!(help.contains(&format!("  {code:<3} {meaning}")), "{help}");
    }
}
