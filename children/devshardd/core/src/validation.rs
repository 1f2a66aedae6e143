//! Who checks an inference: one host at a time, and none after it is done.
//!
//! A lease in the place of record; whoever asks holds its row from the question to the answer, and takes the time from
//! there too.

use crate::ids::{Epoch, OwnerId};

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub epoch: Epoch,
    pub status: Status,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Somebody checks it.
    Pending { owner: OwnerId, since_ms: u64 },
    /// The result is on its way to the chain.
    Submitted,
    /// The epoch is over.
    Skipped,
}

/// What whoever asks does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquire {
    /// Write a new lease.
    Insert,
    /// Write the lease in the place of one that was left lying.
    TakeOver,
    /// It is held by whoever asks.
    Mine,
    /// Another checks it.
    Held,
    /// Nothing is to be done any more.
    Done,
    /// The epoch of the lease is over: write [`Status::Skipped`].
    Skip,
}

/// Why a result is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no lease")]
    NoLease,
    #[error("another has taken over")]
    NotYours,
    #[error("it is done")]
    Done,
}

/// What `me` does about an inference of `epoch`; `chain` is the epoch that runs, `ttl_ms` how long a lease is believed.
#[must_use]
pub fn acquire(lease: Option<&Lease>, epoch: Epoch, chain: Epoch, me: &OwnerId, now_ms: u64, ttl_ms: u64) -> Acquire {
    let is_over = chain > epoch;
    match lease.map(|lease| &lease.status) {
        Some(Status::Submitted | Status::Skipped) => Acquire::Done,
        _ if is_over => Acquire::Skip,
        None => Acquire::Insert,
        Some(Status::Pending { owner, .. }) if owner == me => Acquire::Mine,
        Some(Status::Pending { since_ms, .. }) if now_ms.saturating_sub(*since_ms) >= ttl_ms => Acquire::TakeOver,
        Some(Status::Pending { .. }) => Acquire::Held,
    }
}

/// The result of a check comes: what is stored then.
pub fn submit(lease: Option<&Lease>, me: &OwnerId) -> Result<Status, Refused> {
    match &lease.ok_or(Refused::NoLease)?.status {
        Status::Pending { owner, .. } if owner == me => Ok(Status::Submitted),
        Status::Pending { .. } => Err(Refused::NotYours),
        Status::Submitted | Status::Skipped => Err(Refused::Done),
    }
}

/// Whether `me` may delete the lease, so that another begins at once.
pub fn release(lease: Option<&Lease>, me: &OwnerId) -> Result<(), Refused> {
    submit(lease, me).map(drop)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(release(Some(&Lease { epoch: Epoch(5), status: Status::Submitted }), &me), Err(Refused::Done));
        assert_eq!(release(Some(&pending("me", 0)), &me), Ok(()));
    }
}
