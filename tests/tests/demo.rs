//! A short honest run of the release build: nothing is cut, every swap is seen, every trial is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use serde_json::Value;

// F01, F02, F03, F17.
#[test]
fn an_honest_run_cuts_nothing() {
    let ended =
        common::demo(&["--json", "--swaps", "8", "--streams", "100", "--stream-min", "1000", "--stream-max", "3000"]);
    let report = &ended.json;
    assert_eq!(ended.code, Some(0), "{report}\n{}", ended.stderr);
    assert_eq!((&report["failed"], &report["cut"]), (&0.into(), &0.into()), "{report}");
    assert_eq!((&report["swaps"], &report["wrong_binary"]), (&8.into(), &false.into()), "{report}");
    let at_least = |key: &str, least: u64| assert!(report[key].as_u64() >= Some(least), "{key} in {report}");
    at_least("alive_across_swaps_min", 20);
    at_least("requests", 500);
    at_least("streams", 200);
    at_least("uploads", 8);
    at_least("websockets", 8);
    at_least("not_found_after_removal", 1);
    let reason = |what: &str| {
        let trials = report["trials"].as_array().unwrap();
        trials.iter().find(|trial| trial["what"] == what).map(|trial| trial["reason"].clone())
    };
    assert_eq!(reason("wrong hash"), Some(Value::from("hash_mismatch")));
    assert_eq!(reason("never ready"), Some(Value::from("never_ready")));
}

// F40.
#[test]
fn a_killed_supervisor_leaves_nothing_over_and_reaches_the_same_state() {
    let args = ["--json", "--kill", "3", "--swaps", "8", "--streams", "100", "--stream-min", "1000"];
    let ended = common::demo(&[&args[..], &["--stream-max", "3000"]].concat());
    let report = &ended.json;
    assert_eq!(ended.code, Some(0), "{report}\n{}", ended.stderr);
    let kills = report["kills"].as_array().unwrap();
    assert_eq!(kills.len(), 3);
    for kill in kills {
        assert_eq!(kill["wrong"], Value::Array(Vec::new()), "{kill}");
        assert!(kill["settled_ms"].is_u64(), "{kill}");
    }
}
