//! Any interleaving of hosts that claim, call, store, crash and lose their leases, over one row.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

/// What one host does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Asks for the inference and acts on the answer.
    Ask,
    /// Asks, and the answer is lost on the way: what was written stays.
    AskUnheard,
    Dispatch,
    /// The step is written, and the answer lost: the model is not called yet.
    DispatchUnheard,
    /// The model's answer is there: it is stored.
    Complete,
    /// The model refused before it began.
    Abandon,
    /// The model broke off.
    GiveUp,
    /// Dies, and comes back as another owner.
    Crash,
    /// Its lease runs out although it lives.
    LoseLease,
    RenewLease,
    /// A minute passes.
    Minute,
}

#[derive(Debug, Clone)]
struct Host {
    owner: OwnerId,
    lives: u32,
    holds: Option<Holder>,
    /// For the claim that it holds.
    has_called: bool,
    is_leased: bool,
}

impl Host {
    fn begin(host: usize, lives: u32) -> Host {
        Host { owner: owner(host, lives), lives, holds: None, has_called: false, is_leased: true }
    }
}

/// What happened, for whoever judges it.
#[derive(Debug, Default)]
struct Seen {
    /// The claims by which the model was called.
    called: Vec<Fence>,
    /// Those of them that ended with a refusal before any work.
    refused: BTreeSet<Fence>,
    stored: Vec<Fence>,
    fences: Vec<Fence>,
    row: Option<Row>,
    now: u64,
}

/// Whether the row is heeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Heeded,
    /// The sabotage: everybody may.
    Ignored,
    /// A smaller one: what the dead have dispatched is free.
    Robbed,
}

impl Policy {
    fn decide(self, row: Option<&Row>, is_alive: bool, me: &OwnerId, now: u64) -> Decision {
        match (self, row) {
            (Policy::Ignored, _) => decide(None, is_alive, me, now),
            (Policy::Robbed, Some(Row::Dispatched { holder })) if !is_alive => {
                decide(Some(&Row::Abandoned { fence: holder.fence }), is_alive, me, now)
            }
            (Policy::Heeded | Policy::Robbed, row) => decide(row, is_alive, me, now),
        }
    }
}

fn owner(host: usize, life: u32) -> OwnerId {
    format!("host-{host}.{life}").parse().unwrap()
}

fn play(acts: &[(usize, Act)], policy: Policy) -> Seen {
    let mut seen = Seen::default();
    let (mut row, mut now): (Option<Row>, u64) = (None, 0);
    let mut hosts: Vec<Host> = (0..3).map(|host| Host::begin(host, 0)).collect();
    for (at, act) in acts {
        let is_alive = row
            .as_ref()
            .and_then(Row::owner)
            .is_some_and(|owner| hosts.iter().any(|host| host.owner == *owner && host.is_leased));
        let host = &mut hosts[*at];
        match act {
            Act::Ask | Act::AskUnheard if host.holds.is_none() => {
                match policy.decide(row.as_ref(), is_alive, &host.owner, now) {
                    Decision::Take { fence } => {
                        let holder = Holder { owner: host.owner.clone(), fence };
                        row = Some(Row::Claimed { holder: holder.clone(), since_ms: now });
                        seen.fences.push(fence);
                        if matches!(act, Act::Ask) {
                            host.holds = Some(holder);
                            host.has_called = false;
                        }
                    }
                    Decision::GiveUp { fence } => row = Some(Row::Uncertain { fence }),
                    Decision::Wait { .. } | Decision::Replay | Decision::GivenUp => {}
                }
            }
            Act::Ask | Act::AskUnheard => {}
            Act::Dispatch | Act::DispatchUnheard => {
                let Some(holder) = host.holds.clone() else { continue };
                let may_call = match dispatch(row.as_ref(), &holder) {
                    Ok(next) => {
                        row = Some(next);
                        true
                    }
                    // Written before, without an answer: it is the same step.
                    Err(Refused::Dispatched) => true,
                    Err(_) => {
                        host.holds = None;
                        false
                    }
                };
                if may_call && !host.has_called && matches!(act, Act::Dispatch) {
                    host.has_called = true;
                    seen.called.push(holder.fence);
                }
            }
            // Only what was called answers.
            Act::Complete if host.has_called => {
                let Some(holder) = host.holds.take() else { continue };
                if let Ok(next) = complete(row.as_ref(), &holder) {
                    row = Some(next);
                    seen.stored.push(holder.fence);
                }
            }
            Act::GiveUp if host.has_called => {
                let Some(holder) = host.holds.take() else { continue };
                if let Ok(next) = give_up(row.as_ref(), &holder) {
                    row = Some(next);
                }
            }
            Act::Complete | Act::GiveUp => {}
            Act::Abandon => {
                let Some(holder) = host.holds.take() else { continue };
                // What the model refused it has not run, whatever becomes of the row.
                seen.refused.insert(holder.fence);
                if let Ok(next) = abandon(row.as_ref(), &holder) {
                    row = Some(next);
                }
            }
            Act::Crash => *host = Host::begin(*at, host.lives + 1),
            Act::LoseLease => host.is_leased = false,
            Act::RenewLease => host.is_leased = true,
            Act::Minute => now += 60_000,
        }
    }
    Seen { row, now, ..seen }
}

/// What must hold of it.
fn judged(seen: &Seen) -> Result<(), String> {
    let ran: Vec<_> = seen.called.iter().filter(|fence| !seen.refused.contains(fence)).collect();
    if ran.len() > 1 {
        return Err(format!("the model ran for the claims {ran:?}"));
    }
    if seen.stored.len() > 1 {
        return Err(format!("results were stored for the claims {:?}", seen.stored));
    }
    if seen.fences.windows(2).any(|pair| pair[1] <= pair[0]) {
        return Err(format!("fences do not grow: {:?}", seen.fences));
    }
    // Once all are dead, whoever comes gets somewhere: to the result, to the model, or to the truth.
    match decide(seen.row.as_ref(), false, &owner(9, 0), seen.now) {
        Decision::Replay if seen.stored.len() == 1 => Ok(()),
        Decision::Take { .. } if ran.is_empty() => Ok(()),
        Decision::GiveUp { .. } | Decision::GivenUp if seen.stored.is_empty() => Ok(()),
        other @ (Decision::Take { .. }
        | Decision::Wait { .. }
        | Decision::Replay
        | Decision::GiveUp { .. }
        | Decision::GivenUp) => Err(format!("{other:?} although {seen:?}")),
    }
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![
        4 => Just(Act::Ask),
        1 => Just(Act::AskUnheard),
        4 => Just(Act::Dispatch),
        1 => Just(Act::DispatchUnheard),
        2 => Just(Act::Complete),
        1 => Just(Act::Abandon),
        1 => Just(Act::GiveUp),
        1 => Just(Act::Crash),
        1 => Just(Act::LoseLease),
        1 => Just(Act::RenewLease),
        1 => Just(Act::Minute),
    ];
    prop::collection::vec((0_usize..3, act), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// S01: whatever hosts do and suffer, the model runs at most once and one result is stored.
    #[test]
    fn s01_an_inference_runs_at_most_once(acts in acts()) {
        let seen = play(&acts, Policy::Heeded);
        prop_assert!(judged(&seen).is_ok(), "{:?}", judged(&seen));
    }
}

/// The property is one that can fail.
#[test]
fn without_claims_it_would_run_twice() {
    let acts_of_two = [(0, Act::Ask), (0, Act::Dispatch), (1, Act::Ask), (1, Act::Dispatch)];
    assert_eq!(judged(&play(&acts_of_two, Policy::Heeded)), Ok(()));
    for policy in [Policy::Ignored, Policy::Robbed] {
        let found = TestRunner::deterministic().run(&acts(), |acts| {
            let seen = play(&acts, policy);
            let ran = seen.called.iter().filter(|fence| !seen.refused.contains(fence)).count();
            prop_assert!(ran <= 1);
            Ok(())
        });
        assert!(found.is_err(), "{policy:?}");
    }
}

fn holder(fence: u64) -> Holder {
    Holder { owner: owner(1, 0), fence: Fence(fence) }
}

#[test]
fn what_is_dispatched_is_never_taken() {
    let (me, row) = (owner(2, 0), Row::Dispatched { holder: holder(3) });
    assert_eq!(decide(Some(&row), true, &me, u64::MAX), Decision::Wait { owner: owner(1, 0) });
    assert_eq!(decide(Some(&row), false, &me, 0), Decision::GiveUp { fence: Fence(3) });
    // Its owner has been away for so long that it was given up, and stores its result all the same.
    assert_eq!(complete(Some(&Row::Uncertain { fence: Fence(3) }), &holder(3)), Ok(Row::Completed { fence: Fence(3) }));
}

#[test]
fn what_is_claimed_is_free_after_a_time_or_a_death() {
    let (me, row) = (owner(2, 0), Row::Claimed { holder: holder(3), since_ms: 1_000 });
    assert_eq!(decide(Some(&row), true, &me, CLAIM_MS + 999), Decision::Wait { owner: owner(1, 0) });
    for (is_alive, now) in [(true, CLAIM_MS + 1_000), (false, 1_000)] {
        assert_eq!(decide(Some(&row), is_alive, &me, now), Decision::Take { fence: Fence(4) });
    }
    let taken = Row::Claimed { holder: Holder { owner: me, fence: Fence(4) }, since_ms: 0 };
    assert_eq!(dispatch(Some(&taken), &holder(3)), Err(Refused::Stale));
}

#[test]
fn what_a_process_has_left_lying_is_its_own_to_settle() {
    let me = owner(1, 0);
    let claimed = Row::Claimed { holder: holder(3), since_ms: 1_000 };
    assert_eq!(decide(Some(&claimed), true, &me, 1_000), Decision::Take { fence: Fence(4) });
    let dispatched = Row::Dispatched { holder: holder(3) };
    assert_eq!(decide(Some(&dispatched), true, &me, 1_000), Decision::GiveUp { fence: Fence(3) });
}

/// An edge: from a row, as a holder.
type Edge = fn(Option<&Row>, &Holder) -> Result<Row, Refused>;

#[test]
fn each_edge_leads_from_the_rows_it_should_and_from_no_other() {
    use Refused as R;
    let (mine, fence) = (holder(3), Fence(3));
    // The same process with another claim, and another process with the same number.
    let others = [holder(4), Holder { owner: owner(2, 0), fence }];
    let dispatched = || Ok(Row::Dispatched { holder: holder(3) });
    let completed = || Ok(Row::Completed { fence });
    let abandoned = || Ok(Row::Abandoned { fence });
    let uncertain = || Ok(Row::Uncertain { fence });
    let edges: [Edge; 4] = [dispatch, complete, abandon, give_up];
    let check = |row: Option<Row>, expected: [Result<Row, Refused>; 4]| {
        assert_eq!(edges.map(|edge| edge(row.as_ref(), &mine)), expected, "{row:?}");
    };
    check(None, [R::NoClaim; 4].map(Err));
    check(
        Some(Row::Claimed { holder: mine.clone(), since_ms: 0 }),
        [dispatched(), Err(R::NotDispatched), abandoned(), Err(R::NotDispatched)],
    );
    check(Some(Row::Dispatched { holder: mine.clone() }), [Err(R::Dispatched), completed(), abandoned(), uncertain()]);
    for other in others {
        check(Some(Row::Claimed { holder: other.clone(), since_ms: 0 }), [R::Stale; 4].map(Err));
        check(Some(Row::Dispatched { holder: other }), [R::Stale; 4].map(Err));
    }
    check(Some(Row::Completed { fence }), [R::AlreadyCompleted; 4].map(Err));
    check(Some(Row::Abandoned { fence }), [R::Stale; 4].map(Err));
    check(Some(Row::Uncertain { fence }), [Err(R::GivenUp), completed(), Err(R::GivenUp), Err(R::GivenUp)]);
    check(Some(Row::Uncertain { fence: Fence(4) }), [R::GivenUp; 4].map(Err));
}
