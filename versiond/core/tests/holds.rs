//! Holds of what has no requests, and of what counts nothing: the old one makes room for its successor, and nothing
//! that it does is cut for that.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "of the scripts of all tests, few lines are needed here")]
mod script;

use script::told::Told;
use supervisor_protocol::Generation;
use supervisor_protocol::admin::{DrainOutcome, Phase};
use versiond_core::slot::Step;
use versiond_core::strategy::Strategy;

const G1: Generation = Generation(1);
const G2: Generation = Generation(2);

/// `a` serves as g1 since 1 s, `b` is described as g2 at 10 s, and they take turns.
fn take_turns(facts: &str) -> Told {
    let mut told = Told::story(&format!("want a\nfetched g1\ndescribed g1 {facts}\nlaunched g1\nt=1s probe g1 ready"));
    told.then(&format!("t=10s want b\nfetched g2\ndescribed g2 {facts}"));
    told
}

fn is_held(told: &Told) -> bool {
    told.steps().iter().any(|step| matches!(step, Step::Hold { .. }))
}

fn receipt(told: &Told) -> Option<DrainOutcome> {
    told.steps()
        .into_iter()
        .find_map(|step| if let Step::Forget(G1, Some(end)) = step { Some(end.outcome) } else { None })
}

/// It has no lease, so that its work is first seen when it is told to drain.
fn worker_held() -> Told {
    let mut told = take_turns("local worker");
    assert_eq!(told.slot().outlook(told.end().now).strategy, Some(Strategy::Hold));
    // Its target never has a lease, and the forecast is of leases.
    told.then("forecast g1 0");
    assert!(is_held(&told));
    told.then("leases g1");
    assert!(told.did(&Step::DrainChild(G1)));
    told
}

// F10: the piece that it has begun is its to end, also past the time that requests may wait: there are none.
#[test]
fn f10_a_worker_that_is_held_ends_its_work_before_its_successor_starts() {
    let mut told = worker_held();
    told.then("child g1 1\nt=31s tick\nt=60s child g1 1");
    assert_eq!((told.serving(), told.phase(1), told.phase(2)), (None, Some(Phase::Draining), Some(Phase::Preflight)));
    assert!(!told.did(&Step::Terminate(G1)) && !told.did(&Step::Start(G2)));
    assert!(told.then("t=61s child g1 0").did(&Step::Terminate(G1)));
    assert!(!told.did(&Step::Start(G2)), "its process is still there");
    assert!(told.then("t=62s exit g1 code=0").did(&Step::Start(G2)));
    assert_eq!(receipt(&told), Some(DrainOutcome::Drained));
    told.then("launched g2\nprobe g2 ready");
    assert_eq!(told.end().steps, [Step::Publish { new: G2, old: None }]);
}

#[test]
fn a_worker_that_is_held_and_never_ends_its_work_is_stopped_at_the_end_of_its_drain() {
    let mut told = worker_held();
    told.then("child g1 1\nwake");
    while told.phase(1) == Some(Phase::Draining) {
        told.then("wake");
    }
    assert!(told.did(&Step::Terminate(G1)));
    let drain = versiond_core::timings::Timings::default().drain;
    assert_eq!(told.end().now, supervisor_protocol::Tick(10_000).after(drain));
    told.then("exit g1 code=0");
    assert_ne!(receipt(&told), Some(DrainOutcome::Drained));
    assert!(told.did(&Step::Start(G2)));
}

// P3: what has been called off comes back, a worker like any other, as long as it has not been told to drain.
#[test]
fn a_worker_that_was_told_to_drain_for_a_hold_comes_back_only_where_it_can() {
    for (facts, back) in [("local worker undrain", true), ("local worker", false)] {
        let mut told = take_turns(facts);
        told.then("forecast g1 0\nleases g1\nchild g1 1\nt=11s want a");
        assert_eq!(told.did(&Step::Restore { back: G1, old: None }), back, "{facts}");
        assert_eq!(told.serving(), back.then_some(1), "{facts}");
    }
}

// F16: an older child that counts nothing has its grace after its last lease, and the forecast says so.
#[test]
fn f16_what_counts_nothing_is_held_when_its_grace_fits_and_needs_a_window_when_not() {
    let mut told = take_turns("local");
    told.then("forecast g1 10s");
    assert!(is_held(&told));
    told.then("leases g1 request=1\nt=12s leases g1");
    assert!(told.did(&Step::DrainChild(G1)));
    // Nobody counts for it until its grace is over.
    told.then("t=21s tick");
    assert!(!told.did(&Step::Terminate(G1)) && told.slot().is_ready());
    assert!(told.then("t=22s child g1 0").did(&Step::Terminate(G1)));
    told.then("exit g1 code=0");
    assert_eq!(receipt(&told), Some(DrainOutcome::Drained));
    assert!(told.did(&Step::Start(G2)) && told.slot().is_ready());

    let mut told = take_turns("local");
    for second in 10..100 {
        told.then(&format!("t={second}s forecast g1 600s"));
        assert_eq!(told.serving(), Some(1));
    }
    assert_eq!(told.why()[0], "needs_window");
    told.then("order approve downtime");
    assert!(told.steps().iter().any(|step| matches!(step, Step::Hold { empty_by: None, .. })));
}
