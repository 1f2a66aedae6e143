//! Every guard is left out once, and the demo must notice: else its silence means nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::process::Command;

const LOAD: [&str; 9] = ["--json", "--swaps", "4", "--streams", "100", "--stream-min", "1000", "--stream-max", "3000"];

fn sabotage(guard: &str) -> serde_json::Value {
    let versiond = common::target().join("faults/release/versiond");
    assert!(versiond.is_file(), "{} is missing: `make faults` builds it", versiond.display());
    let versiond = versiond.to_str().unwrap();
    let ended = common::demo(&[&LOAD[..], &["--sabotage", guard, "--versiond", versiond]].concat());
    assert_eq!(ended.code, Some(1), "{}\n{}", ended.json, ended.stderr);
    assert_eq!(ended.json["sabotage"], guard);
    ended.json
}

fn broken(report: &serde_json::Value) -> u64 {
    report["failed"].as_u64().unwrap() + report["cut"].as_u64().unwrap()
}

// F02, F16.
#[test]
fn retiring_before_publishing_is_noticed() {
    let report = sabotage("retire-first");
    assert!(broken(&report) > 0, "{report}");
}

// F10.
#[test]
fn killing_the_old_generation_is_noticed() {
    let report = sabotage("no-drain");
    assert!(report["cut"].as_u64() > Some(0), "{report}");
}

// F01.
#[test]
fn a_drain_that_does_not_look_at_leases_is_noticed() {
    let report = sabotage("no-lease");
    assert!(broken(&report) > 0, "{report}");
}

#[test]
fn an_artifact_of_another_hash_is_noticed_by_the_build_that_answers() {
    let report = sabotage("no-hash");
    assert_eq!(report["wrong_binary"], true, "{report}");
}

#[test]
fn release_has_no_faults() {
    let versiond = common::release("versiond");
    let version = Command::new(&versiond).arg("--version").output().unwrap();
    let line = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(line.starts_with("versiond ") && !line.contains("faults"), "{line}");
    let refused =
        Command::new(&versiond).args(["run", "--config", "/dev/null", "--fault", "no-hash"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(64), "an unknown option is a usage error");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--fault"));
    let ended = common::demo(&["--json", "--sabotage", "no-hash", "--versiond", versiond.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("make faults"), "{}", ended.stderr);
}
