//! What a height or a plan has brought, after a restart or the end of what served.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "of the scripts of all tests, few lines are needed here")]
mod script;

use script::Script;
use supervisor_protocol::Sha256;
use versiond_core::slot::Step;
use versiond_core::timings::Timings;

/// The artifacts that a story fetches, in order.
fn fetched(mut script: Script, story: &str) -> Vec<Sha256> {
    let steps = script.play(story).into_iter().flat_map(|played| played.steps);
    let fetched =
        steps.filter_map(|step| if let Step::Fetch(_, artifact) = step { Some(artifact.sha256) } else { None });
    fetched.collect()
}

fn hash(of: &str) -> Sha256 {
    of.repeat(64).parse().unwrap()
}

/// A node that has stopped for its upgrade is not started again by the program that has just stopped.
#[test]
fn what_is_due_by_its_height_is_tried_before_what_served() {
    let restarted = || Script::with(Timings::default(), Some("a"));
    assert_eq!(fetched(restarted(), "want b irreversible"), [hash("b")]);
    assert_eq!(fetched(restarted(), "want b"), [hash("a")]);
    // It cannot be had now: what served is better than nothing.
    assert_eq!(fetched(restarted(), "want b irreversible\nfetch-failed g1"), [hash("b"), hash("a")]);
    let crashed = "want a\nfetched g1\ndescribed g1 local\nlaunched g1\nprobe g1 ready\nwant b irreversible\nfetched g2\ndescribed g2 local\nexit g1 code=1";
    let started = Script::new().play(crashed);
    let steps = &started.last().unwrap().steps;
    assert!(steps.iter().any(|step| matches!(step, Step::Start(generation) if generation.0 == 2)), "{steps:?}");
}

/// It is no reason to serve nothing for good: from its third failure on, what served has the time that it needs.
#[test]
fn what_is_due_and_keeps_failing_lets_what_served_go_first() {
    let fails = |number: u64| format!("fetched g{number}\nundescribed g{number}\n");
    let restarted = Script::with(Timings::default(), Some("a"));
    let story = format!("want b irreversible\n{}wake\n{}wake\n{}t=600s tick\nfetched g6", fails(1), fails(3), fails(5));
    assert_eq!(fetched(restarted, &story), ["b", "a", "b", "a", "b", "a"].map(hash));
}
