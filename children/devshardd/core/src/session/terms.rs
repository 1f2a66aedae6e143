//! What a session is bound to when it begins: its owner, the members of its group, its price.
//!
//! Must not live here: where that is known from.

use serde::{Deserialize, Serialize};

use crate::auth::Address;
use crate::ids::{EscrowId, InferenceId};

/// Members of a group, at most.
pub const MEMBERS: usize = 128;
/// The upstream's composition of the state that this build has.
pub const PROTOCOL: &str = "v4.1";

/// A place in the group, from 0 on. One member may have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u32);

/// Everything that a session is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub escrow: EscrowId,
    pub creator: Address,
    /// What the escrow holds, in the chain's smallest unit.
    pub amount: u64,
    pub terms: Terms,
    pub group: Group,
}

/// Prices, rates and times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Terms {
    /// The name of the composition, which is part of the state.
    pub protocol: String,
    /// For each token that goes in or comes out.
    pub token_price: u64,
    pub create_fee: u64,
    pub fee_per_nonce: u64,
    /// Steps, at most.
    pub max_nonce: u64,
    /// Votes that are not enough; `None`: half of the group.
    pub vote_threshold: Option<u32>,
    /// How many of the inferences are checked, in ten-thousandths.
    pub validation_rate: u32,
    /// Seconds from the start of an inference, after which it may be called refused.
    pub refusal_timeout_s: u32,
    /// Seconds from the receipt of an inference, after which it may be called not finished.
    pub execution_timeout_s: u32,
    /// Steps from the start of an inference, after which it may be sealed; `None`: the size of the group, 20 at least.
    pub seal_grace_nonces: Option<u32>,
    /// Seconds from its receipt, after which one that nobody has checked may be.
    pub seal_grace_s: u32,
    /// Between two looks at what may be sealed, in steps.
    pub seal_every: u32,
}

/// Who executes and checks, in the order of the slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Member>", into = "Vec<Member>")]
pub struct Group(Vec<Member>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub address: Address,
    /// Another account that may sign for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_key: Option<Address>,
}

/// Why nothing can be bound so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    #[error("a group has 1 to {MEMBERS} members, and this one {0}")]
    Group(usize),
    #[error("the escrow holds {amount}, and its session costs {fee} before it begins")]
    Fee { amount: u64, fee: u64 },
}

impl TermsError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            TermsError::Group(_) => "group_size",
            TermsError::Fee { .. } => "create_fee",
        }
    }
}

impl Default for Terms {
    /// As the upstream has it where the chain says nothing.
    fn default() -> Terms {
        Terms {
            protocol: PROTOCOL.to_owned(),
            token_price: 1,
            create_fee: 10_000,
            fee_per_nonce: 1_000,
            max_nonce: 20_000,
            vote_threshold: None,
            validation_rate: 5_000,
            refusal_timeout_s: 60,
            execution_timeout_s: 1_200,
            seal_grace_nonces: None,
            seal_grace_s: 3_600,
            seal_every: 150,
        }
    }
}

impl Terms {
    /// Those of a session that nobody pays for.
    #[must_use]
    pub fn free() -> Terms {
        Terms { token_price: 0, create_fee: 0, fee_per_nonce: 0, max_nonce: u64::MAX, ..Terms::default() }
    }
}

impl Binding {
    /// Checks it.
    pub fn new(
        escrow: EscrowId,
        creator: Address,
        amount: u64,
        terms: Terms,
        group: Group,
    ) -> Result<Binding, TermsError> {
        let fee = terms.create_fee;
        if amount < fee {
            return Err(TermsError::Fee { amount, fee });
        }
        Ok(Binding { escrow, creator, amount, terms, group })
    }

    /// Votes that are not enough.
    #[must_use]
    pub fn vote_threshold(&self) -> u32 {
        self.terms.vote_threshold.unwrap_or_else(|| self.group.size() / 2)
    }

    /// Steps from the start of an inference to its seal, at least.
    #[must_use]
    pub fn seal_grace_nonces(&self) -> u64 {
        u64::from(self.terms.seal_grace_nonces.unwrap_or_else(|| self.group.size().max(20)))
    }
}

impl Group {
    pub fn new(members: Vec<Member>) -> Result<Group, TermsError> {
        if (1..=MEMBERS).contains(&members.len()) { Ok(Group(members)) } else { Err(TermsError::Group(members.len())) }
    }

    /// Of one member alone.
    #[must_use]
    pub fn alone(address: Address) -> Group {
        Group(vec![Member { address, warm_key: None }])
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// It has at least one member.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many slots there are.
    #[must_use]
    pub fn size(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        (0..self.size()).map(Slot)
    }

    #[must_use]
    pub fn member(&self, slot: Slot) -> Option<&Member> {
        self.0.get(usize::try_from(slot.0).ok()?)
    }

    /// Who runs an inference: the members take turns.
    #[must_use]
    pub fn executor(&self, inference: InferenceId) -> Slot {
        // The remainder is below the size, which is a u32.
        Slot(u32::try_from(inference.0 % u64::from(self.size())).unwrap_or_default())
    }

    /// The slots of the member that has this one, itself included. What a member says counts once for each.
    pub fn slots_beside(&self, slot: Slot) -> impl Iterator<Item = Slot> {
        let address = self.member(slot).map(|member| &member.address);
        self.slots().filter(move |other| self.member(*other).map(|member| &member.address) == address)
    }

    /// How many those are.
    #[must_use]
    pub fn weight(&self, slot: Slot) -> u32 {
        u32::try_from(self.slots_beside(slot).count()).unwrap_or(u32::MAX)
    }

    /// Whether somebody signs for a member with another key.
    #[must_use]
    pub fn has_warm_keys(&self) -> bool {
        self.0.iter().any(|member| member.warm_key.is_some())
    }
}

impl TryFrom<Vec<Member>> for Group {
    type Error = TermsError;

    fn try_from(members: Vec<Member>) -> Result<Group, TermsError> {
        Group::new(members)
    }
}

impl From<Group> for Vec<Member> {
    fn from(group: Group) -> Vec<Member> {
        group.0
    }
}
