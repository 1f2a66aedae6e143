//! What an input may move although nothing follows from it: the moments at which things were last heard of.
//!
//! A slot at rest is probed on and on. All that this leaves behind is here, so that a recording need not hold every
//! round. Must not live here: what an input does (`edges`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use supervisor_protocol::{Generation, HostId, Tick};

use super::{Quiescing, Slot};
use crate::errors::{Tally, Usual};
use crate::evacuate::Peer;
use crate::generation::State;

/// The moments that move while a slot rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pulse {
    seen: Tick,
    /// When each generation last answered, or until when one that warms must.
    heard: BTreeMap<Generation, Tick>,
    quiescing: Option<Quiescing>,
    /// What peers have said, and when.
    #[serde(default)]
    peers: BTreeMap<HostId, Peer>,
    /// How many answers have been counted.
    tallies: BTreeMap<Generation, Tally>,
    usual: Option<Usual>,
}

impl Slot {
    /// The moments, as they are now.
    #[must_use]
    pub(crate) fn pulse(&self) -> Pulse {
        let heard = self.generations.iter().filter_map(|(number, generation)| match &generation.state {
            State::Warming { deadline, .. } => Some((*number, *deadline)),
            State::Serving { health, .. }
            | State::Retired { health, .. }
            | State::Draining { health, .. }
            | State::Parked { health, .. } => Some((*number, health.answered)),
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Starting { .. }
            | State::Ready { .. }
            | State::Terminating { .. }
            | State::Killing { .. } => None,
        });
        Pulse {
            seen: self.seen,
            heard: heard.collect(),
            quiescing: self.quiescing.clone(),
            peers: self.peers.clone(),
            tallies: self.tallies.clone(),
            usual: self.usual.clone(),
        }
    }

    /// Moves the moments, and nothing else.
    pub(crate) fn beat(&mut self, pulse: &Pulse) {
        self.seen = pulse.seen;
        self.quiescing.clone_from(&pulse.quiescing);
        self.peers.clone_from(&pulse.peers);
        self.tallies.clone_from(&pulse.tallies);
        self.usual.clone_from(&pulse.usual);
        for (number, moment) in &pulse.heard {
            let Some(generation) = self.generations.get_mut(number) else { continue };
            match &mut generation.state {
                State::Warming { deadline, .. } => *deadline = *moment,
                State::Serving { health, .. }
                | State::Retired { health, .. }
                | State::Draining { health, .. }
                | State::Parked { health, .. } => health.answered = *moment,
                State::Fetching
                | State::Preflight
                | State::Waiting { .. }
                | State::Starting { .. }
                | State::Ready { .. }
                | State::Terminating { .. }
                | State::Killing { .. } => {}
            }
        }
    }
}
