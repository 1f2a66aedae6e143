//! Who checks an inference: one host at a time, and none after it is done.
//!
//! A lease in the place of record; whoever asks holds its row from the question to the answer, and takes the time from
//! there too.
//!
//! Must not live here: what a check is, the place of record, and how a result gets to the chain.

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

impl Refused {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Refused::NoLease => "validation_no_lease",
            Refused::NotYours => "validation_not_yours",
            Refused::Done => "validation_done",
        }
    }
}

/// What `me` does about an inference of `epoch`; `chain` is the epoch that runs, `ttl_ms` how long a lease is believed.
#[must_use]
pub fn acquire(lease: Option<&Lease>, epoch: Epoch, chain: Epoch, me: &OwnerId, now_ms: u64, ttl_ms: u64) -> Acquire {
    let is_over = chain > epoch;
    match lease.map(|lease| &lease.status) {
        Some(Status::Submitted | Status::Skipped) => Acquire::Done,
        None | Some(Status::Pending { .. }) if is_over => Acquire::Skip,
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
#[path = "validation_tests.rs"]
mod tests;
