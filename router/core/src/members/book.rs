//! The members of a pool: who is listed, who each of them says it is, and who of two with one name is in.

use std::collections::BTreeMap;
use std::time::Duration;

use supervisor_protocol::{BootNonce, Tick};

use super::answer::Answer;
use super::health::Health;
use super::identity::{Address, MemberId};
use super::listing::{Listing, Moved, Relisted, by_address};
use super::member::{Conflict, Identity, Member, Presence};

/// How long it takes to see that a host has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// The check interval and twice the check timeout.
    pub window: Duration,
}

impl Default for Detection {
    /// 1 s + 2 × 3 s.
    fn default() -> Self {
        Self { window: Duration::from_secs(7) }
    }
}

/// The members of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    detection: Detection,
    views: Views,
    members: BTreeMap<Address, Member>,
    revision: u64,
}

/// Whether a router knows enough to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Views {
    /// Some member has not answered yet, and it still may.
    Gathering { until: Tick },
    /// Every member has answered once, or one detection window has passed. It stays so.
    Known,
}

/// Why [`Members::settle`] should be called at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// One detection window has passed since the start.
    ViewsKnown,
    /// An identity whose holder has been silent for long is free.
    IdentityFree,
}

impl Members {
    /// Nobody yet.
    #[must_use]
    pub fn new(detection: Detection, now: Tick) -> Self {
        let views = Views::Gathering { until: now.after(detection.window) };
        Self { detection, views, members: BTreeMap::new(), revision: 0 }
    }

    /// What the addresses were called before a restart. Given once, after the first listing.
    pub fn remember(&mut self, known: &BTreeMap<Address, MemberId>) {
        for (address, member) in &mut self.members {
            match &mut member.identity {
                Identity::Unsaid { remembered } => *remembered = known.get(address).cloned(),
                Identity::In { .. } | Identity::Out { .. } => {}
            }
        }
    }

    /// Follows a source of addresses.
    pub fn list(&mut self, listing: Listing, now: Tick) -> Relisted {
        let (listed, is_final) = match listing {
            Listing::Failed => return Relisted { moved: Moved::Failed, ..Relisted::default() },
            Listing::Written(listed) => (by_address(listed), true),
            Listing::Resolved(listed) => (by_address(listed), false),
        };
        if listed.is_empty() {
            return Relisted { moved: Moved::Empty, ..Relisted::default() };
        }
        let mut relisted = Relisted::default();
        self.members.retain(|address, member| {
            member.presence = match (listed.contains_key(address), member.presence) {
                (true, _) => Presence::Listed,
                (false, Presence::Listed) if !is_final => Presence::Doubted,
                (false, Presence::Listed | Presence::Doubted) => {
                    relisted.removed.insert(address.clone());
                    return false;
                }
            };
            if member.presence == Presence::Doubted {
                relisted.doubted.insert(address.clone());
            }
            true
        });
        for (address, listed) in listed {
            match self.members.get_mut(&address) {
                Some(member) if member.listed == listed => {}
                Some(member) => {
                    member.listed = listed;
                    self.revision += 1;
                }
                None => {
                    relisted.added.insert(address.clone());
                    let identity = Identity::Unsaid { remembered: None };
                    let health = Health::UNKNOWN;
                    self.members.insert(address, Member { listed, health, presence: Presence::Listed, identity });
                }
            }
        }
        if !(relisted.added.is_empty() && relisted.removed.is_empty()) {
            self.revision += 1;
        }
        self.settle(now);
        relisted
    }

    /// Takes in what one check of one address brought. What is not listed has no say.
    pub fn hear(&mut self, address: &Address, answer: Answer, now: Tick) {
        let Some(member) = self.members.get_mut(address) else { return };
        let before = member.health.clone();
        let called = member.hear(answer, now);
        if member.health != before {
            self.revision += 1;
        }
        if let Some((id, boot)) = called {
            self.judge(address, id, boot, now);
        }
        self.settle(now);
    }

    /// Does what time alone brings: views become known, a free identity goes to whoever answers to it.
    pub fn settle(&mut self, now: Tick) {
        let doubtful = self.members.iter().filter_map(|(address, member)| member.doubtful(address));
        for (address, id, boot) in doubtful.collect::<Vec<_>>() {
            self.judge(&address, id, boot, now);
        }
        let has_answered = |member: &Member| !matches!(member.health, Health::Unknown { .. });
        let is_known = match self.views {
            Views::Gathering { until } if now < until => {
                !self.members.is_empty() && self.members.values().all(has_answered)
            }
            Views::Gathering { .. } => true,
            Views::Known => return,
        };
        if is_known {
            self.views = Views::Known;
            self.revision += 1;
        }
    }

    /// When [`Members::settle`] should be called next, and why.
    #[must_use]
    pub fn wake(&self) -> Option<(Tick, Wake)> {
        let views = match self.views {
            Views::Gathering { until } => Some((until, Wake::ViewsKnown)),
            Views::Known => None,
        };
        let free = self.members.values().filter_map(|member| match &member.identity {
            Identity::Out { conflict: Conflict::Taken { by }, .. } => match self.members.get(by)?.health {
                Health::Silent { since, .. } => Some((since.after(self.detection.window), Wake::IdentityFree)),
                Health::Unknown { .. } | Health::Answering { .. } => None,
            },
            Identity::Out { conflict: Conflict::Mismatch { .. } | Conflict::SameHost { .. }, .. }
            | Identity::Unsaid { .. }
            | Identity::In { .. } => None,
        });
        free.chain(views).min()
    }

    /// Grows by everything that a view may show.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether a router knows enough to be ready.
    #[must_use]
    pub const fn views(&self) -> Views {
        self.views
    }

    /// The detection window.
    #[must_use]
    pub const fn detection(&self) -> Detection {
        self.detection
    }

    /// Every member, by address.
    pub fn iter(&self) -> impl Iterator<Item = (&Address, &Member)> {
        self.members.iter()
    }

    /// Where the member of an identity is reached, of those that are in.
    #[must_use]
    pub fn find(&self, id: &MemberId) -> Option<(&Address, &Member)> {
        self.members.iter().find(|(_, member)| member.id() == Some(id))
    }

    /// What to write down: what each address is called.
    #[must_use]
    pub fn known(&self) -> BTreeMap<Address, MemberId> {
        let named = self.members.iter().filter_map(|(address, member)| {
            let id = match &member.identity {
                Identity::In { id, .. } | Identity::Unsaid { remembered: Some(id) } => id,
                Identity::Unsaid { remembered: None } | Identity::Out { .. } => return None,
            };
            Some((address.clone(), id.clone()))
        });
        named.collect()
    }

    /// Decides whether an address that calls itself so is let in, and whom it replaces.
    fn judge(&mut self, address: &Address, id: MemberId, boot: Option<BootNonce>, now: Tick) {
        let Some(member) = self.members.get(address) else { return };
        let conflict = match &member.listed.id {
            Some(expected) if *expected != id => Some(Conflict::Mismatch { expected: expected.clone() }),
            Some(_) | None => self.holder(address, &id, boot.as_ref(), now),
        };
        if conflict.is_none() {
            let others = self.members.iter_mut().filter(|(other, member)| *other != address && member.claims(&id));
            for (_, other) in others {
                self.revision += 1;
                other.yield_to(address);
            }
        }
        let identity = match conflict {
            None => Identity::In { id, boot },
            Some(conflict) => Identity::Out { id, boot, conflict },
        };
        if let Some(member) = self.members.get_mut(address).filter(|member| member.identity != identity) {
            member.identity = identity;
            self.revision += 1;
        }
    }

    /// Who keeps another from an identity.
    fn holder(&self, address: &Address, id: &MemberId, boot: Option<&BootNonce>, now: Tick) -> Option<Conflict> {
        let (at, holder) = self.members.iter().find(|(other, member)| *other != address && member.claims(id))?;
        let is_same = boot.is_some() && holder.boot() == boot;
        let is_gone = match holder.health {
            Health::Silent { .. } if is_same => true,
            // A host that restarts is silent for a moment: its clone must not take its place meanwhile.
            Health::Silent { since, .. } => now.since(since) >= self.detection.window,
            Health::Unknown { .. } => self.views == Views::Known,
            Health::Answering { .. } => false,
        };
        match (is_gone, is_same) {
            (true, _) => None,
            (false, true) => Some(Conflict::SameHost { at: at.clone() }),
            (false, false) => Some(Conflict::Taken { by: at.clone() }),
        }
    }
}
