//! Any interleaving of hosts that claim, call, store, crash and lose their leases, over one row.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What one host does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Asks for the inference and acts on the answer.
    Ask,
    Dispatch,
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
    is_leased: bool,
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
}

/// Whether the row is heeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Heeded,
    /// The sabotage: everybody may.
    Ignored,
}

fn owner(host: usize, life: u32) -> OwnerId {
    format!("host-{host}.{life}").parse().unwrap()
}

fn play(acts: &[(usize, Act)], policy: Policy) -> Seen {
    let mut seen = Seen::default();
    let (mut row, mut now): (Option<Row>, u64) = (None, 0);
    let mut hosts: Vec<Host> =
        (0..3).map(|host| Host { owner: owner(host, 0), lives: 0, holds: None, is_leased: true }).collect();
    for (at, act) in acts {
        let is_alive = row
            .as_ref()
            .and_then(Row::owner)
            .is_some_and(|owner| hosts.iter().any(|host| host.owner == *owner && host.is_leased));
        let host = &mut hosts[*at];
        match act {
            Act::Ask if host.holds.is_none() => {
                let asked = if policy == Policy::Ignored { None } else { row.as_ref() };
                match decide(asked, is_alive, &host.owner, now) {
                    Decision::Take { fence } => {
                        let holder = Holder { owner: host.owner.clone(), fence };
                        row = Some(Row::Claimed { holder: holder.clone(), since_ms: now });
                        host.holds = Some(holder);
                        seen.fences.push(fence);
                    }
                    Decision::GiveUp { fence } => row = Some(Row::Uncertain { fence }),
                    Decision::Wait { .. } | Decision::Replay | Decision::GivenUp => {}
                }
            }
            Act::Dispatch => {
                let Some(holder) = host.holds.clone() else { continue };
                match dispatch(row.as_ref(), &holder) {
                    Ok(next) => {
                        row = Some(next);
                        seen.called.push(holder.fence);
                    }
                    Err(Refused::Dispatched) => {}
                    Err(_) => host.holds = None,
                }
            }
            Act::Complete => {
                let Some(holder) = host.holds.clone() else { continue };
                match complete(row.as_ref(), &holder) {
                    Ok(next) => {
                        row = Some(next);
                        seen.stored.push(holder.fence);
                        host.holds = None;
                    }
                    Err(Refused::NotDispatched) => {}
                    Err(_) => host.holds = None,
                }
            }
            Act::Abandon => {
                let Some(holder) = host.holds.take() else { continue };
                // What the model refused it has not run, whatever becomes of the row.
                seen.refused.insert(holder.fence);
                if let Ok(next) = abandon(row.as_ref(), &holder) {
                    row = Some(next);
                }
            }
            Act::GiveUp => {
                let Some(holder) = host.holds.clone() else { continue };
                match give_up(row.as_ref(), &holder) {
                    Ok(next) => {
                        row = Some(next);
                        host.holds = None;
                    }
                    Err(Refused::NotDispatched) => {}
                    Err(_) => host.holds = None,
                }
            }
            Act::Crash => {
                host.lives += 1;
                *host = Host { owner: owner(*at, host.lives), lives: host.lives, holds: None, is_leased: true };
            }
            Act::LoseLease => host.is_leased = false,
            Act::RenewLease => host.is_leased = true,
            Act::Minute => now += 60_000,
            Act::Ask => {}
        }
    }
    seen
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
    Ok(())
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![
        4 => Just(Act::Ask),
        4 => Just(Act::Dispatch),
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

#[test]
fn without_claims_it_would_run_twice() {
    let acts = [(0, Act::Ask), (0, Act::Dispatch), (1, Act::Ask), (1, Act::Dispatch)];
    assert_eq!(judged(&play(&acts, Policy::Heeded)), Ok(()));
    assert!(judged(&play(&acts, Policy::Ignored)).is_err());
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
