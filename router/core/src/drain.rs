//! What a router itself keeps about drains. Draining is the host's durable state, and a router follows its
//! word ([`crate::members::Phase`]); two things are left to keep here.
//!
//! [`OwnDrains`]: a member that cannot speak for itself, because it is silent or has no versiond, is drained by
//! the router alone, until it speaks. [`Refusals`]: while a host drains session by session, the keys that it
//! has said it does not hold. Must not live here: who is chosen instead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use supervisor_protocol::Tick;

use crate::members::{Drain, Health, Member, MemberId, Members};
use crate::placement::KeyHash;

/// How many keys are remembered for one drain: about 4 MiB. Of more, the oldest is forgotten, which costs its
/// next request one more refusal before work.
pub const REMEMBERED: usize = 65_536;

/// The drains that a router keeps for members that cannot say it themselves. They outlive a reload, and are
/// written down.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OwnDrains(BTreeMap<MemberId, Turn>);

/// Its place in the order in which they were begun: a clock would not outlive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
struct Turn(u64);

/// Why a router does not drain a member itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDrained {
    #[error("no member is called {0}")]
    NoMember(MemberId),
    #[error("{0} answers, so its drain is its own: run `versionctl drain` on that host, and every router follows")]
    HasAWord(MemberId),
}

impl NotDrained {
    /// The wire name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            NotDrained::NoMember(_) => "unknown_host",
            NotDrained::HasAWord(_) => "drain_it_there",
        }
    }
}

/// The keys that hosts have not admitted while they drain session by session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusals(BTreeMap<MemberId, Refused>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    drain: Drain,
    keys: BTreeSet<KeyHash>,
    /// The same keys, oldest first.
    order: VecDeque<KeyHash>,
}

impl OwnDrains {
    /// Drains a member that cannot say it itself. Again is no change.
    pub fn begin(&mut self, id: &MemberId, members: &Members) -> Result<(), NotDrained> {
        let (_, member) = members.find(id).ok_or_else(|| NotDrained::NoMember(id.clone()))?;
        if speaks(member) {
            return Err(NotDrained::HasAWord(id.clone()));
        }
        let next = Turn(self.0.values().map(|turn| turn.0 + 1).max().unwrap_or_default());
        self.0.entry(id.clone()).or_insert(next);
        Ok(())
    }

    /// Takes a drain back. False when there is none.
    pub fn end(&mut self, id: &MemberId) -> bool {
        self.0.remove(id).is_some()
    }

    /// Ends the drains of those that speak for themselves now, and says whose.
    pub fn follow(&mut self, members: &Members) -> BTreeSet<MemberId> {
        let speaks = |id: &MemberId| members.find(id).is_some_and(|(_, member)| speaks(member));
        let over: BTreeSet<MemberId> = self.0.keys().filter(|id| speaks(id)).cloned().collect();
        self.0.retain(|id, _| !over.contains(id));
        over
    }

    /// Whether a member is drained here.
    #[must_use]
    pub fn holds(&self, id: &MemberId) -> bool {
        self.0.contains_key(id)
    }

    /// Those that are, the last one first.
    #[must_use]
    pub fn latest_first(&self) -> Vec<&MemberId> {
        let mut all: Vec<(&MemberId, Turn)> = self.0.iter().map(|(id, turn)| (id, *turn)).collect();
        all.sort_by_key(|(id, turn)| (std::cmp::Reverse(*turn), *id));
        all.into_iter().map(|(id, _)| id).collect()
    }
}

impl Refusals {
    /// Remembers that a host which drains so did not admit a key.
    pub fn note(&mut self, id: &MemberId, drain: Drain, key: KeyHash) {
        let known = self.0.entry(id.clone()).or_insert_with(|| Refused::new(drain));
        if known.drain != drain {
            *known = Refused::new(drain);
        }
        if !known.keys.insert(key) {
            return;
        }
        known.order.push_back(key);
        if known.order.len() > REMEMBERED
            && let Some(oldest) = known.order.pop_front()
        {
            known.keys.remove(&oldest);
        }
    }

    /// Whether a host has refused a key in this drain of it.
    #[must_use]
    pub fn has(&self, id: &MemberId, drain: Drain, key: KeyHash) -> bool {
        self.0.get(id).is_some_and(|known| known.drain == drain && known.keys.contains(&key))
    }

    /// Forgets every drain that is not among those that last.
    pub fn follow(&mut self, drains: &BTreeMap<MemberId, Drain>) {
        self.0.retain(|id, known| drains.get(id) == Some(&known.drain));
    }

    /// How many keys are remembered, over all drains.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(|known| known.order.len()).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Refused {
    const fn new(drain: Drain) -> Self {
        Self { drain, keys: BTreeSet::new(), order: VecDeque::new() }
    }
}

/// Whether a member says for itself, now, whether it is drained.
fn speaks(member: &Member) -> bool {
    match member.health {
        Health::Answering { .. } => member.has_a_word(),
        Health::Unknown { .. } | Health::Silent { .. } => false,
    }
}

/// Of several drains the latest first, then by identity.
pub(crate) fn latest_first(mut drains: Vec<(Tick, MemberId)>) -> Vec<MemberId> {
    drains.sort_by(|(a, of_a), (b, of_b)| b.cmp(a).then_with(|| of_a.cmp(of_b)));
    drains.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::contract::DrainMode;

    use super::*;

    fn key(number: usize) -> KeyHash {
        KeyHash::of(number.to_string().as_bytes())
    }

    #[test]
    fn refusals_are_bounded_and_the_oldest_is_forgotten() {
        let drain = Drain { since: Tick(5), mode: DrainMode::Sessions };
        let host: MemberId = "gpu-1".parse().unwrap();
        let mut refusals = Refusals::default();
        for number in 0..=REMEMBERED {
            refusals.note(&host, drain, key(number));
            refusals.note(&host, drain, key(number));
        }
        assert_eq!(refusals.len(), REMEMBERED);
        assert!(!refusals.has(&host, drain, key(0)));
        assert!(refusals.has(&host, drain, key(1)) && refusals.has(&host, drain, key(REMEMBERED)));
    }

    #[test]
    fn refusals_last_as_long_as_their_drain() {
        let drain = |since| Drain { since: Tick(since), mode: DrainMode::Sessions };
        let host: MemberId = "gpu-1".parse().unwrap();
        let mut refusals = Refusals::default();
        refusals.note(&host, drain(5), key(1));
        assert!(!refusals.has(&host, drain(6), key(1)));
        refusals.follow(&BTreeMap::from([(host.clone(), drain(5))]));
        assert_eq!(refusals.len(), 1);
        refusals.note(&host, drain(6), key(2));
        assert!(refusals.has(&host, drain(6), key(2)) && !refusals.has(&host, drain(6), key(1)));
        refusals.follow(&BTreeMap::new());
        assert!(refusals.is_empty());
    }
}
