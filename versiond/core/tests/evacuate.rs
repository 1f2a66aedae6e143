//! A slot that is taken away from one host at a time: turns, claims, the leaving, and what takes it back.
//!
//! [`neighbours`] is several hosts at once, with what they know of each other always a moment old.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "neighbours/mod.rs"]
mod neighbours;
#[allow(dead_code, reason = "of the scripts of all tests, few lines are needed here")]
mod script;

use std::time::Duration;

use script::told::Told;
use supervisor_protocol::admin::Phase;
use supervisor_protocol::{Generation, HostId, Sha256};
use versiond_core::evacuate::{Evacuate, Neighbours, order};
use versiond_core::policy::Policy;
use versiond_core::slot::Step;
use versiond_core::strategy::Strategy;

const G2: Generation = Generation(2);
const CLAIM: Step = Step::Evacuate(G2, Evacuate::Claim);
const STEP_BACK: Step = Step::Evacuate(G2, Evacuate::StepBack);

/// The hosts `gpu-1` to `gpu-3` in the order for build `b`.
fn ordered() -> Vec<HostId> {
    let hosts = ["gpu-1", "gpu-2", "gpu-3"].map(|id| id.parse::<HostId>().unwrap());
    let sha256: Sha256 = "b".repeat(64).parse().unwrap();
    order(&sha256, &hosts).into_iter().cloned().collect()
}

/// `a` serves as g1, and `b` waits as g2 at 10 s: both need something of the host for themselves and take 40 s to
/// start. This host has that place in the order; `{0}`, `{1}` and `{2}` in a line are the hosts in their order.
fn at(place: usize, facts: &str) -> Told {
    let hosts = ordered();
    let me = hosts[place].clone();
    let others = hosts.into_iter().filter(|host| *host != me).collect();
    let neighbours = Neighbours { me, others, routers: Duration::from_secs(8) };
    let policy =
        Policy { start_estimate: Some(Duration::from_secs(40)), evacuate: Some(neighbours), ..Policy::default() };
    let mut told =
        Told::under(policy, &format!("want a\nfetched g1\ndescribed g1 {facts}\nlaunched g1\nt=41s probe g1 ready"));
    told.then(&format!("t=100s want b\nfetched g2\ndescribed g2 {facts}"));
    told
}

fn then<'t>(told: &'t mut Told, text: &str) -> &'t mut Told {
    let hosts = ordered();
    let named = (0..3).fold(text.to_owned(), |text, at| text.replace(&format!("{{{at}}}"), hosts[at].as_str()));
    told.then(&named)
}

const EXCLUSIVE: &str = "shared exclusive";

/// F59: the first in the order claims, asks everybody once more, leaves the slot to routers' other hosts, and only then
/// stops what serves.
#[test]
fn f59_the_first_host_claims_asks_again_leaves_and_then_changes() {
    let mut told = at(0, EXCLUSIVE);
    assert_eq!(told.why(), ["no_peer_ready"]);
    assert!(told.slot().wants_peers(told.end().now));
    then(&mut told, "t=101s peer {1} ready a");
    assert!(told.did(&CLAIM) && told.slot().is_evacuating() && told.slot().is_ready());
    assert_eq!(told.slot().outlook(told.end().now).strategy, Some(Strategy::Evacuate));
    // What was asked before the claim was shown is no answer to it.
    then(&mut told, "peer {2} ready a\nt=102s claimed g2\npeer {1} ready a\nt=103s peer {1} ready a");
    assert!(told.slot().is_ready(), "{{2}} has not been asked since");
    then(&mut told, "t=104s peer {2} silent\npeer {1} ready a\nt=105s peer {2} silent");
    assert!(told.slot().is_ready(), "a lost answer is none");
    then(&mut told, "t=113s peer {1} ready a\nt=114s peer {2} silent");
    assert!(!told.slot().is_ready() && told.slot().is_evacuating());
    assert_eq!((told.why(), told.serving()), (vec!["evacuating"], Some(1)), "it still admits");
    then(&mut told, "t=121s peer {1} ready a\ntick");
    assert_eq!(told.serving(), Some(1), "routers have 8 s");
    then(&mut told, "t=122s peer {1} ready a");
    assert!(told.steps().iter().any(|step| matches!(step, Step::Hold { empty_by: None, .. })), "{:?}", told.steps());
    then(&mut told, "leases g1\nchild g1 0\nt=123s exit g1 code=0\nlaunched g2");
    assert!(told.slot().is_evacuating() && !told.slot().is_ready());
    then(&mut told, "t=160s probe g2 ready");
    assert_eq!((told.serving(), told.slot().is_evacuating(), told.slot().is_ready()), (Some(2), false, true));
}

/// F59: whoever is later waits until each earlier host has the new build, or has failed for it, or has no such slot.
#[test]
fn f59_a_later_host_waits_for_every_earlier_one() {
    for (said, goes) in [
        ("ready a", false),
        ("unready a failed=b", true),
        ("unready b", true),
        ("ready b", true),
        ("absent", true),
        ("ready a failed=a", false),
    ] {
        let mut told = at(2, EXCLUSIVE);
        then(&mut told, &format!("t=101s peer {{1}} ready b\npeer {{0}} {said}"));
        assert_eq!(told.did(&CLAIM), goes, "{said}: {:?}", told.why());
        assert_eq!(told.why().contains(&"peer_first"), !goes, "{said}");
    }
    let mut told = at(2, EXCLUSIVE);
    then(&mut told, "t=101s peer {1} ready b\npeer {0} ready b evacuating");
    assert_eq!(told.why(), ["peer_evacuating"]);
}

/// F59: an earlier host that does not answer is waited for ten minutes; an operator need not wait.
#[test]
fn f59_a_silent_earlier_host_is_passed_after_ten_minutes_or_by_an_operator() {
    let silent = |told: &mut Told| {
        then(told, "t=101s peer {0} silent\npeer {2} ready a");
        assert_eq!(told.why(), ["peer_silent"]);
    };
    let mut told = at(1, EXCLUSIVE);
    silent(&mut told);
    then(&mut told, "t=700s peer {0} silent\npeer {2} ready a");
    assert_eq!(told.why(), ["peer_silent"]);
    then(&mut told, "t=701s peer {0} silent\npeer {2} ready a");
    assert!(told.did(&CLAIM));
    // And one answer begins the wait anew.
    let mut told = at(1, EXCLUSIVE);
    silent(&mut told);
    then(&mut told, "t=650s peer {0} ready a\nt=661s peer {0} silent\npeer {2} ready a\nt=701s peer {2} ready a");
    assert!(!told.did(&CLAIM) && told.why() == ["peer_silent"], "{:?}", told.why());

    let mut told = at(1, EXCLUSIVE);
    silent(&mut told);
    assert!(then(&mut told, "order approve first").did(&CLAIM));
    // The order is all that an operator passes: somebody must serve, and nobody else be away.
    let mut told = at(1, EXCLUSIVE);
    then(&mut told, "order approve first\nt=101s peer {0} silent\npeer {2} unready a");
    assert_eq!(told.why(), ["no_peer_ready"]);
    then(&mut told, "t=102s peer {2} ready a evacuating");
    assert_eq!(told.why(), ["peer_evacuating"]);
}

/// F59: two that claim at once step back, and the earlier one tries again sooner.
#[test]
fn f59_who_sees_another_claim_steps_back() {
    let mut told = at(1, EXCLUSIVE);
    then(&mut told, "t=101s peer {0} ready b\npeer {2} ready a\nt=102s claimed g2");
    then(&mut told, "t=103s peer {0} ready b\npeer {2} ready a evacuating");
    assert!(told.did(&STEP_BACK) && !told.slot().is_evacuating() && told.slot().is_ready());
    then(&mut told, "t=104s peer {2} ready a\ntick");
    assert_eq!(told.why(), ["peer_evacuating"], "a pause for each place in the order");
    assert!(then(&mut told, "t=107s peer {0} ready b\npeer {2} ready a\ntick").did(&CLAIM));
}

/// P4: the slot is not given away to nobody, and is taken back when the last who could serve is gone.
#[test]
fn p4_without_a_ready_peer_the_slot_stays() {
    let claimed = |told: &mut Told| {
        then(told, "t=101s peer {1} ready a\npeer {2} unready a\nt=102s claimed g2");
    };
    let mut told = at(0, EXCLUSIVE);
    claimed(&mut told);
    then(&mut told, "t=103s peer {2} unready a\npeer {1} unready a");
    assert!(told.did(&STEP_BACK));
    let mut told = at(0, EXCLUSIVE);
    claimed(&mut told);
    then(&mut told, "t=103s peer {2} unready a\npeer {1} ready a");
    assert!(!told.slot().is_ready());
    then(&mut told, "t=105s peer {1} unready a");
    assert!(told.did(&STEP_BACK) && told.slot().is_ready() && told.serving() == Some(1));
    // Words that are too old are no words.
    let mut told = at(0, EXCLUSIVE);
    then(&mut told, "t=101s peer {1} ready a\npeer {2} ready a\nt=102s claimed g2");
    then(&mut told, "t=103s peer {1} ready a\npeer {2} unready a");
    assert!(!told.slot().is_ready());
    then(&mut told, "t=104s peer {1} silent\npeer {2} unready a\nt=110s tick");
    assert!(told.slot().is_evacuating());
    assert!(then(&mut told, "t=113s tick").did(&STEP_BACK));
}

/// What an operator or the catalog says meanwhile counts at once, while nothing has been stopped.
#[test]
fn an_evacuation_is_given_up_for_whatever_holds_the_change_back() {
    for (line, is_over) in [("order hold", true), ("window closed 3600s", true), ("want a", true), ("tick", false)] {
        let mut told = at(0, EXCLUSIVE);
        then(&mut told, "t=101s peer {1} ready a\nt=102s claimed g2\nt=103s peer {1} ready a\npeer {2} ready a");
        assert!(!told.slot().is_ready(), "{line}");
        then(&mut told, &format!("t=104s {line}"));
        assert_eq!((!told.slot().is_evacuating(), told.slot().is_ready()), (is_over, is_over), "{line}");
    }
    let mut told = at(0, EXCLUSIVE);
    then(&mut told, "t=101s peer {1} ready a\nt=102s claimed g2\nt=103s peer {1} ready a\npeer {2} ready a");
    then(&mut told, "t=104s want stop 200s");
    assert!(!told.slot().is_evacuating());
}

/// A build that cannot start gives the slot back to what served, and others see the slot as evacuated until then.
#[test]
fn f59_a_build_that_cannot_start_gives_the_slot_back_and_nobody_else_goes_before_that() {
    let mut told = at(0, EXCLUSIVE);
    then(&mut told, "t=101s peer {1} ready a\nt=102s claimed g2\nt=103s peer {1} ready a\npeer {2} ready a");
    then(&mut told, "t=112s peer {1} ready a\nleases g1\nchild g1 0\nt=113s exit g1 code=0");
    then(&mut told, "t=114s not-launched g2");
    assert!(told.slot().is_evacuating() && !told.slot().is_ready(), "{:?}", told.why());
    assert!(told.began(3).is_some(), "what served comes back: {:?}", told.steps());
    then(&mut told, "fetched g3\ndescribed g3 shared exclusive\nlaunched g3\nt=160s probe g3 ready");
    assert_eq!((told.serving(), told.slot().is_evacuating()), (Some(3), false));
}

/// Only what lies elsewhere can be served elsewhere, and only what takes too long to be waited for need be.
#[test]
fn the_strategy_is_to_evacuate_only_where_neither_of_the_others_fits() {
    let told = at(0, "local");
    assert_eq!((told.why(), told.slot().wants_peers(told.end().now)), (vec!["needs_window"], false));
    assert_eq!(told.slot().outlook(told.end().now).strategy, Some(Strategy::NeedsWindow));
    let told = at(0, "shared");
    assert_eq!((told.phase(2), told.slot().wants_peers(told.end().now)), (Some(Phase::Starting), false));
    let mut told = at(0, EXCLUSIVE);
    assert_eq!(told.slot().outlook(told.end().now).strategy, Some(Strategy::Evacuate));
    // An operator may prefer to be away at once.
    told.then("order approve downtime\nforecast g1 1s");
    assert!(told.steps().iter().any(|step| matches!(step, Step::Hold { .. })));
    assert!(!told.slot().is_evacuating());
}
