//! The numbered failure modes that the slot machine keeps, each as the shortest story that shows it.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

#[allow(dead_code, reason = "shared by several")]
mod script;

use std::time::Duration;

use script::told::Told;
use script::{Played, Script};
use supervisor_protocol::admin::{DrainOutcome, Phase};
use supervisor_protocol::{Generation, StreamClass, Tick};
use versiond_core::slot::{Absent, Step};
use versiond_core::timings::Timings;

/// `a` serves as g1 since 1 s, and states what it shares.
fn a_serves(state: &str) -> Told {
    Told::story(&format!("want a\nfetched g1\ndescribed g1 {state}\nlaunched g1\nt=1s probe g1 ready"))
}

/// `b` has taken its place as g2 at 10 s, and g1 still has that.
fn b_serves(leases: &str) -> Told {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nfetched g2\ndescribed g2 shared\nlaunched g2\nprobe g2 ready");
    told.then(&format!("leases g1 {leases}"));
    told
}

fn at(seconds: u64) -> Tick {
    Tick::ZERO.after(Duration::from_secs(seconds))
}

const G1: Generation = Generation(1);
const G2: Generation = Generation(2);
const G3: Generation = Generation(3);

#[test]
fn f01_the_child_is_told_to_drain_only_when_its_leases_are_counted_and_none() {
    let mut told = b_serves("request=1");
    assert_eq!(told.phase(1), Some(Phase::Retired));
    assert!(told.then("t=11s leases g1").did(&Step::DrainChild(G1)));

    let mut told = a_serves("shared");
    told.then("leases g1\nt=10s want nothing");
    assert_eq!(told.phase(1), Some(Phase::Retired), "a count from before it was retired proves nothing");
}

// F03: what the machine shows as serving is what the shell records before it carries the step out.
#[test]
fn f02_f03_a_swap_is_one_step_and_something_serves_after_every_line_of_it() {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nfetched g2\ndescribed g2 shared\nlaunched g2\nprobe g2 unready\nprobe g2 ready");
    for Played { line, slot, .. } in &told.played {
        assert!(slot.serving().is_some(), "nothing serves after `{line}`");
    }
    assert_eq!(told.end().steps, [Step::Publish { new: G2, old: Some(G1) }]);
    assert_eq!((told.phase(2), told.phase(1)), (Some(Phase::Serving), Some(Phase::Retired)));
    assert!(!told.steps().iter().any(|step| matches!(step, Step::Withdraw(..))));
}

#[test]
fn f05_a_candidate_that_dies_before_it_is_published_changes_nothing() {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nfetched g2\ndescribed g2 shared\nlaunched g2\nexit g2 code=1\nprobe g2 ready");
    assert_eq!((told.serving(), told.phase(2)), (Some(1), None));
    assert!(!told.steps().iter().any(|step| matches!(step, Step::Publish { .. })));
    assert_eq!(told.why(), ["start_failed"]);
}

#[test]
fn f06_the_old_one_dies_and_the_candidate_is_published_as_soon_as_it_is_ready() {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nfetched g2\ndescribed g2 shared\nlaunched g2\nt=11s exit g1 signal=9");
    assert!(told.did(&Step::Withdraw(G1, Absent::Hold { until: None })));
    assert_eq!(told.then("t=11s probe g2 ready").end().steps, [Step::Publish { new: G2, old: None }]);
}

#[test]
fn f06_a_crash_is_no_maintenance_window_until_it_has_come_three_times() {
    let mut told = a_serves("local");
    told.then("t=10s want b\nfetched g2\ndescribed g2 local\nt=11s exit g1 signal=9");
    assert_eq!((told.phase(2), told.why()), (Some(Phase::Preflight), vec!["needs_window", "crash_backoff"]));
    // What served comes back after its pause, and the replacement waits for it again.
    told.then("wake");
    assert_eq!((told.began(3), told.phase(2)), (Some('a'), None));
    told.then("fetched g3\ndescribed g3 local\nlaunched g3\nprobe g3 ready\nfetched g4\ndescribed g4 local");
    assert_eq!((told.serving(), told.why()), (Some(3), vec!["quiescing"]));

    told.then("exit g3 signal=9\nwake\nfetched g5\ndescribed g5 local\nlaunched g5\nprobe g5 ready");
    told.then("fetched g6\ndescribed g6 local\nexit g5 signal=9");
    assert_eq!(told.phase(6), Some(Phase::Starting), "it has failed three times in a row");
}

#[test]
fn f16_what_served_comes_back_while_its_replacement_is_still_being_fetched() {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nt=11s exit g1 signal=9\nwake");
    assert_eq!((told.began(3), told.phase(2)), (Some('a'), None));
    told.then("fetched g3\ndescribed g3 shared\nlaunched g3\nprobe g3 ready");
    assert_eq!((told.serving(), told.phase(4)), (Some(3), Some(Phase::Fetching)));
}

#[test]
fn f68_what_served_does_not_come_back_on_data_that_another_build_may_have_migrated() {
    let mut told = Told { script: Script::with(Timings::default(), Some("a")), played: Vec::new() };
    told.then("want b\nfetch-failed g1\nfetched g2\ndescribed g2 local");
    assert_eq!(told.why(), ["needs_window", "fetch_failed"], "it waits for what served to come back first");
    told.then("wake\nfetch-failed g3\nwake\nfetch-failed g5\nfetched g6\ndescribed g6 local");
    assert_eq!(told.phase(6), Some(Phase::Starting), "it has failed three times in a row");
    told.then("launched g6\nexit g6 code=1\nwake");
    assert_eq!((told.began(7), told.why()), (Some('b'), vec!["fetching"]));
}

#[test]
fn p6_a_denied_hash_neither_serves_on_nor_comes_back() {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nfetch-failed g2\ndeny a");
    assert!(told.did(&Step::Withdraw(G1, Absent::Hold { until: Some(at(11)) })));
    told.then("leases g1\nchild g1 0\nexit g1 code=0\nwake");
    assert_eq!((told.began(3), told.serving()), (Some('b'), None));

    let mut told = Told { script: Script::with(Timings::default(), Some("a")), played: Vec::new() };
    told.then("deny a\nwant b");
    assert_eq!(told.began(1), Some('b'));
}

#[test]
fn f17_a_corrected_address_replaces_a_download_that_never_ends() {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nt=60s want b elsewhere");
    assert_eq!((told.phase(2), told.began(3)), (None, Some('b')));
    told.then("want b elsewhere\nfetched g3\nwant b");
    assert_eq!(told.phase(3), Some(Phase::Preflight), "bytes that are here are those bytes");
}

#[test]
fn f06_a_host_that_stops_ends_the_candidate() {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nfetched g2\ndescribed g2 shared\nlaunched g2\nwant stop 60s");
    assert_eq!((told.phase(1), told.phase(2)), (Some(Phase::Retired), Some(Phase::Terminating)));
}

#[test]
fn f08_old_and_new_overlap_only_when_both_may_share() {
    for (old, new, starts) in [
        ("none", "none", true),
        ("none", "shared", true),
        ("shared", "none", true),
        ("shared", "shared", true),
        ("local", "shared", false),
        ("shared", "local", false),
        ("local", "none", false),
        ("none", "local", false),
        ("local", "local", false),
    ] {
        let mut told = a_serves(old);
        told.then(&format!("t=10s want b\nfetched g2\ndescribed g2 {new}"));
        assert_eq!(told.did(&Step::Start(G2)), starts, "{old} then {new}");
        assert_eq!(told.why().contains(&"quiescing"), !starts, "{old} then {new}");
        assert_eq!(told.serving(), Some(1));
    }
}

#[test]
fn f09_a_replacement_that_cannot_describe_itself_is_found_before_the_old_one_is_touched() {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nfetched g2\nundescribed g2");
    assert_eq!((told.serving(), told.why()), (Some(1), vec!["preflight_failed"]));
    assert_eq!(told.end().steps, [Step::Forget(G2, None)]);
}

#[test]
fn f11_a_name_that_comes_back_while_it_drains_waits_for_the_data_directory() {
    let mut told = a_serves("local");
    told.then("t=10s want nothing\nleases g1\nchild g1 1\nt=20s want a\nfetched g2\ndescribed g2 local");
    assert_eq!(told.why(), ["data_directory_busy", "draining"]);
    told.then("t=30s child g1 0");
    assert_eq!((told.phase(1), told.phase(2)), (Some(Phase::Terminating), Some(Phase::Preflight)));
    told.then("exit g1 code=0");
    assert!(told.did(&Step::Start(G2)));
}

#[test]
fn f11_a_download_that_ends_after_the_removal_starts_nothing() {
    let mut told = Told::story("want a\nwant nothing\nfetched g1\ndescribed g1 none");
    assert_eq!(told.then("tick").steps(), Vec::<&Step>::new());
    assert!(told.slot().is_gone());
}

#[test]
fn f12_the_same_hash_from_elsewhere_changes_nothing() {
    let mut told = a_serves("shared");
    assert!(told.then("t=10s want a elsewhere\ntick").steps().is_empty());
    assert_eq!((told.serving(), told.why()), (Some(1), vec![]));
}

#[test]
fn f13_rapid_changes_wait_for_the_one_that_drains() {
    let mut told = b_serves("stream=1");
    told.then(
        "t=20s want c\nfetched g3\ndescribed g3 shared\nwant d\nfetched g4\ndescribed g4 shared\nwant e\nfetched g5",
    );
    told.then("described g5 shared");
    assert_eq!((told.serving(), told.why()), (Some(2), vec!["predecessor_present", "baking", "draining"]));
    assert_eq!(told.slot().generations().filter(|generation| generation.has_process()).count(), 2);
    told.then("t=30s leases g1\nchild g1 0\nexit g1 code=0");
    assert!(told.did(&Step::Start(Generation(5))));
}

// F15: a bad release is not tried without pause. F16: meanwhile the name is approved, and so no 404.
#[test]
fn f15_f16_crashes_in_a_row_wait_longer_each_time_up_to_a_minute_and_requests_are_held() {
    let mut told = a_serves("none");
    let mut number = 1;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        let crashed = told.end().now;
        told.then(&format!("exit g{number} code=1"));
        let until = crashed.after(Duration::from_secs(pause));
        assert_eq!(told.wake(), Some(until));
        assert!(told.did(&Step::Withdraw(Generation(number), Absent::Hold { until: Some(until) })));
        number += 1;
        let again =
            format!("wake\nfetched g{number}\ndescribed g{number} none\nlaunched g{number}\nprobe g{number} ready");
        told.then(&again);
        assert_eq!(told.serving(), Some(number));
    }
    let served_since = told.end().now;
    let (minute, over) = (served_since.after(Duration::from_secs(60)).0, served_since.after(Duration::from_secs(61)).0);
    let mut early = Told { script: told.script.clone(), played: Vec::new() };
    early.then(&format!("t={minute}ms exit g{number} code=1"));
    assert_eq!(early.wake(), Some(Tick(minute + 60_000)), "it has not served for more than a minute");
    told.then(&format!("t={over}ms exit g{number} code=1"));
    assert_eq!(told.wake(), Some(Tick(over + 1_000)), "it has, and starts anew");
}

#[test]
fn f15_a_crash_does_not_wait_for_the_drain_of_the_one_before() {
    let mut told = b_serves("stream=1");
    told.then(
        "t=80s tick\nt=90s exit g2 signal=11\nwake\nfetched g3\ndescribed g3 shared\nlaunched g3\nprobe g3 ready",
    );
    assert_eq!((told.serving(), told.phase(1)), (Some(3), Some(Phase::Retired)));
    assert!(told.did(&Step::Publish { new: G3, old: None }));
}

#[test]
fn f15_what_served_comes_back_from_a_crash_while_its_replacement_cannot_be_had() {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nwrong-hash g2\nt=10500ms exit g1 signal=9");
    assert_eq!(told.end().steps[0], Step::Withdraw(G1, Absent::Hold { until: Some(at(11)) }));
    // The replacement is tried first, since its pause is over first; then what served.
    told.then("wake\nwrong-hash g3\nwake");
    let Step::Fetch(number, of) = &told.end().steps[0] else { panic!("{:?}", told.end().steps) };
    assert_eq!((number.0, of.sha256.to_string().starts_with("aa")), (4, true));
    told.then("fetched g4\ndescribed g4 shared\nlaunched g4\nprobe g4 ready");
    assert_eq!((told.serving(), told.why()), (Some(4), vec!["hash_mismatch"]));
}

#[test]
fn f40_after_a_restart_what_served_comes_back_before_anything_new_is_tried() {
    let restarted = || Told { script: Script::with(Timings::default(), Some("a")), played: Vec::new() };
    let mut told = restarted();
    told.then("want b\nfetched g1\ndescribed g1 shared\nlaunched g1\nprobe g1 ready");
    assert_eq!((told.serving(), told.phase(2)), (Some(1), Some(Phase::Fetching)));
    assert!(told.slot().serving().unwrap().sha256().to_string().starts_with("aa"));
    told.then("fetched g2\ndescribed g2 shared\nlaunched g2\nprobe g2 ready");
    assert_eq!(told.end().steps, [Step::Publish { new: G2, old: Some(G1) }]);

    // It can no longer be started: what is wanted is tried without it.
    let mut told = restarted();
    told.then("want b\nfetch-failed g1\nfetched g2\ndescribed g2 shared\nlaunched g2\nprobe g2 ready");
    assert_eq!(told.serving(), Some(2));
    assert!(told.slot().serving().unwrap().sha256().to_string().starts_with("bb"));

    // Its name was removed meanwhile: nothing of it comes back.
    let mut told = restarted();
    told.then("want nothing\nwant b");
    assert!(matches!(&told.end().steps[..], [Step::Fetch(_, of), ..] if of.sha256.to_string().starts_with("bb")));
}

#[test]
fn f17_a_step_that_takes_for_ever_holds_up_neither_a_removal_nor_the_corrected_catalog() {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nwant c");
    assert_eq!(told.end().steps[0], Step::Forget(G2, None));
    assert!(matches!(told.end().steps[1], Step::Fetch(G3, _)));
    told.then("want nothing");
    assert_eq!(told.end().steps, [Step::Forget(G3, None), Step::Withdraw(G1, Absent::NotFound)]);
}

#[test]
fn f18_a_failed_swap_is_tried_again_after_its_pause_and_not_before() {
    let mut told = a_serves("shared");
    told.then("t=10s want b\nfetch-failed g2\nt=10500ms want b\ntick");
    assert!(!told.steps()[1..].iter().any(|step| matches!(step, Step::Fetch(..))));
    assert_eq!((told.wake(), told.why()), (Some(at(11)), vec!["fetch_failed"]));
    assert!(matches!(told.then("wake").end().steps[..], [Step::Fetch(G3, _)]));
}

#[test]
fn f19_a_slow_start_that_says_so_goes_on_up_to_the_limit() {
    let mut told = Told::story("want a\nfetched g1\ndescribed g1 none\nlaunched g1");
    for seconds in (59..1_920).step_by(59) {
        told.then(&format!("t={seconds}s probe g1 initializing\ntick"));
        assert_eq!(told.phase(1), Some(Phase::Warming));
        assert_eq!(told.wake(), Some(at(seconds + 60).min(at(1_920))));
    }
    told.then("t=1919s probe g1 initializing\nwake");
    assert_eq!((told.phase(1), told.end().now), (Some(Phase::Terminating), at(1_920)));
    assert_eq!(told.why(), ["never_ready"]);
}

#[test]
fn f20_silence_does_not_extend_the_window() {
    let mut told = Told::story("want a\nfetched g1\ndescribed g1 none\nlaunched g1\nt=59s probe g1 unready");
    assert_eq!(told.wake(), Some(at(60)));
    assert_eq!(told.then("wake").end().steps[0], Step::Terminate(G1));
    assert!(matches!(told.then("wake").end().steps[0], Step::Fetch(G2, _)));
    assert_eq!(told.then("wake").end().steps, [Step::Kill(G1)]);
}

#[test]
fn f21_an_exit_during_the_wait_is_noticed_at_once() {
    let mut told = Told::story("want a\nfetched g1\ndescribed g1 none\nlaunched g1\nt=2s exit g1 code=1");
    assert_eq!((told.phase(1), told.why(), told.wake()), (None, vec!["start_failed"], Some(at(3))));
    assert!(matches!(told.then("wake").steps()[0], Step::Fetch(G2, _)));
}

#[test]
fn f22_one_lost_probe_is_none_two_turn_the_verdict_and_two_turn_it_back() {
    let mut told = a_serves("shared");
    for (probe, ready) in [
        ("unready", true),
        ("ready", true),
        ("unready", true),
        ("unready", false),
        ("ready", false),
        ("unready", false),
        ("ready", false),
        ("ready", true),
    ] {
        told.then(&format!("probe g1 {probe}"));
        assert_eq!(told.slot().serving().unwrap().is_live(), ready, "after {probe}");
        assert_eq!(told.why(), if ready { vec![] } else { vec!["unready"] }, "after {probe}");
        assert!(told.steps().is_empty(), "its requests go on");
    }
}

#[test]
fn f22_an_answer_that_is_too_old_counts_as_none_until_there_are_two_new_ones() {
    let mut told = Told { script: Script::with(Timings::default(), None), played: Vec::new() };
    told.then("want a\nfetched g1\ndescribed g1 shared\nlaunched g1\nprobe g1 ready\nt=4s probe g1 ready");
    assert_eq!(told.wake(), Some(at(9)));
    for (line, ready) in [
        ("t=8s tick", true),
        ("t=9s tick", false),
        ("t=16s probe g1 ready", false),
        ("probe g1 ready", true),
        ("t=20s probe g1 unready", true),
        ("t=24s tick", true),
        ("t=25s tick", false),
    ] {
        told.then(line);
        assert_eq!(told.slot().serving().unwrap().is_live(), ready, "after {line}");
        assert!(told.steps().is_empty(), "its requests go on");
    }
    assert_eq!(told.wake(), None);
}

#[test]
fn f23_late_answers_of_a_dead_attempt_do_not_touch_the_next() {
    let mut told =
        Told::story("want a\nfetched g1\ndescribed g1 none\nlaunched g1\nexit g1 code=1\nt=1s tick\nfetched g2");
    let before = told.slot().generations().cloned().collect::<Vec<_>>();
    told.then("launched g1\nprobe g1 ready\nexit g1 code=1\nfetch-failed g2\nnot-launched g2");
    assert!(told.steps().is_empty());
    assert_eq!(told.slot().generations().cloned().collect::<Vec<_>>(), before);
}

#[test]
fn f24_what_was_removed_during_its_backoff_does_not_start_after_it() {
    let mut told = a_serves("none");
    told.then("t=10s exit g1 code=1\nt=10500ms want nothing");
    assert_eq!(told.wake(), None);
    assert!(told.then("t=11s tick\nt=60s tick").steps().is_empty());
    assert!(told.slot().is_gone());
}

// F30: nothing is made after the stop. F31: what was being made does not come to serve.
#[test]
fn f30_f31_nothing_starts_or_serves_once_the_host_stops() {
    let mut told = Told::story("want a\nfetched g1\ndescribed g1 none\nwant stop 60s");
    assert!(told.did(&Step::Terminate(G1)), "also while it is being made");
    told.then("launched g1\nprobe g1 ready");
    assert!(told.steps().is_empty());
    assert_eq!((told.serving(), told.phase(1)), (None, Some(Phase::Terminating)));

    let mut told = b_serves("stream=1");
    told.then("t=20s want c\nfetched g3\ndescribed g3 shared\nwant stop 60s");
    assert!(told.did(&Step::Forget(G3, None)), "what waited for the predecessor");
    told.then("leases g1\nchild g1 0\nexit g1 code=0\nleases g2\nchild g2 0\nexit g2 code=0\nt=120s tick");
    assert!(!told.steps().iter().any(|step| matches!(step, Step::Fetch(..) | Step::Start(_) | Step::Publish { .. })));
    assert!(told.slot().is_gone());
}

#[test]
fn f35_force_kills_what_is_left_and_still_waits_for_every_exit() {
    let mut told = b_serves("stream=1");
    told.then("t=20s want stop 600s\nleases g2 stream=1\nwant stop 600s");
    assert!(!told.steps().iter().any(|step| matches!(step, Step::Terminate(_) | Step::Kill(_))), "a second stop");
    told.then("t=30s want force");
    assert_eq!(told.end().steps, [Step::Kill(G1), Step::Kill(G2)]);
    told.then("t=31s exit g1 signal=9");
    assert!(!told.slot().is_gone());
    let Some(Step::Forget(G1, Some(end))) = told.end().steps.first() else { panic!("{:?}", told.end().steps) };
    assert_eq!(end.outcome, DrainOutcome::Forced);
    assert!(told.then("exit g2 signal=9").slot().is_gone());
}

#[test]
fn f35_force_ends_what_is_being_made() {
    let mut told = Told::story("want a\nfetched g1\ndescribed g1 none\nwant force");
    assert_eq!(told.end().steps[..2], [Step::Terminate(G1), Step::Kill(G1)]);
    assert!(!told.slot().is_gone());
    assert!(told.then("not-launched g1").slot().is_gone());
}

#[test]
fn f71_an_idle_connection_is_cut_at_the_deadline_of_its_class_and_the_fix_goes_on() {
    let mut told = b_serves("upgrade=1 request=1");
    told.then("t=20s want c\nfetched g3\ndescribed g3 shared");
    assert_eq!((told.why()[0], told.wake()), ("predecessor_present", Some(at(70))));
    told.then("wake");
    assert_eq!(told.wake(), Some(at(130)), "its successor has served its trial out");
    told.then("wake\nleases g1 upgrade=1");
    assert_eq!(told.steps(), [&Step::Cut(G1, StreamClass::Request)]);
    told.then("wake");
    assert_eq!((told.end().now, &told.end().steps[0]), (at(910), &Step::Cut(G1, StreamClass::Upgrade)));
    told.then("exit g1 code=0");
    let Step::Forget(G1, Some(end)) = &told.end().steps[0] else { panic!("{:?}", told.end().steps) };
    assert_eq!((end.outcome, end.took_ms), (DrainOutcome::DeadlineCut, 900_000));
    assert_eq!(told.end().steps[1], Step::Start(G3));
}
