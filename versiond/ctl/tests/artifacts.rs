//! `versionctl fetch`, `artifacts` and `gc`: what each asks of the daemon, what it shows, how it ends.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "of the fake daemon, only what artifacts need is used here")]
mod fake;

use std::sync::atomic::{AtomicUsize, Ordering};

use fake::Daemon;
use serde_json::{Value, json};

fn sha() -> String {
    "ab".repeat(32)
}

fn artifact(state: &str, more: Value) -> Value {
    let mut all = json!({"sha256": sha(), "state": state, "size": 0, "used": []});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// A daemon that comes further each time it is asked.
fn fetching(way: Vec<Value>) -> Daemon {
    let asked = AtomicUsize::new(0);
    Daemon::answering(move |method, _| {
        if method == "POST" {
            return (200, artifact("absent", json!({})));
        }
        let at = asked.fetch_add(1, Ordering::Relaxed).min(way.len() - 1);
        (200, json!({"schema": 1, "artifacts": [way[at]]}))
    })
}

#[test]
fn a_fetch_shows_its_way_as_lines_and_ends_when_it_is_there() {
    let part = |received: u64| artifact("fetching", json!({"received": received, "total": 4 << 20}));
    let daemon = fetching(vec![
        artifact("queued", json!({})),
        part(0),
        part(1 << 20),
        part(1 << 20),
        part(3 << 20),
        artifact("unpacking", json!({"received": 4 << 20, "total": 4 << 20})),
        artifact("installed", json!({"size": 5 << 20})),
    ]);
    let ended = daemon.run(&["fetch", "demo/v1"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(daemon.asked()[0], r#"POST /v1/artifacts {"slot":"demo/v1"}"#);
    let lines: Vec<&str> = ended.err.lines().map(|line| line.strip_prefix("abababababab ").unwrap()).collect();
    let way = ["fetching 0 B of 4 MiB", "fetching 1 MiB of 4 MiB", "fetching 3 MiB of 4 MiB"];
    assert_eq!(lines, [&["queued"], &way[..], &["unpacking 4 MiB of 4 MiB", "installed"]].concat());
    assert_eq!(ended.out, format!("{} is in the store\n", sha()));
}

#[test]
fn a_fetch_that_fails_says_why_and_one_without_a_hash_is_not_asked_for() {
    let reason = json!({"code": "hash_mismatch", "expected": sha(), "found": "cd".repeat(32), "retry_in_ms": 60_000});
    let daemon = fetching(vec![artifact("failed", json!({"reason": reason}))]);
    let address = ["fetch", "https://a.example/x", "--sha256", &sha(), "--entry", "demo"];
    let ended = daemon.run(&address);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("the bytes that came are cdcdcdcd") && ended.err.contains("(hash_mismatch)"),
        "{}",
        ended.err
    );
    let asked = format!(r#"POST /v1/artifacts {{"url":"https://a.example/x","sha256":"{}","entry":"demo"}}"#, sha());
    assert_eq!(daemon.asked()[0], asked);
    for wrong in [&["fetch", "https://a.example/x"][..], &["fetch", "demo/v1", "--sha256", &sha()], &["fetch", "demo"]]
    {
        let ended = daemon.run(wrong);
        assert_eq!((ended.code, ended.out.as_str()), (Some(64), ""), "{wrong:?}: {}", ended.err);
    }
}

#[test]
fn gc_says_what_goes_and_why_the_rest_stays() {
    let used = json!({"because": "use", "service": "demo", "name": "v1", "how": "draining"});
    let report = move |dry_run: bool| {
        json!({
            "schema": 1, "dry_run": dry_run,
            "removed": [{"sha256": sha(), "bytes": 3 << 20, "why": "unused"}],
            "kept": [
                {"sha256": "cd".repeat(32), "bytes": 1, "why": [used, {"because": "used_elsewhere"}]},
                {"sha256": "ef".repeat(32), "bytes": 1, "why": [{"because": "young", "left_ms": 7_200_000}]},
            ],
        })
    };
    let daemon = Daemon::answering(move |_, path| (200, report(path.contains("dry_run=true"))));
    let ended = daemon.run(&["gc", "--dry-run"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    for said in ["would be removed", "demo/v1 draining, another supervisor", "left alone for 2 h more", "3 MiB; 2 kept"]
    {
        assert!(ended.out.contains(said), "{said}: {}", ended.out);
    }
    assert!(!daemon.run(&["gc"]).out.contains("would"));
    assert_eq!(daemon.asked(), ["POST /v1/artifacts/gc?dry_run=true", "POST /v1/artifacts/gc"]);
}

#[test]
fn artifacts_are_listed_with_their_uses_and_failures() {
    let reason = json!({"code": "fetch_failed", "sha256": sha(), "detail": "no route", "retry_in_ms": 1_000});
    let used = json!([{"service": "demo", "name": "v1", "how": "live"}]);
    let list = json!({"schema": 1, "artifacts": [
        artifact("installed", json!({"size": 2 << 20, "used": used})),
        artifact("failed", json!({"received": 10, "total": 20, "reason": reason})),
    ]});
    let ended = Daemon::answering(move |_, _| (200, list.clone())).run(&["artifacts"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    for said in ["2 MiB", "demo/v1 live", "10 B of 20 B", "no route", "[fetch_failed]"] {
        assert!(ended.out.contains(said), "{said}: {}", ended.out);
    }
}

/// The daemon's program does it: beside this one there is none here, nor on this path.
#[test]
fn import_is_handed_over_to_the_daemons_program() {
    let folder = tempfile::tempdir().unwrap();
    let run = |path: &std::path::Path| {
        let copy = folder.path().join("versionctl");
        std::fs::copy(env!("CARGO_BIN_EXE_versionctl"), &copy).unwrap();
        let mut command = std::process::Command::new(copy);
        let command = command.args(["import-upstream", "/opt/versiond", "--dry-run"]).env("PATH", path);
        fake::Ended::of(&command.output().unwrap())
    };
    let none = run(folder.path());
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("versiond cannot be run"), "{}", none.err);
    let program = folder.path().join("versiond");
    std::os::unix::fs::symlink("/bin/echo", &program).unwrap();
    let handed = run(folder.path());
    assert_eq!((handed.code, handed.out.as_str()), (Some(0), "import-upstream /opt/versiond --dry-run\n"));
}
