//! How a change is made, who says yes to it, and how it is taken back: each rule as the shortest story that shows
//! it. Whole stories are in `stories/`.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

#[allow(dead_code, reason = "shared by several")]
mod script;

use std::time::Duration;

use script::Script;
use script::told::Told;
use supervisor_protocol::admin::{DrainCause, Phase};
use supervisor_protocol::{Generation, Tick};
use versiond_core::errors::ErrorRule;
use versiond_core::policy::{Mode, Policy};
use versiond_core::slot::{Absent, Step};
use versiond_core::strategy::Strategy;

fn under(policy: Policy) -> Told {
    Told { script: Script::under(policy), played: Vec::new() }
}

fn mode(mode: Mode) -> Told {
    under(Policy { mode, ..Policy::default() })
}

/// `a` serves as g1 since 1 s.
fn a_serves(mut told: Told, facts: &str) -> Told {
    told.then(&format!("want a\nfetched g1\ndescribed g1 {facts}\nlaunched g1\nt=1s probe g1 ready"));
    told
}

fn auto(facts: &str) -> Told {
    a_serves(mode(Mode::Auto), facts)
}

/// `b` is on trial as g2 since 10 s, and g1 is parked beside it.
fn on_trial() -> Told {
    let mut told = auto("shared undrain");
    told.then(
        "t=10s want b\nfetched g2\ndescribed g2 shared undrain\nlaunched g2\nprobe g2 ready\nleases g1\nchild g1 0",
    );
    assert_eq!(told.phase(1), Some(Phase::Parked));
    told
}

const G1: Generation = Generation(1);
const G2: Generation = Generation(2);

#[test]
fn f07_f08_the_strategy_follows_from_what_both_say_of_themselves() {
    for (old, new, start, strategy) in [
        ("shared", "none", "1s", Strategy::Overlap),
        ("local", "shared", "1s", Strategy::Hold),
        ("shared", "local", "1s", Strategy::Hold),
        ("shared exclusive", "shared", "1s", Strategy::Hold),
        ("shared", "none exclusive", "1s", Strategy::Hold),
        ("local", "local", "19s", Strategy::Hold),
        ("local", "local", "20s", Strategy::NeedsWindow),
        ("shared exclusive", "shared exclusive", "40s", Strategy::NeedsWindow),
    ] {
        let mut told = mode(Mode::Auto);
        told.then(&format!("want a\nfetched g1\ndescribed g1 {old}\nlaunched g1\nt={start} probe g1 ready"));
        told.then(&format!("t=100s want b\nfetched g2\ndescribed g2 {new}"));
        let outlook = told.slot().outlook(told.end().now);
        assert_eq!(outlook.strategy, Some(strategy), "{old}, {new}, {start}");
        assert_eq!(outlook.away_ms == 0, strategy == Strategy::Overlap, "{old}, {new}, {start}");
    }
}

// F10: nothing of the old one is cut for it. F16: what arrives meanwhile waits, and no router has to notice.
#[test]
fn f10_f16_a_hold_waits_for_every_lease_and_the_slot_stays_ready_within_the_bound() {
    let mut told = auto("local");
    told.then("t=10s want b\nfetched g2\ndescribed g2 local");
    assert_eq!(told.slot().wants_forecast(told.end().now), Some(G1));
    told.then("forecast g1 500ms\nleases g1 request=4");
    assert!(!told.did(&Step::DrainChild(G1)));
    assert_eq!(told.slot().wants_forecast(told.end().now), None, "it is asked only while it is waited for");
    let absent = Step::Absent(Absent::Hold { until: None });
    told.then("leases g1");
    assert!(told.did(&Step::DrainChild(G1)));
    told.then("child g1 0\nt=11s exit g1 code=0\nlaunched g2");
    assert!(told.slot().is_ready() && told.serving().is_none());
    told.then("t=13s tick");
    assert!(told.did(&absent), "a forecast that has passed is none");
    told.then("t=29s tick");
    assert!(told.slot().is_ready());
    told.then("t=30s tick");
    assert!(!told.slot().is_ready(), "what arrived first has waited as long as it may");
    told.then("probe g2 ready");
    assert!(told.slot().is_ready());
}

#[test]
fn f06_a_host_that_stops_during_a_hold_starts_nothing_and_drains_what_is_left() {
    let mut told = auto("local");
    told.then("t=10s want b\nfetched g2\ndescribed g2 local\nforecast g1 0\nleases g1 request=1\nwant stop 600s");
    assert!(told.did(&Step::Absent(Absent::Stopping)));
    told.then("leases g1\nchild g1 0\nexit g1 code=0");
    assert!(!told.did(&Step::Start(G2)));
    assert!(told.slot().is_gone());
}

#[test]
fn p3_an_entry_that_cannot_be_followed_during_a_hold_does_not_leave_the_slot_empty() {
    let mut told = auto("local");
    told.then("t=10s want b\nfetched g2\ndescribed g2 local\nforecast g1 0\nleases g1 request=1\nwant keep");
    told.then("leases g1\nchild g1 0\nexit g1 code=0\nlaunched g2\nprobe g2 ready");
    assert_eq!(told.serving(), Some(2), "what was begun is gone through with");
}

#[test]
fn a_hold_that_is_called_off_before_the_old_one_has_drained_brings_it_back() {
    let mut told = auto("local");
    told.then("t=10s want b\nfetched g2\ndescribed g2 local\nforecast g1 0\nleases g1 request=1\nwant a");
    assert!(told.did(&Step::Restore { back: G1, old: None }));
    assert_eq!((told.serving(), told.phase(2)), (Some(1), None));
}

#[test]
fn p4_what_still_lives_comes_back_while_what_a_height_has_brought_is_made_ready() {
    let mut told = auto("local");
    told.then("t=10s want b\nfetched g2\ndescribed g2 local\nforecast g1 0\nleases g1 request=1\nwant c irreversible");
    assert!(told.did(&Step::Restore { back: G1, old: None }));
    assert_eq!((told.serving(), told.began(3)), (Some(1), Some('c')));
}

#[test]
fn p4_what_is_wanted_and_lives_comes_back_at_once_when_what_served_crashes() {
    let mut told = auto("shared");
    told.then("t=10s want b\nfetched g2\ndescribed g2 shared\nlaunched g2\nprobe g2 ready\nleases g1 stream=1");
    told.then("t=80s tick\nwindow closed 100s\nwant a\nt=90s exit g2 code=1");
    assert_eq!((told.serving(), told.why()[0]), (None, "crash_backoff"));
    // The pause of what served is over before the window opens.
    told.then("wake");
    assert_eq!(told.began(3), Some('b'));
    told.then("fetched g3\nt=99s undescribed g3\nt=100s tick");
    assert_eq!(told.serving(), Some(1));
}

// F15: it was taken back once, and stays so.
#[test]
fn f15_what_was_taken_back_stays_so_over_a_restart_until_another_is_wanted_or_an_operator_says_so() {
    let mut told = on_trial();
    told.then("t=20s exit g2 signal=11");
    assert_eq!((told.serving(), told.why()), (Some(1), vec!["rolled_back"]));
    let again = || Told { script: Script::restarted(told.slot()), played: Vec::new() };

    let mut restarted = again();
    restarted.then("want b");
    assert_eq!((restarted.began(1), restarted.why()[0]), (Some('a'), "rolled_back"));
    restarted.then("fetched g1\ndescribed g1 shared undrain\nlaunched g1\nprobe g1 ready");
    assert_eq!((restarted.serving(), restarted.phase(2)), (Some(1), None));
    restarted.then("order approve");
    assert_eq!(restarted.began(2), Some('b'));

    let mut restarted = again();
    restarted.then("want c");
    assert!(!restarted.why().contains(&"rolled_back"));
    restarted.then("want b");
    assert!(!restarted.why().contains(&"rolled_back"), "the catalog has come back to it by itself");
}

// F13: three processes, never a fourth. F15: the one that passed its trial stays the way back.
#[test]
fn f13_f15_changes_during_a_trial_leave_one_draining_and_one_parked() {
    let mut told = on_trial();
    told.then("t=20s want c\nfetched g3\ndescribed g3 shared undrain\nlaunched g3\nprobe g3 ready\nleases g2 stream=1");
    told.then("want d\nfetched g4\ndescribed g4 shared undrain");
    assert_eq!(told.why()[0], "predecessor_present");
    assert_eq!(told.slot().generations().filter(|generation| generation.has_process()).count(), 3);
    told.then("t=21s exit g3 code=1");
    assert!(told.did(&Step::Restore { back: G1, old: None }), "g2 has not passed its trial");
    assert_eq!((told.serving(), told.phase(2)), (Some(1), Some(Phase::Retired)));
}

// F22: the parked one is believed only with an answer from after the failure, and the failure only when it outlasts
// that answer.
#[test]
fn f15_f22_a_ready_predecessor_from_before_the_failure_proves_nothing() {
    let mut told = on_trial();
    told.then("t=20s compared g1 ready\nprobe g2 unready\nt=21s probe g2 unready\nt=25s tick");
    assert_eq!(told.serving(), Some(2));
    told.then("t=26s compared g1 ready");
    assert_eq!(told.serving(), Some(2), "what they had in common may just be over");
    told.then("t=27s probe g2 unready");
    assert_eq!(told.serving(), Some(1));
    assert_eq!(told.slot().memory().rolled_back.as_ref().unwrap().sha256.short(), "bbbbbbbb");
}

#[test]
fn f15_every_drain_of_a_generation_that_comes_back_has_its_own_receipt() {
    let mut told = on_trial();
    let parked = |told: &Told| told.steps().iter().any(|step| matches!(step, Step::Park(G1, _)));
    assert!(parked(&told));
    told.then("t=20s exit g2 signal=11\nt=30s want nothing\nleases g1\nchild g1 0\nexit g1 code=0");
    let forget = told.steps().into_iter().find_map(|step| {
        let Step::Forget(G1, Some(end)) = step else { return None };
        Some(end.cause)
    });
    assert_eq!(forget, Some(DrainCause::Removal));
}

#[test]
fn p6_what_is_denied_is_neither_parked_nor_gone_back_to() {
    let mut told = on_trial();
    told.then("t=20s deny a");
    assert_eq!(told.phase(1), Some(Phase::Terminating));
    told.then("exit g1 code=0\nt=21s exit g2 signal=11");
    assert_eq!(told.why(), ["crash_backoff", "rollback_unsafe"]);
    assert_eq!(told.then("wake").began(3), Some('b'));
    assert_eq!(told.then("order rollback force").end().refused.as_ref().unwrap().code(), "rollback_unsafe");
}

// F18, F59: who says yes, and when.
#[test]
fn f59_staged_manual_and_a_window_each_hold_a_change_back_where_they_say() {
    // A first start needs no yes, a change does: fetched and asked, and no further.
    let mut told = a_serves(mode(Mode::Staged), "shared");
    told.then("t=10s want b\nfetched g2\ndescribed g2 shared");
    assert_eq!((told.phase(2), told.why()), (Some(Phase::Preflight), vec!["awaiting_approval"]));
    assert!(told.then("order approve").did(&Step::Start(G2)));

    // Nothing at all, not even the first.
    let mut told = mode(Mode::Manual);
    told.then("want a");
    assert_eq!((told.began(1), told.why()), (None, vec!["awaiting_approval"]));
    assert!(told.slot().has_verdict(), "a host does not wait for an operator to converge");
    assert!(told.did(&Step::Absent(Absent::NotServing)));
    let mut told = Told { script: told.script.clone(), played: Vec::new() };
    told.then("order approve\nfetched g1\ndescribed g1 shared\nlaunched g1\nprobe g1 ready");
    assert_eq!(told.serving(), Some(1));
    told.then("t=10s exit g1 code=1\nwake");
    assert_eq!(told.began(2), Some('a'), "what has served comes back without a yes");

    // A window holds back what changes, not what starts or comes back; a pin is an operator's own word.
    let mut told = mode(Mode::Auto);
    told.then("window closed 100s");
    let mut told = a_serves(told, "shared");
    told.then("t=10s want b\nfetched g2\ndescribed g2 shared");
    assert_eq!((told.why(), told.wake()), (vec!["window_closed"], Some(Tick(100_000))));
    let mut pinned = Told { script: told.script.clone(), played: Vec::new() };
    assert!(pinned.then("order pin b").did(&Step::Start(G2)));
    assert!(told.then("wake").did(&Step::Start(G2)));
}

#[test]
fn f59_a_host_waits_its_own_time_before_it_takes_its_slot_away() {
    let policy = Policy { jitter: Duration::from_secs(600), seed: 7, ..Policy::default() };
    let mut told = a_serves(under(policy.clone()), "local");
    told.then("t=10s want b\nfetched g2\ndescribed g2 local");
    let until = Tick(10_000).after(policy.pause(&told.slot().wanted().unwrap().sha256));
    assert_eq!((told.why(), told.wake()), (vec!["jitter"], Some(until)));
    assert_eq!(told.slot().wants_forecast(told.end().now), None);
    let mut approved = Told { script: told.script.clone(), played: Vec::new() };
    approved.then("order approve\nforecast g1 0");
    assert!(approved.steps().iter().any(|step| matches!(step, Step::Hold { .. })), "an operator has asked for it now");
    told.then("wake\nforecast g1 0");
    assert!(told.steps().iter().any(|step| matches!(step, Step::Hold { .. })));
}

/// `a` has answered 1 of 100 with an error, and `b` is on trial.
fn errors_on_trial(facts: &str) -> Told {
    let errors = Some(ErrorRule { permille: 50, least: 20 });
    let mut told = a_serves(under(Policy { errors, ..Policy::default() }), facts);
    told.then("answers g1 1/100");
    told.then(&format!("t=10s want b\nfetched g2\ndescribed g2 {facts}\nforecast g1 0\nleases g1\nchild g1 0"));
    told.then("exit g1 code=0\nlaunched g2\nprobe g2 ready");
    assert_eq!(told.serving(), Some(2));
    told
}

// F15: its predecessor is gone, and what it answered is not forgotten. F68: its data must be readable.
#[test]
fn f15_f68_errors_take_back_to_what_has_to_be_started_only_where_that_reads_the_data() {
    for (facts, code) in [("local reads=3-3", "rolled_back"), ("local", "rollback_unsafe"), ("none", "rolled_back")] {
        let mut told = errors_on_trial(facts);
        told.then("t=20s answers g2 10/20");
        assert_eq!(told.why()[0], code, "{facts}: {:?}", told.why());
        let back = (code == "rolled_back").then_some('a');
        assert_eq!((told.began(3), told.serving()), (back, Some(2)), "{facts}");
    }
}

#[test]
fn f15_errors_count_only_of_what_is_on_trial_and_ordered_and_only_where_they_are_asked_for() {
    let mut told = errors_on_trial("none");
    let mut later = Told { script: told.script.clone(), played: Vec::new() };
    later.then("t=70s tick\nanswers g2 20/20");
    assert!(later.steps().is_empty() && later.why().is_empty(), "its trial is over: {:?}", later.why());
    let mut other = Told { script: told.script.clone(), played: Vec::new() };
    other.then("t=20s want keep\nwant c\nanswers g2 20/20");
    assert!(!other.why().contains(&"rolled_back"), "something else is ordered");
    told.then("order rollback\norder approve\nanswers g2 20/20");
    assert_eq!(told.slot().wants_answers().count(), 1);

    let mut off = auto("none");
    off.then("t=10s want b\nanswers g1 0/100\nfetched g2\ndescribed g2 none\nlaunched g2\nprobe g2 ready");
    off.then("answers g2 20/20");
    assert_eq!((off.serving(), off.slot().wants_answers().count()), (Some(2), 0));
}

// F22: the counts come once a second, and the first of them has what was answered before anything was known.
#[test]
fn f22_errors_from_before_the_first_count_and_while_the_predecessor_was_not_well_do_not_count() {
    let errors = Some(ErrorRule { permille: 50, least: 20 });
    let mut told = a_serves(under(Policy { errors, ..Policy::default() }), "shared undrain");
    told.then("answers g1 0/100\nt=10s want b\nfetched g2\ndescribed g2 shared undrain\nlaunched g2\nprobe g2 ready");
    told.then("leases g1\nchild g1 0\ncompared g1 unready\nt=11s compared g1 ready\nanswers g2 20/20");
    told.then("t=12s compared g1 ready\nt=13s answers g2 20/40\nt=14s compared g1 ready\nanswers g2 20/41");
    assert_eq!(told.serving(), Some(2));
    told.then("t=15s answers g2 30/60\nt=16s compared g1 ready");
    assert_eq!((told.serving(), told.why()[0]), (Some(1), "rolled_back"));
}

#[test]
fn the_way_back_is_named_whether_it_is_warm_or_not() {
    let mut told = on_trial();
    let way = |told: &Told| {
        let way = told.slot().goes_back_to();
        way.map(|(to, warm)| (to.sha256.to_string().chars().next(), warm.map(|warm| warm.number)))
    };
    assert_eq!(way(&told), Some((Some('a'), Some(G1))));
    told.then("t=80s probe g2 ready\nexit g1 code=0");
    assert_eq!(way(&told), Some((Some('a'), None)), "it has passed its trial, and an operator can still go back");
    assert_eq!(way(&auto("shared")), None);
    told.then("order rollback force");
    assert_eq!(way(&told), None, "it has gone back already");
}

#[test]
fn an_order_outlives_a_restart_where_it_must() {
    let mut told = auto("shared");
    told.then("t=10s order hold\nwant b");
    let mut restarted = Told { script: Script::restarted(told.slot()), played: Vec::new() };
    restarted.then("want b\nfetched g1\ndescribed g1 shared\nlaunched g1\nprobe g1 ready");
    assert_eq!((restarted.serving(), restarted.phase(2)), (Some(1), None));
    assert_eq!(restarted.why(), ["held_by_operator"]);

    told.then("order release\norder pin");
    let mut restarted = Told { script: Script::restarted(told.slot()), played: Vec::new() };
    assert_eq!(restarted.then("want b").began(1), Some('a'));

    let mut told = auto("local");
    told.then("t=10s want b\nfetched g2\ndescribed g2 local\nforecast g1 30s\norder approve downtime");
    assert!(told.steps().iter().any(|step| matches!(step, Step::Hold { empty_by: None, .. })));
    assert_eq!(told.slot().memory().approved.as_ref().map(|approved| approved.accept_downtime), Some(true));
    told.then("leases g1\nchild g1 0\nexit g1 code=0\nlaunched g2\nprobe g2 ready");
    assert_eq!(told.slot().memory().approved, None, "it was a yes to one change");
}
