//! One member: where it is listed, how it is, and who it says it is.

use supervisor_protocol::{BootNonce, Tick};

use super::answer::Answer;
use super::health::{Health, Said};
use super::identity::{Address, MemberId};
use super::listing::Listed;
use super::standing::{Scope, Standing};

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub listed: Listed,
    pub health: Health,
    pub(super) presence: Presence,
    pub(super) identity: Identity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Listed,
    /// DNS has left it out once.
    Doubted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// It has not said. `remembered` is what the address was called before the router was restarted.
    Unsaid {
        remembered: Option<MemberId>,
    },
    In {
        id: MemberId,
        boot: Option<BootNonce>,
    },
    Out {
        id: MemberId,
        boot: Option<BootNonce>,
        conflict: Conflict,
    },
}

/// Why a member that answers is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// The configuration expects another host at this address.
    Mismatch { expected: MemberId },
    /// Another host of the same identity lives. This is the newcomer.
    Taken { by: Address },
    /// The same host is reached at another address already.
    SameHost { at: Address },
}

impl Member {
    /// Who it is, when it is let in.
    #[must_use]
    pub const fn id(&self) -> Option<&MemberId> {
        match &self.identity {
            Identity::In { id, .. } => Some(id),
            Identity::Unsaid { .. } | Identity::Out { .. } => None,
        }
    }

    /// The boot nonce by which it signs what it did not admit.
    #[must_use]
    pub const fn boot(&self) -> Option<&BootNonce> {
        match &self.identity {
            Identity::In { boot, .. } | Identity::Out { boot, .. } => boot.as_ref(),
            Identity::Unsaid { .. } => None,
        }
    }

    /// What it calls itself, and why it is not let in.
    #[must_use]
    pub const fn conflict(&self) -> Option<(&MemberId, &Conflict)> {
        match &self.identity {
            Identity::Out { id, conflict, .. } => Some((id, conflict)),
            Identity::Unsaid { .. } | Identity::In { .. } => None,
        }
    }

    /// How it stands towards a scope.
    #[must_use]
    pub fn standing(&self, scope: Scope<'_>) -> Standing {
        Standing::of(&self.health, scope)
    }

    /// Whether it can say for itself that it is drained.
    #[must_use]
    pub const fn has_a_word(&self) -> bool {
        self.boot().is_some()
    }

    /// Whether it speaks of versions at all.
    #[must_use]
    pub const fn has_versions(&self) -> bool {
        match self.health.said() {
            Some(Said::Host(_) | Said::Checks(_)) => true,
            Some(Said::Plain) | None => false,
        }
    }

    /// Takes in an answer; gives back what it calls itself by it, if it does.
    pub(super) fn hear(&mut self, answer: Answer, now: Tick) -> Option<(MemberId, Option<BootNonce>)> {
        let heard = match &self.health {
            Health::Answering { said, .. } => Some(said),
            Health::Unknown { .. } | Health::Silent { .. } => None,
        };
        match (answer, heard) {
            (Answer::Word(word), _) => {
                let called = (MemberId::from(&word.id), Some(word.boot.clone()));
                self.health.word(word, now);
                return Some(called);
            }
            (Answer::Checks(versions), None | Some(Said::Checks(_) | Said::Plain)) => {
                self.health.checks(versions, now);
            }
            (Answer::Connected, None | Some(Said::Plain)) => self.health.connected(),
            // Whoever speaks better than that has not become another one meanwhile, nor taken a word back.
            (Answer::Checks(_), Some(Said::Host(_)))
            | (Answer::Connected, Some(Said::Host(_) | Said::Checks(_)))
            | (Answer::Overloaded, _) => {
                self.health.overloaded();
                return None;
            }
            (Answer::Silent(silence), _) => {
                self.health.silence(silence, now);
                return None;
            }
        }
        Some((self.plain_id(), None))
    }

    /// One that answers, and whose identity another listing or the passing of time may decide otherwise.
    pub(super) fn doubtful(&self, address: &Address) -> Option<(Address, MemberId, Option<BootNonce>)> {
        match (&self.identity, &self.health) {
            (Identity::In { id, boot } | Identity::Out { id, boot, .. }, Health::Answering { .. }) => {
                let called = if boot.is_some() { id.clone() } else { self.plain_id() };
                let is_settled = self.id() == Some(&called) && self.listed.id.as_ref().is_none_or(|id| *id == called);
                (!is_settled).then(|| (address.clone(), called, boot.clone()))
            }
            (Identity::Unsaid { .. } | Identity::In { .. } | Identity::Out { .. }, _) => None,
        }
    }

    /// Another has become who this one was.
    pub(super) fn yield_to(&mut self, by: &Address) {
        self.identity = match &self.identity {
            Identity::In { id, boot } => {
                let conflict = Conflict::Taken { by: by.clone() };
                Identity::Out { id: id.clone(), boot: boot.clone(), conflict }
            }
            Identity::Unsaid { .. } => Identity::Unsaid { remembered: None },
            Identity::Out { .. } => return,
        };
    }

    fn plain_id(&self) -> MemberId {
        self.listed.id.clone().unwrap_or_else(|| MemberId::from(&self.listed.address))
    }

    pub(super) fn claims(&self, id: &MemberId) -> bool {
        match &self.identity {
            Identity::In { id: own, .. } | Identity::Unsaid { remembered: Some(own) } => own == id,
            Identity::Unsaid { remembered: None } | Identity::Out { .. } => false,
        }
    }
}
