//! A model checker: every order in which a small world can go on, from an empty slot over swaps, drains, rollbacks,
//! crashes and kills to the end of the host, explored to the last state, with every promise looked at in each.
//!
//! [`world`] is the world, [`acts`] what may happen in it, [`promises`] what must hold, [`search`] the search. The
//! slot and the host are the real ones. A world that is sabotaged must be found out: else the check proves nothing.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and print, and so may its helpers")]

mod acts;
mod promises;
mod scope;
mod search;
mod steps;
mod world;

use scope::{Sabotage, Scope};
use supervisor_protocol::contract::StateKind;

/// Explores a scope of builds that share, and of such that do not, to its end, and prints how large it is. On the
/// way the steps of these kinds must have been carried out: else it is not what it is taken for.
#[track_caller]
fn holds(scope: fn(StateKind) -> Scope, steps: [&[&str]; 2]) {
    for (state, steps) in [StateKind::Shared, StateKind::Local].into_iter().zip(steps) {
        let scope = scope(state);
        match search::explore(&scope) {
            Ok(found) => {
                eprintln!("{} of {state:?} builds: {found}", scope.name);
                assert!(found.states > 500 && found.ends > 0, "too small to prove anything: {found}");
                let missing: Vec<_> = steps.iter().filter(|step| !found.steps.contains(**step)).collect();
                assert!(missing.is_empty(), "{} of {state:?} builds never comes to {missing:?}", scope.name);
            }
            Err(broken) => panic!("{} of {state:?} builds: {broken}", scope.name),
        }
    }
}

/// Looks for the promise that a sabotage breaks.
#[track_caller]
fn found_out(scope: Scope, sabotage: Sabotage, promise: &str) {
    let scope = Scope { sabotage: Some(sabotage), ..scope };
    let broken = match search::explore(&scope) {
        Ok(found) => panic!("{sabotage:?} is not found out in {found}"),
        Err(broken) => broken,
    };
    eprintln!("{sabotage:?}: {broken}");
    assert!(broken.what.starts_with(promise), "{sabotage:?} breaks {promise}: {broken}");
}

// F01, F02, F08, F10: requests meet a swap of builds that share, and of such that take turns.
#[test]
fn p1_p2_p3_p4_p5_hold_in_every_order_of_a_swap() {
    holds(Scope::swap, [&["Publish", "DrainChild", "Park", "Cut"], &["Hold", "Publish", "Terminate", "Restore"]]);
}

// F05, F06, F15, F22.
#[test]
fn p1_p4_p5_p7_hold_in_every_order_of_a_swap_that_turns_out_bad() {
    holds(Scope::crash, [&["Restore", "Withdraw"], &["Hold", "Withdraw"]]);
    holds(Scope::unready, [&["Restore", "Park"], &["Hold"]]);
}

// F11, F13.
#[test]
fn p1_p5_p7_hold_in_every_order_of_a_removal_in_the_midst_of_a_swap() {
    holds(Scope::removal, [&["Withdraw", "DrainChild", "Terminate"], &["Withdraw", "DrainChild", "Terminate"]]);
}

// F29, F31, F35.
#[test]
fn p1_p7_hold_in_every_order_of_the_end_of_a_host_in_the_midst_of_a_swap() {
    holds(Scope::stopping, [&["Withdraw", "Kill"], &["Hold", "Withdraw", "Kill"]]);
}

// F40, F44.
#[test]
fn p5_p7_hold_in_every_order_of_a_kill_of_the_host_in_the_midst_of_a_swap() {
    holds(Scope::killed, [&["Fetch", "Publish", "Restore"], &["Fetch", "Hold", "Publish"]]);
}

// F02.
#[test]
fn a_predecessor_that_is_retired_before_its_successor_is_published_is_found_out() {
    found_out(Scope::swap(StateKind::Shared), Sabotage::RetiresFirst, "P4");
}

// F08, F40.
#[test]
fn a_successor_that_starts_while_its_local_predecessor_lives_is_found_out() {
    found_out(Scope::swap(StateKind::Local), Sabotage::NoticesEarly, "P5");
}

// F40, F44.
#[test]
fn a_process_that_is_started_without_the_ledger_is_found_out() {
    found_out(Scope::killed(StateKind::Shared), Sabotage::SkipsLedger, "P7");
}

// F01.
#[test]
fn leases_that_are_not_counted_are_found_out() {
    found_out(Scope::swap(StateKind::Shared), Sabotage::CountsNoLease, "P1");
}

// F15, F44.
#[test]
fn a_way_back_that_is_not_remembered_over_a_kill_is_found_out() {
    found_out(Scope::killed(StateKind::Shared), Sabotage::ForgetsMemory, "P7");
}
