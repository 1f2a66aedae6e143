//! Which inferences of others a member checks. Each draws by itself, from a seed that nobody else knows before.
//!
//! Must not live here: how an inference is checked.

use sha2::{Digest as _, Sha256};

use super::State;
use super::inference::Status;
use super::terms::Slot;
use crate::auth::Key;
use crate::ids::{EscrowId, InferenceId};

/// What a member draws by: of its signature of the session's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(i64);

impl Seed {
    /// Of this member in this session.
    #[must_use]
    pub fn of(key: &Key, escrow: &EscrowId) -> Seed {
        let signature = key.sign_message(escrow.as_str().as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&signature[..8]);
        // The upstream's numbers are positive and have a sign.
        let seed = i64::from_be_bytes(first) & i64::MAX;
        Seed(seed.max(1))
    }

    #[cfg(test)]
    pub(super) const fn from_number(seed: i64) -> Seed {
        Seed(seed)
    }

    /// Whether the draw for an inference is won; the chance is `rate` ten-thousandths for the whole group without its
    /// executor, of which `mine` slots are the member's. Integers alone: everybody counts the same.
    #[must_use]
    pub fn draws(self, id: InferenceId, mine: u32, others: u32, rate: u32) -> bool {
        if others == 0 {
            return false;
        }
        let digest = Sha256::digest(format!("{}:{}", self.0, id.0));
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        let drawn = u64::from_be_bytes(first) >> 32;
        let (win, of) = (u64::from(rate) * u64::from(mine), u64::from(others) * 10_000);
        let chance = (u128::from(win) << 32) / u128::from(of);
        u128::from(drawn) < chance.min(1 << 32)
    }
}

impl State {
    /// The inferences that the member with these slots is to check: those that it has drawn, and all that somebody has
    /// called invalid.
    pub fn to_check<'a>(&'a self, mine: &'a [Slot], seed: Seed) -> impl Iterator<Item = InferenceId> + 'a {
        let group = &self.binding.group;
        let weight = u32::try_from(mine.len()).unwrap_or(u32::MAX);
        self.live().filter_map(move |(id, inference)| {
            let is_mine = mine.contains(&inference.executor);
            let has_spoken = mine.iter().any(|slot| inference.validated_by.contains(*slot));
            if mine.is_empty() || is_mine || has_spoken {
                return None;
            }
            let is_due = match inference.status {
                Status::Finished => {
                    let others = group.size().saturating_sub(group.weight(inference.executor));
                    seed.draws(id, weight, others, self.binding.terms.validation_rate)
                }
                Status::Challenged => true,
                Status::Pending | Status::Started | Status::Validated | Status::Invalidated | Status::TimedOut => false,
            };
            is_due.then_some(id)
        })
    }
}
