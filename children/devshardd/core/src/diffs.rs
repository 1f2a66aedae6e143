//! A session's history: one diff for each nonce, without a hole, never two different ones (failure mode S03).
//!
//! [`Log`] is what a host remembers of one. [`Log::plan`] says what a diff is beside what is stored; the caller stores
//! it and says so by [`Log::persisted`], and that alone moves the head. So memory never knows what the place of record
//! does not. A host that others have overtaken reads what it lacks and hands it to [`Log::loaded`].
//!
//! Must not live here: the place of record, and what transactions mean.

use std::ops::RangeInclusive;

use sha2::{Digest as _, Sha256};

use crate::ids::Nonce;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    pub nonce: Nonce,
    pub txs: Vec<u8>,
    pub user_sig: Vec<u8>,
    pub post_state_root: Vec<u8>,
}

/// Where a history ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub nonce: Nonce,
    pub state_hash: [u8; 32],
}

/// Why a diff cannot be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    #[error("diff {0} is stored with other bytes")]
    Fork(Nonce),
    #[error("diff {got} follows diff {latest}: those between are missing")]
    Gap { latest: Nonce, got: Nonce },
    #[error("diff 0 is the beginning of every history")]
    Zero,
}

/// Why a log does not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Diff(#[from] DiffError),
    #[error("diff {0} is stored with a state that does not follow from the one before")]
    State(Nonce),
    #[error("diff {planned} was planned behind another diff than {latest}")]
    Moved { planned: Nonce, latest: Nonce },
}

impl DiffError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            DiffError::Fork(_) => "diff_fork",
            DiffError::Gap { .. } => "diff_gap",
            DiffError::Zero => "diff_zero",
        }
    }

    /// Which diffs are to be read from the place of record before this one can be judged.
    #[must_use]
    pub const fn missing(&self) -> Option<RangeInclusive<u64>> {
        match self {
            DiffError::Gap { latest, got } => Some(latest.0 + 1..=got.0 - 1),
            DiffError::Fork(_) | DiffError::Zero => None,
        }
    }
}

impl LogError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            LogError::Diff(error) => error.code(),
            LogError::State(_) => "diff_state_differs",
            LogError::Moved { .. } => "diff_log_moved",
        }
    }
}

/// What is to be done about a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan<'a> {
    /// The same is stored.
    Already,
    /// Store it.
    Append(Planned<'a>),
    /// It is older than the head: what is stored for its nonce must be looked at ([`compare`]).
    Compare,
}

/// A diff that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what is planned is not stored"]
pub struct Planned<'a> {
    diff: &'a Diff,
    behind: Head,
    state_hash: [u8; 32],
}

/// The history of one session, as far as this host knows that it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    head: Head,
}

impl Log {
    /// A history that ends here.
    #[must_use]
    pub const fn ending_at(head: Head) -> Self {
        Self { head }
    }

    /// Where it ends.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// What a diff is to this history; see [`plan`].
    pub fn plan<'a>(&self, diff: &'a Diff) -> Result<Plan<'a>, DiffError> {
        plan(self.head, diff)
    }

    /// A planned diff has been stored. Refused when the history has moved since: two were planned side by side, and
    /// the place of record has told which is stored.
    pub fn persisted(&mut self, planned: Planned<'_>) -> Result<Head, LogError> {
        if planned.behind != self.head {
            return Err(LogError::Moved { planned: planned.diff.nonce, latest: self.head.nonce });
        }
        self.head = planned.stored();
        Ok(self.head)
    }

    /// The next diff was read from the place of record, with the state that is stored beside it: nothing is to be
    /// stored. A state that does not follow from ours tells of a place of record that is not the one we knew.
    pub fn loaded(&mut self, diff: &Diff, state_hash: &[u8; 32]) -> Result<Head, LogError> {
        let planned = match self.plan(diff)? {
            Plan::Append(planned) => planned,
            Plan::Already | Plan::Compare => {
                return Err(LogError::Moved { planned: diff.nonce, latest: self.head.nonce });
            }
        };
        if planned.state_hash != *state_hash {
            return Err(LogError::State(diff.nonce));
        }
        self.persisted(planned)
    }
}

impl Head {
    /// Of a session that has just begun.
    pub const START: Head = Head { nonce: Nonce(0), state_hash: [0; 32] };
}

impl Planned<'_> {
    /// The diff itself.
    #[must_use]
    pub const fn diff(&self) -> &Diff {
        self.diff
    }

    /// The state behind it.
    #[must_use]
    pub const fn state_hash(&self) -> [u8; 32] {
        self.state_hash
    }

    /// It has been stored: the new head.
    #[must_use]
    pub const fn stored(self) -> Head {
        Head { nonce: self.diff.nonce, state_hash: self.state_hash }
    }
}

/// What a diff is to a history that ends at `head`.
pub fn plan(head: Head, diff: &Diff) -> Result<Plan<'_>, DiffError> {
    match diff.nonce.0 {
        0 => Err(DiffError::Zero),
        nonce if nonce <= head.nonce.0 => Ok(Plan::Compare),
        nonce if nonce == head.nonce.0 + 1 => {
            Ok(Plan::Append(Planned { diff, behind: head, state_hash: state_hash(head.state_hash, diff) }))
        }
        _ => Err(DiffError::Gap { latest: head.nonce, got: diff.nonce }),
    }
}

/// Whether this is what is stored for its nonce.
pub fn compare<'a>(stored: &Diff, diff: &Diff) -> Result<Plan<'a>, DiffError> {
    if stored == diff { Ok(Plan::Already) } else { Err(DiffError::Fork(diff.nonce)) }
}

fn state_hash(before: [u8; 32], diff: &Diff) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(diff.nonce.0.to_be_bytes());
    // Lengths keep two parts from being cut otherwise.
    for part in [&diff.txs, &diff.post_state_root] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
#[path = "diffs_tests.rs"]
mod tests;
