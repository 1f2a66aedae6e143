//! A slot is taken away from one host at a time, in an order that every host computes alike.
//!
//! Where old and new may not run side by side, and a start takes longer than requests may wait, a host leaves the slot
//! to its peers for as long as the change takes: unready for the slot, so that routers move on, then the old one stops
//! and the new one starts. All hosts read the same catalog, so all of them want to at once; the rules here see to it
//! that somebody stays:
//!
//! 1. **Turn.** The order is that of SHA-256 over the artifact's hash and the host's id ([`order`]). A host goes when
//!    every earlier one shows the new hash, or has failed for it, or does not have the slot; one that is silent is
//!    waited for ten minutes. A peer must be ready for the slot, and none may show that it evacuates.
//! 2. **Claim.** What a host knows of its peers is a moment old, and so is what they know of it. It therefore first
//!    shows that it evacuates, still ready, and then asks every peer once more. A peer that shows the same makes it
//!    step back. Of two hosts that claim at once each has shown it before it asks the other, so at least one of the
//!    two sees the other's claim: never do both go on. Both may step back; then the one that is earlier in the order
//!    tries again sooner. One lost answer is none: a peer that comes later is asked for ten seconds, one that comes
//!    earlier for as long as in 1.
//! 3. **Leaving.** It is unready for the slot and admits what still arrives, for as long as routers take to move on.
//!    Should the last ready peer go meanwhile, the host takes it back: nothing has been stopped yet.
//!
//! Two hosts that cannot reach each other may both go after ten minutes, or ten seconds after an operator has forced the
//! order: whoever waits for a host that is gone for good waits for ever. Pure. Must not live here: the change itself, which from then
//! on is a hold that an operator has agreed to (`strategy`), and questions to peers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256 as Hasher};
use supervisor_protocol::contract::StateKind;
use supervisor_protocol::time::millis;
use supervisor_protocol::{Generation, HostId, Reason, Sha256, Tick};

use crate::generation::Gen;
use crate::slot::Slot;

/// How long a peer that comes earlier and does not answer is waited for.
pub const SILENT: Duration = Duration::from_secs(10 * 60);
/// How long a peer's word may be acted on, and one that comes later is asked for another. Peers are asked more often than that while a slot waits for its turn.
const FRESH: Duration = Duration::from_secs(10);
/// The pause after stepping back, for each place in the order.
const STEP_BACK: Duration = Duration::from_secs(2);

/// The hosts that serve the same slots, this one among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbours {
    pub me: HostId,
    /// Without this host.
    pub others: BTreeSet<HostId>,
    /// How long routers take to move on.
    pub routers: Duration,
}

/// What a peer says of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// It does not have the slot.
    Absent,
    Slot {
        ready: bool,
        /// What serves there.
        sha256: Option<Sha256>,
        /// What could not be brought to serve there.
        failed: Option<Sha256>,
        evacuating: bool,
    },
}

/// What came of the questions to one peer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// The last word, and when it was asked for: it is of that moment or later.
    word: Option<(Tick, Word)>,
    /// When the first question was asked to which nothing has been answered since, and the last of them.
    silent: Option<(Tick, Tick)>,
}

/// How far this host has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// It is to show that it evacuates.
    Claiming,
    /// It has shown it since then.
    Claimed { at: Tick },
    /// It is unready for the slot; routers have until then to move on.
    Leaving { until: Tick },
    /// The old one was withdrawn.
    Away,
}

/// The evacuation of a slot, for one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evacuation {
    pub(crate) new: Generation,
    pub(crate) stage: Stage,
}

/// A step of an evacuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evacuate {
    /// Show it; answer `Input::Claimed` once it is shown.
    Claim,
    /// Be unready for the slot.
    Leave { until: Tick },
    /// Show it no more, and be ready again.
    StepBack,
}

/// What comes next.
pub(crate) enum Next {
    Do(Evacuate),
    /// Routers have moved on.
    Go,
    Wait(Reason),
}

/// The hosts in the order in which they evacuate for these bytes: by SHA-256 of the 32 bytes of the hash followed by
/// the bytes of the id, compared as big-endian numbers; then by id.
#[must_use]
pub fn order<'h>(sha256: &Sha256, hosts: impl IntoIterator<Item = &'h HostId>) -> Vec<&'h HostId> {
    let mut placed: Vec<([u8; 32], &HostId)> = hosts.into_iter().map(|host| (place(sha256, host), host)).collect();
    placed.sort();
    placed.into_iter().map(|(_, host)| host).collect()
}

fn place(sha256: &Sha256, host: &HostId) -> [u8; 32] {
    Hasher::new().chain_update(sha256.0).chain_update(host.as_str()).finalize().into()
}

/// Whether two that may not run side by side can take turns while peers serve: the truth of neither lies here alone.
pub(crate) fn fits(slot: &Slot, serving: &Gen, candidate: &Gen) -> bool {
    let elsewhere = |one: &Gen| one.facts().is_some_and(|facts| facts.state != StateKind::Local);
    slot.policy.evacuate.as_ref().is_some_and(|neighbours| !neighbours.others.is_empty())
        && elsewhere(serving)
        && elsewhere(candidate)
}

/// What comes next for a candidate that waits for its turn.
pub(crate) fn next(slot: &Slot, neighbours: &Neighbours, candidate: &Gen, now: Tick) -> Next {
    let view = View { neighbours, peers: &slot.peers, sha256: candidate.sha256(), now };
    let under_way = slot.evacuation.filter(|evacuation| evacuation.new == candidate.number);
    let left = |until: Tick| Reason::Evacuating { generation: candidate.number.0, left_ms: millis(until.since(now)) };
    let force_order = slot.memory.forces_order(&candidate.sha256());
    match under_way.map(|evacuation| evacuation.stage) {
        None => match slot.next_claim.filter(|next| *next > now) {
            Some(next) => {
                Next::Wait(Reason::PeerEvacuating { peer: view.claimant(), retry_in_ms: millis(next.since(now)) })
            }
            None => match view.turn(force_order) {
                Some(reason) => Next::Wait(reason),
                None => Next::Do(Evacuate::Claim),
            },
        },
        Some(Stage::Claiming) => Next::Wait(left(now.after(neighbours.routers))),
        Some(Stage::Claimed { at }) if !view.all_asked_since(at, force_order) => {
            Next::Wait(left(now.after(neighbours.routers)))
        }
        Some(Stage::Claimed { .. }) => match view.evacuating().next().is_some() || !view.is_covered() {
            true => Next::Do(Evacuate::StepBack),
            false => Next::Do(Evacuate::Leave { until: now.after(neighbours.routers) }),
        },
        Some(Stage::Leaving { .. }) if !view.is_covered() => Next::Do(Evacuate::StepBack),
        Some(Stage::Leaving { until }) if now < until => Next::Wait(left(until)),
        Some(Stage::Leaving { .. } | Stage::Away) => Next::Go,
    }
}

/// When the next claim may be made after stepping back from one: the earlier in the order, the sooner.
pub(crate) fn next_claim(neighbours: &Neighbours, sha256: &Sha256, now: Tick) -> Tick {
    let order = order(sha256, neighbours.others.iter().chain([&neighbours.me]));
    let place = order.iter().position(|host| **host == neighbours.me).unwrap_or(order.len());
    now.after(STEP_BACK.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX).saturating_add(1)))
}

impl Peer {
    /// For how long it has been asked without an answer.
    fn silence(&self) -> Duration {
        self.silent.map_or(Duration::ZERO, |(since, last)| last.since(since))
    }

    /// What came of a question that was asked then.
    pub(crate) fn heard(&mut self, asked: Tick, word: Option<Word>) {
        match word {
            Some(word) => *self = Peer { word: Some((asked, word)), silent: None },
            None => {
                let since = self.silent.map_or(asked, |(since, _)| since);
                self.silent = Some((since, asked));
            }
        }
    }
}

/// What is known of the peers at one moment.
struct View<'s> {
    neighbours: &'s Neighbours,
    peers: &'s BTreeMap<HostId, Peer>,
    sha256: Sha256,
    now: Tick,
}

impl View<'_> {
    /// Why it is not this host's turn.
    fn turn(&self, force_order: bool) -> Option<Reason> {
        if let Some(peer) = self.evacuating().next() {
            return Some(Reason::PeerEvacuating { peer: peer.to_string(), retry_in_ms: 0 });
        }
        let waits = |peer: &&HostId| self.is_before(peer) && !force_order;
        if let Some(reason) = self.neighbours.others.iter().filter(waits).find_map(|peer| self.waited_for(peer)) {
            return Some(reason);
        }
        (!self.is_covered()).then_some(Reason::NoPeerReady)
    }

    /// Why a peer that comes earlier is waited for.
    fn waited_for(&self, peer: &HostId) -> Option<Reason> {
        let known = self.peers.get(peer);
        match self.fresh(peer) {
            Some(Word::Absent) => return None,
            Some(Word::Slot { sha256, failed, .. }) if [sha256, failed].contains(&Some(self.sha256)) => return None,
            Some(Word::Slot { .. }) => return Some(Reason::PeerFirst { peer: peer.to_string() }),
            None => {}
        }
        match known.filter(|known| known.silent.is_some()).map(Peer::silence) {
            Some(silence) if silence >= SILENT => None,
            Some(silence) => {
                let left_ms = millis(SILENT.saturating_sub(silence));
                Some(Reason::PeerSilent { peer: peer.to_string(), left_ms })
            }
            None => Some(Reason::PeerFirst { peer: peer.to_string() }),
        }
    }

    fn is_before(&self, peer: &HostId) -> bool {
        let me = &self.neighbours.me;
        (place(&self.sha256, peer), peer) < (place(&self.sha256, me), me)
    }

    fn fresh(&self, peer: &HostId) -> Option<Word> {
        let (asked, word) = self.peers.get(peer)?.word?;
        (self.now.since(asked) < FRESH).then_some(word)
    }

    /// Peers that show that they evacuate. What was said last counts until something else is: a host that falls silent
    /// in the middle of it still holds what it took, for as long as silence is waited for at all.
    fn evacuating(&self) -> impl Iterator<Item = &HostId> {
        self.neighbours.others.iter().filter(|peer| {
            let Some(known) = self.peers.get(*peer) else { return false };
            let shows = matches!(known.word, Some((_, Word::Slot { evacuating: true, .. })));
            shows && known.silence() < SILENT
        })
    }

    fn claimant(&self) -> String {
        self.evacuating().next().map_or_else(|| "another host".to_owned(), ToString::to_string)
    }

    /// Whether somebody else can take what this host gives away.
    fn is_covered(&self) -> bool {
        let ready = |peer| matches!(self.fresh(peer), Some(Word::Slot { ready: true, evacuating: false, .. }));
        self.neighbours.others.iter().any(ready)
    }

    /// Whether every peer has answered a question of later than then, or been asked for long enough.
    fn all_asked_since(&self, at: Tick, force_order: bool) -> bool {
        self.neighbours.others.iter().all(|peer| {
            let Some(known) = self.peers.get(peer) else { return false };
            let answered = known.word.is_some_and(|(asked, _)| asked > at);
            let patience = if self.is_before(peer) && !force_order { SILENT } else { FRESH };
            answered || known.silence() >= patience
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: &str) -> HostId {
        id.parse().unwrap()
    }

    #[test]
    fn f59_the_order_is_another_one_for_other_bytes_and_the_same_on_every_host() {
        let hosts = ["gpu-1", "gpu-2", "gpu-3"].map(host);
        let ordered = |byte: u8| order(&Sha256([byte; 32]), &hosts).into_iter().map(HostId::as_str).collect::<Vec<_>>();
        // Computed by `sha256sum` over the 32 bytes and the id.
        assert_eq!(ordered(0), ["gpu-3", "gpu-2", "gpu-1"]);
        assert_eq!(ordered(1), ["gpu-2", "gpu-1", "gpu-3"]);
        let mut backwards = hosts.clone();
        backwards.reverse();
        assert_eq!(order(&Sha256([0; 32]), &backwards), order(&Sha256([0; 32]), &hosts));
        let firsts: BTreeSet<&str> = (0..32).map(|byte| ordered(byte)[0]).collect();
        assert_eq!(firsts.len(), 3, "nobody is always first");
    }
}
