//! A session's history: one diff for each nonce, without a hole, never two different ones (failure mode S03).
//!
//! [`plan`] says what a diff is beside what is stored; the caller stores it, and only what [`Planned::stored`] gives
//! back is the new head. So memory never knows what the place of record does not.

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
    state_hash: [u8; 32],
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
            Ok(Plan::Append(Planned { diff, state_hash: state_hash(head.state_hash, diff) }))
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
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn diff(nonce: u64, text: &str) -> Diff {
        let bytes = text.as_bytes().to_vec();
        Diff { nonce: Nonce(nonce), txs: bytes.clone(), user_sig: bytes.clone(), post_state_root: bytes }
    }

    /// A history as the place of record and a host have it.
    struct History {
        head: Head,
        stored: BTreeMap<u64, Diff>,
    }

    impl History {
        fn append(&mut self, diff: &Diff) -> Result<bool, DiffError> {
            match plan(self.head, diff)? {
                Plan::Append(planned) => {
                    self.stored.insert(diff.nonce.0, diff.clone());
                    self.head = planned.stored();
                    Ok(true)
                }
                Plan::Compare => compare(&self.stored[&diff.nonce.0], diff).map(|_| false),
                Plan::Already => Ok(false),
            }
        }
    }

    proptest! {
        /// S03: whatever comes in whatever order, a nonce keeps its first bytes and no nonce is skipped.
        #[test]
        fn s03_a_nonce_keeps_its_first_bytes(given in prop::collection::vec((0_u64..8, "[ab]"), 0..40)) {
            let mut history = History { head: Head::START, stored: BTreeMap::new() };
            let mut model: Vec<String> = Vec::new();
            for (nonce, text) in given {
                let said = history.append(&diff(nonce, &text));
                let latest = model.len() as u64;
                let expected = match nonce {
                    0 => Err(DiffError::Zero),
                    nonce if nonce > latest + 1 => Err(DiffError::Gap { latest: Nonce(latest), got: Nonce(nonce) }),
                    nonce if nonce == latest + 1 => {
                        model.push(text);
                        Ok(true)
                    }
                    nonce if model[usize::try_from(nonce).unwrap() - 1] == text => Ok(false),
                    nonce => Err(DiffError::Fork(Nonce(nonce))),
                };
                prop_assert_eq!(said, expected);
                prop_assert_eq!(history.head.nonce.0, model.len() as u64);
            }
        }
    }

    #[test]
    fn the_state_depends_on_everything_before_it() {
        let after = |texts: &[&str]| {
            let mut history = History { head: Head::START, stored: BTreeMap::new() };
            for (at, text) in texts.iter().enumerate() {
                history.append(&diff(at as u64 + 1, text)).unwrap();
            }
            history.head.state_hash
        };
        assert_eq!(after(&["a", "b"]), after(&["a", "b"]));
        assert_ne!(after(&["a", "b"]), after(&["b", "b"]));
        assert_ne!(after(&["a"]), Head::START.state_hash);
    }
}
