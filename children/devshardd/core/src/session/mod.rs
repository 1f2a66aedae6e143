//! What a session is worth and how far it is: the state that its owner and the members of its group agree on.
//!
//! [`State::after`] is the one way forward: a signed step and the state before it give the state behind it, or a
//! typed reason why not. Everybody who takes the same steps has the same state, to the byte of its [`State::root`],
//! which members sign and the chain settles by. The composition is the upstream's of its version 4.1.
//!
//! `terms` is what a session is bound to, `inference` one record of it, `apply` has one function for each transaction,
//! `seal` folds what is over into one hash, `root` is the hash of it all, `owed` what a member has to say, `judge` what
//! it thinks of a timeout, `duty` which inferences it checks, `plan` what is to be stored.
//!
//! Must not live here: storage, clocks, who asked. Time is that of the steps.

mod apply;
pub mod duty;
pub mod inference;
pub mod judge;
pub mod owed;
pub mod plan;
mod root;
mod seal;
pub mod terms;

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;

use crate::auth::{self, Address};
use crate::diffs::Diff;
use crate::ids::{EscrowId, InferenceId, Nonce};
use crate::wire::{Content, Kind, WireError};

pub use apply::TxError;
pub use inference::{Inference, Status};
pub use terms::{Binding, Group, Member, Slot, Terms, TermsError};

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It takes inferences.
    Active,
    /// Its owner has said that it is the end; members say what they still owe.
    Finalizing { since: Nonce },
    /// It is what the chain settles.
    Settlement,
}

/// What a member has done, by its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    pub missed: u32,
    pub invalid: u32,
    /// What it has earned.
    pub cost: u64,
}

/// Whose word the signatures in a step are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The step has just come: every signature is checked.
    Nobody,
    /// It was checked before it was stored.
    Stored,
}

/// A session behind a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    binding: Arc<Binding>,
    latest: Nonce,
    phase: Phase,
    balance: u64,
    fees: u64,
    /// Shared with the states before: a step changes a few of many.
    live: BTreeMap<InferenceId, Arc<Inference>>,
    stats: Vec<Stats>,
    /// Keys that have signed for a member, by slot.
    warm: BTreeMap<Slot, Address>,
    sealed: [u8; 32],
}

/// Why a step is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("step {got} follows step {latest}: it is not the next")]
    NotNext { latest: Nonce, got: Nonce },
    #[error("step {0}: its transactions cannot be read")]
    Wire(Nonce, #[source] WireError),
    #[error("step {0}: its transactions are those of step {1}")]
    OtherNonce(Nonce, u64),
    #[error("step {0}: it is not signed by the owner of the session")]
    NotSigned(Nonce),
    #[error("step {0}: the session may have {1} steps")]
    TooMany(Nonce, u64),
    #[error("step {0}: it asks for more than one inference")]
    TwoStarts(Nonce),
    #[error("step {nonce}, transaction {at} ({kind})")]
    Tx {
        nonce: Nonce,
        /// From 0 on.
        at: usize,
        kind: &'static str,
        #[source]
        source: TxError,
    },
    #[error("step {0}: the fee of a step is more than what is left")]
    Fee(Nonce),
    #[error("step {nonce}: the owner says that the state behind it is {said}, and it is {computed}")]
    OtherRoot { nonce: Nonce, said: String, computed: String },
}

impl StepError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            StepError::NotNext { .. } => "step_not_next",
            StepError::Wire(..) => "step_unreadable",
            StepError::OtherNonce(..) => "step_other_nonce",
            StepError::NotSigned(_) => "step_not_signed",
            StepError::TooMany(..) => "step_too_many",
            StepError::TwoStarts(_) => "step_two_starts",
            StepError::Tx { source, .. } => source.code(),
            StepError::Fee(_) => "step_fee",
            StepError::OtherRoot { .. } => "step_other_root",
        }
    }
}

impl State {
    /// A session that has just begun.
    #[must_use]
    pub fn begin(binding: Binding) -> State {
        let stats = vec![Stats::default(); binding.group.len()];
        let fees = binding.terms.create_fee;
        State {
            // That the fee can be paid is what a binding is checked for.
            balance: binding.amount.saturating_sub(fees),
            binding: Arc::new(binding),
            latest: Nonce(0),
            phase: Phase::Active,
            fees,
            live: BTreeMap::new(),
            stats,
            warm: BTreeMap::new(),
            sealed: [0; 32],
        }
    }

    /// The state behind this step.
    pub fn after(&self, diff: &Diff, trust: Trust) -> Result<State, StepError> {
        let nonce = diff.nonce;
        if Some(nonce.0) != self.latest.0.checked_add(1) {
            return Err(StepError::NotNext { latest: self.latest, got: nonce });
        }
        let content = Content::read(&diff.txs).map_err(|error| StepError::Wire(nonce, error))?;
        if content.nonce != nonce.0 || !content.escrow_id.is_empty() || !content.post_state_root.is_empty() {
            return Err(StepError::OtherNonce(nonce, content.nonce));
        }
        let content = signed_content(content, &self.binding.escrow, diff);
        match trust {
            Trust::Nobody => self.check_owner(&content, diff)?,
            Trust::Stored => {}
        }
        if nonce.0 > self.binding.terms.max_nonce {
            return Err(StepError::TooMany(nonce, self.binding.terms.max_nonce));
        }
        let next = self.taken(nonce, &content, trust)?;
        let root = next.root();
        if !diff.post_state_root.is_empty() && diff.post_state_root != root {
            let (said, computed) = (hex::encode(&diff.post_state_root), hex::encode(root));
            return Err(StepError::OtherRoot { nonce, said, computed });
        }
        Ok(next)
    }

    fn check_owner(&self, content: &Content, diff: &Diff) -> Result<(), StepError> {
        let signer = auth::recover_message(&content.encode_to_vec(), &diff.user_sig);
        if signer.as_ref() == Some(&self.binding.creator) { Ok(()) } else { Err(StepError::NotSigned(diff.nonce)) }
    }

    fn taken(&self, nonce: Nonce, content: &Content, trust: Trust) -> Result<State, StepError> {
        let starts = content.txs.iter().filter(|tx| matches!(tx.kind, Some(Kind::Start(_)))).count();
        if starts > 1 {
            return Err(StepError::TwoStarts(nonce));
        }
        let mut next = self.clone();
        for (at, tx) in content.txs.iter().enumerate() {
            next.apply(nonce, tx, trust).map_err(|source| StepError::Tx {
                nonce,
                at,
                kind: apply::name(tx),
                source,
            })?;
        }
        match next.phase {
            Phase::Active => {
                let fee = next.binding.terms.fee_per_nonce;
                next.balance = next.balance.checked_sub(fee).ok_or(StepError::Fee(nonce))?;
                next.fees = next.fees.saturating_add(fee);
                next.latest = nonce;
                next.seal_what_is_over();
            }
            Phase::Finalizing { since } => {
                next.latest = nonce;
                let members = u64::try_from(next.binding.group.len()).unwrap_or(u64::MAX);
                if nonce.0 >= since.0.saturating_add(members) {
                    next.phase = Phase::Settlement;
                    next.seal_everything();
                }
            }
            Phase::Settlement => next.latest = nonce,
        }
        Ok(next)
    }

    /// The last step that was taken.
    #[must_use]
    pub const fn latest(&self) -> Nonce {
        self.latest
    }

    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// What it is bound to.
    #[must_use]
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// What its owner has left, in the chain's smallest unit.
    #[must_use]
    pub const fn balance(&self) -> u64 {
        self.balance
    }

    /// What has been charged beside the inferences.
    #[must_use]
    pub const fn fees(&self) -> u64 {
        self.fees
    }

    /// What the members have done, by slot.
    #[must_use]
    pub fn stats(&self) -> &[Stats] {
        &self.stats
    }

    /// An inference that is not sealed.
    #[must_use]
    pub fn inference(&self, id: InferenceId) -> Option<&Inference> {
        self.live.get(&id).map(AsRef::as_ref)
    }

    /// All of them, in order.
    pub fn live(&self) -> impl Iterator<Item = (InferenceId, &Inference)> {
        self.live.iter().map(|(id, inference)| (*id, inference.as_ref()))
    }

    /// Whether this account may speak for the member of a slot: it is the member, or a key that the member has named.
    #[must_use]
    pub fn speaks_for(&self, account: &Address, slot: Slot) -> bool {
        let Some(member) = self.binding.group.member(slot) else { return false };
        member.address == *account
            || self.warm.get(&slot).map_or_else(|| member.warm_key.as_ref(), Some) == Some(account)
    }

    /// Whether this account is a member of the group, or speaks for one.
    #[must_use]
    pub fn is_member(&self, account: &Address) -> bool {
        self.binding.group.slots().any(|slot| self.speaks_for(account, slot))
    }

    /// The slots that this account speaks for.
    #[must_use]
    pub fn slots_of(&self, account: &Address) -> Vec<Slot> {
        self.binding.group.slots().filter(|slot| self.speaks_for(account, *slot)).collect()
    }
}

/// As the owner signs it: with the escrow and the state behind it.
fn signed_content(content: Content, escrow: &EscrowId, diff: &Diff) -> Content {
    Content { escrow_id: escrow.to_string(), post_state_root: diff.post_state_root.clone(), ..content }
}

#[cfg(test)]
#[path = "../session_tests.rs"]
mod tests;
