use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

const TTL: u64 = 1_000;

fn owner(name: &str) -> OwnerId {
    name.parse().unwrap()
}

fn pending(name: &str, since_ms: u64) -> Lease {
    Lease { epoch: Epoch(5), status: Status::Pending { owner: owner(name), since_ms } }
}

#[test]
fn one_checks_at_a_time_and_what_is_left_lying_is_taken_over() {
    let me = owner("me");
    let done = |status| Lease { epoch: Epoch(5), status };
    for (lease, chain, now, expected) in [
        (None, 5, 0, Acquire::Insert),
        (None, 6, 0, Acquire::Skip),
        (Some(pending("me", 0)), 5, 9_000, Acquire::Mine),
        (Some(pending("you", 100)), 5, 1_099, Acquire::Held),
        (Some(pending("you", 100)), 5, 1_100, Acquire::TakeOver),
        (Some(pending("you", 100)), 6, 100, Acquire::Skip),
        // A clock that went back takes nothing over.
        (Some(pending("you", 100)), 5, 0, Acquire::Held),
        (Some(done(Status::Submitted)), 5, 9_000, Acquire::Done),
        (Some(done(Status::Submitted)), 6, 9_000, Acquire::Done),
        (Some(done(Status::Skipped)), 6, 9_000, Acquire::Done),
    ] {
        let said = acquire(lease.as_ref(), Epoch(5), Epoch(chain), &me, now, TTL);
        assert_eq!(said, expected, "{lease:?} at {now} in epoch {chain}");
    }
}

#[test]
fn a_result_comes_from_its_holder_alone() {
    let me = owner("me");
    assert_eq!(submit(Some(&pending("me", 0)), &me), Ok(Status::Submitted));
    assert_eq!(submit(Some(&pending("you", 0)), &me), Err(Refused::NotYours));
    assert_eq!(submit(None, &me), Err(Refused::NoLease));
    for status in [Status::Submitted, Status::Skipped] {
        let lease = Lease { epoch: Epoch(5), status };
        assert_eq!(submit(Some(&lease), &me), Err(Refused::Done));
        assert_eq!(release(Some(&lease), &me), Err(Refused::Done));
    }
    assert_eq!(release(Some(&pending("you", 0)), &me), Err(Refused::NotYours));
    assert_eq!(release(None, &me), Err(Refused::NoLease));
    assert_eq!(release(Some(&pending("me", 0)), &me), Ok(()));
}

/// What one of three hosts does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    Ask,
    Submit,
    Release,
    /// Time passes, in milliseconds.
    Pass(u64),
    /// The chain comes to its next epoch.
    NextEpoch,
}

/// What should be stored, told in the simplest words: who checks since when, or that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    Nobody,
    Checks { host: usize, since_ms: u64 },
    Submitted,
    Skipped,
}

/// Plays it, and says where the rules and the model part. `is_heeded`: whether a result is asked who it comes from.
fn play(acts: &[(usize, Act)], is_heeded: bool) -> Result<(), String> {
    let hosts = ["a", "b", "c"].map(owner);
    let (epoch, mut chain, mut now) = (Epoch(5), 5, 0);
    let (mut lease, mut model): (Option<Lease>, _) = (None, Model::Nobody);
    let mut results = Vec::new();
    for (host, act) in acts {
        let me = &hosts[*host];
        match act {
            Act::Ask => {
                let pending = Some(Lease { epoch, status: Status::Pending { owner: me.clone(), since_ms: now } });
                match acquire(lease.as_ref(), epoch, Epoch(chain), me, now, TTL) {
                    Acquire::Insert if lease.is_none() => lease = pending,
                    Acquire::TakeOver if lease.is_some() => lease = pending,
                    Acquire::Skip => lease = Some(Lease { epoch, status: Status::Skipped }),
                    Acquire::Mine | Acquire::Held | Acquire::Done => {}
                    wrong @ (Acquire::Insert | Acquire::TakeOver) => return Err(format!("{wrong:?} of {lease:?}")),
                }
                model = match model {
                    Model::Nobody | Model::Checks { .. } if chain > 5 => Model::Skipped,
                    Model::Nobody => Model::Checks { host: *host, since_ms: now },
                    Model::Checks { host: other, since_ms } if other != *host && now >= since_ms + TTL => {
                        Model::Checks { host: *host, since_ms: now }
                    }
                    kept @ (Model::Checks { .. } | Model::Submitted | Model::Skipped) => kept,
                };
            }
            Act::Submit => {
                let said = if is_heeded { submit(lease.as_ref(), me) } else { Ok(Status::Submitted) };
                if let Ok(status) = said {
                    lease = Some(Lease { epoch, status });
                    results.push(*host);
                }
                if matches!(model, Model::Checks { host: holder, .. } if holder == *host) {
                    model = Model::Submitted;
                }
            }
            Act::Release => {
                if release(lease.as_ref(), me).is_ok() {
                    lease = None;
                }
                if matches!(model, Model::Checks { host: holder, .. } if holder == *host) {
                    model = Model::Nobody;
                }
            }
            Act::Pass(ms) => now += ms,
            Act::NextEpoch => chain += 1,
        }
        let stored = match lease.as_ref().map(|lease| &lease.status) {
            None => Model::Nobody,
            Some(Status::Pending { owner, since_ms }) => {
                let host = hosts.iter().position(|host| host == owner);
                Model::Checks { host: host.ok_or("a stranger")?, since_ms: *since_ms }
            }
            Some(Status::Submitted) => Model::Submitted,
            Some(Status::Skipped) => Model::Skipped,
        };
        if stored != model || results.len() > 1 {
            return Err(format!("{stored:?} and not {model:?} after {act:?}, results of {results:?}"));
        }
    }
    Ok(())
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![
        5 => Just(Act::Ask),
        2 => Just(Act::Submit),
        1 => Just(Act::Release),
        3 => prop_oneof![Just(TTL - 1), Just(TTL), 0..TTL].prop_map(Act::Pass),
        1 => Just(Act::NextEpoch),
    ];
    prop::collection::vec((0_usize..3, act), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_hosts_do_one_checks_and_one_result_is_sent(acts in acts()) {
        prop_assert_eq!(play(&acts, true), Ok(()));
    }
}

/// The property is one that can fail.
#[test]
fn without_an_owner_of_results_there_would_be_several() {
    let found = TestRunner::deterministic().run(&acts(), |acts| {
        prop_assert!(play(&acts, false).is_ok());
        Ok(())
    });
    assert!(found.is_err());
}
