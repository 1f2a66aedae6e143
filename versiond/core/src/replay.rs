//! A recording of what a slot was told, from which the same steps follow anywhere else.
//!
//! It begins with the whole slot, so that it needs nothing before it. It is bounded: when it is full, its beginning
//! moves forward over the older half. What left the slot at rest is one act, however long it lasted. `line` is its
//! form as text, `words` and `transcript` are what people read. Must not live here: files, or the daemon's clock.

mod line;
mod transcript;
mod words;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use supervisor_protocol::admin::{Verb, VerbRefused};
use supervisor_protocol::{Generation, SlotId, Tick};

pub use self::line::{FORMAT, LineError};
use self::line::{Header, Line};
pub use self::transcript::Told;
pub use self::words::{act_line, seconds, step_line};
use crate::catalog::Artifact;
use crate::policy::Policy;
use crate::slot::{Input, Pulse, Slot, Step};

/// So many acts are kept at most, and half as many at least once there have been that many.
pub const KEPT: usize = 512;

/// What may be done to a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// It was told of something, with the number for a new generation.
    Input { next: Generation, input: Input },
    /// An operator gave an order. The input that has to follow is an act of its own.
    Order(Verb),
    /// An operator pinned it to bytes that the store has, and that it has not known itself.
    Pinned(Artifact),
    /// The configuration had another word.
    Policy(Policy),
    /// It was told so many times of something from which nothing followed.
    Rest { times: u64, pulse: Pulse },
}

/// The latest acts of one slot, and the slot before them.
#[derive(Debug, Clone)]
pub struct Recording {
    id: SlotId,
    kept: usize,
    start: Slot,
    acts: VecDeque<(Tick, Act)>,
    /// The slot after them.
    end: Slot,
}

/// A recording that was played again.
#[derive(Debug)]
pub struct Replay {
    pub slot: SlotId,
    /// The version that recorded it.
    pub version: String,
    /// The slot before the first act.
    pub start: Slot,
    pub played: Vec<Played>,
    /// Whether the slot ended as it did where it was recorded. Another version may plan otherwise.
    pub is_same: bool,
}

/// One act, and what came of it.
#[derive(Debug)]
pub struct Played {
    pub at: Tick,
    pub act: Act,
    pub steps: Vec<Step>,
    /// Why an order was not taken.
    pub refused: Option<VerbRefused>,
    /// The slot as the act left it.
    pub slot: Slot,
}

// === impl Recording ===

impl Recording {
    /// A recording that begins with the slot as it is.
    #[must_use]
    pub fn begin(id: SlotId, slot: &Slot) -> Recording {
        Recording::keeping(KEPT, id, slot)
    }

    /// The same, with another bound, which is at least 2.
    #[must_use]
    pub fn keeping(kept: usize, id: SlotId, slot: &Slot) -> Recording {
        Recording { id, kept: kept.max(2), start: slot.clone(), acts: VecDeque::new(), end: slot.clone() }
    }

    /// Adds what was done to the slot, which has left it like this. Says whether a failure or a way back came of it,
    /// so that the recording is worth keeping.
    pub fn note(&mut self, act: Act, now: Tick, steps: &[Step], after: &Slot) -> bool {
        let worth_keeping = after.has_gone_wrong_since(&self.end);
        if self.is_at_rest(&act, steps, after) {
            self.rest(now);
        } else {
            self.end.clone_from(after);
            self.push(now, act);
        }
        worth_keeping
    }

    /// The recording as text, a line for each act.
    #[must_use]
    pub fn text(&self) -> String {
        let header = Line::Header(Header::new(self.id.clone()));
        let acts = self.acts.iter().map(|(at, act)| Line::Act { at: *at, act: act.clone() });
        let lines = [header, Line::Start(Box::new(self.start.clone()))].into_iter().chain(acts);
        lines.chain([Line::End(Box::new(self.end.clone()))]).map(|line| line.text()).collect()
    }

    /// Whether nothing is other than before but the moments that always move.
    fn is_at_rest(&mut self, act: &Act, steps: &[Step], after: &Slot) -> bool {
        match act {
            Act::Input { .. } if steps.is_empty() => {
                self.end.beat(&after.pulse());
                self.end == *after
            }
            Act::Input { .. } | Act::Order(_) | Act::Pinned(_) | Act::Policy(_) | Act::Rest { .. } => false,
        }
    }

    fn rest(&mut self, now: Tick) {
        let pulse = self.end.pulse();
        match self.acts.back_mut() {
            Some((at, Act::Rest { times, pulse: last })) => {
                *at = now;
                *times += 1;
                *last = pulse;
            }
            Some((_, Act::Input { .. } | Act::Order(_) | Act::Pinned(_) | Act::Policy(_))) | None => {
                self.push(now, Act::Rest { times: 1, pulse });
            }
        }
    }

    fn push(&mut self, now: Tick, act: Act) {
        if self.acts.len() >= self.kept {
            for (at, act) in self.acts.drain(..self.kept / 2) {
                act.play(&mut self.start, at);
            }
        }
        self.acts.push_back((now, act));
    }
}

// === impl Act ===

impl Act {
    /// Does it to a slot.
    fn play(&self, slot: &mut Slot, at: Tick) -> (Vec<Step>, Option<VerbRefused>) {
        match self {
            Act::Input { next, input } => (slot.handle(input.clone(), *next, at), None),
            Act::Order(verb) => (Vec::new(), slot.command(verb, at).err()),
            Act::Pinned(artifact) => {
                slot.pin(artifact.clone(), at);
                (Vec::new(), None)
            }
            Act::Policy(policy) => {
                slot.follow(policy);
                (Vec::new(), None)
            }
            Act::Rest { pulse, .. } => {
                slot.beat(pulse);
                (Vec::new(), None)
            }
        }
    }
}

// === impl Replay ===

impl Replay {
    /// The slot after the last act.
    #[must_use]
    pub fn end(&self) -> &Slot {
        self.played.last().map_or(&self.start, |played| &played.slot)
    }
}

/// Plays a recording again. Nothing of what it says is carried out.
pub fn replay(text: &str) -> Result<Replay, LineError> {
    let mut lines = line::read(text);
    let header = lines.header()?;
    let start = lines.start()?;
    let (mut slot, mut played) = (start.clone(), Vec::new());
    let end = loop {
        match lines.act_or_end()? {
            Line::Act { at, act } => {
                let (steps, refused) = act.play(&mut slot, at);
                played.push(Played { at, act, steps, refused, slot: slot.clone() });
            }
            Line::End(end) => break end,
            Line::Header(_) | Line::Start(_) => return Err(lines.misplaced("an act, or the end")),
        }
    };
    lines.nothing_more()?;
    Ok(Replay { slot: header.slot, version: header.version, start, played, is_same: *end == slot })
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
