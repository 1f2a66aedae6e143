//! Short honest runs of the release builds: nothing is cut, every change is seen, every trial is refused.

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

/// F49, F50, F52, F53, P1, P4, P8, P9: hosts are drained, replaced, silent, killed, rolled and all cordoned, routers
/// are restarted.
#[test]
fn f49_f50_f52_f53_p1_p4_p8_p9_every_change_of_a_fleet_costs_only_what_a_killed_host_had() {
    let ended =
        common::run("versiond-demo-fleet", &["--json", "--short", "20", "--streams", "30", "--stream-max", "3000"]);
    let report = &ended.json;
    assert_eq!(ended.code, Some(0), "{report}\n{}", ended.stderr);
    for nothing in ["failed", "cut", "wrong_binary", "executed_twice", "executed_by_nobody", "moved_wrongly"] {
        assert_eq!(report[nothing], 0, "{nothing} in {report}");
    }
    let number = |key: &str| report[key].as_u64().unwrap();
    assert!(number("two_owners_ms") <= number("two_owners_bound_ms"), "{report}");
    assert!(number("requests") > 5_000 && number("streams") > 200 && number("executed_once") > 5_000, "{report}");
    // Had nothing been in flight there, nothing would have been shown of it; and without moves nothing of placement.
    assert!(number("killed") > 0, "{report}");
    let acts = report["acts"].as_array().unwrap();
    let moved = |what: &str| {
        let act = acts.iter().find(|act| act["what"].as_str().unwrap().contains(what));
        act.unwrap_or_else(|| panic!("{what} in {report}"))["moved"].as_u64().unwrap()
    };
    for goes in ["gpu-1 is drained", "gpu-2 is stopped", "gpu-3 is killed", "gpu-3 is started again"] {
        assert!(moved(goes) > 0, "{goes} in {report}");
    }
    for stays in ["router-1 is restarted", "router-2 is restarted", "rolled through all hosts"] {
        assert_eq!(moved(stays), 0, "{stays} in {report}");
    }
}
