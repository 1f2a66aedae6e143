//! The readiness of a generation that has served, with hysteresis: one lost probe does not withdraw.
//!
//! Must not live here: what follows from it.

use serde::{Deserialize, Serialize};
use supervisor_protocol::Tick;

use super::Probe;
use crate::timings::Timings;

/// What the probes of a generation have said, from its publication on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub live: Live,
    /// When a probe round last ended, well or badly.
    pub answered: Tick,
    /// What the last bad one found.
    pub detail: String,
}

/// The verdict, and how far it is from turning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Live {
    Ready { misses: u8 },
    Unready { hits: u8, since: Tick },
}

impl Live {
    /// Consecutive answers that turn the verdict.
    const NEEDED: u8 = 2;

    /// Whether it counts as ready.
    #[must_use]
    pub fn is_ready(self) -> bool {
        match self {
            Live::Ready { .. } => true,
            Live::Unready { .. } => false,
        }
    }

    fn after(self, hit: bool, now: Tick) -> Live {
        match (self, hit) {
            (Live::Ready { .. }, true) => Live::Ready { misses: 0 },
            (Live::Ready { misses }, false) if misses + 1 >= Self::NEEDED => Live::Unready { hits: 0, since: now },
            (Live::Ready { misses }, false) => Live::Ready { misses: misses + 1 },
            (Live::Unready { since, .. }, false) => Live::Unready { hits: 0, since },
            (Live::Unready { hits, .. }, true) if hits + 1 >= Self::NEEDED => Live::Ready { misses: 0 },
            (Live::Unready { hits, since }, true) => Live::Unready { hits: hits + 1, since },
        }
    }
}

impl Health {
    /// Of a generation that has just said that it is ready.
    pub(crate) fn ready(now: Tick) -> Health {
        Health { live: Live::Ready { misses: 0 }, answered: now, detail: String::new() }
    }

    pub(crate) fn heard(&mut self, probe: &Probe, now: Tick) {
        self.live = self.live.after(*probe == Probe::Ready, now);
        self.answered = now;
        match probe {
            Probe::Ready => {}
            Probe::NotReady { detail } | Probe::Initializing { detail } => self.detail.clone_from(detail),
        }
    }

    /// When its last answer, if that was a good one, is too old to count.
    pub(crate) fn until(&self, timings: &Timings) -> Option<Tick> {
        self.live.is_ready().then(|| self.answered.after(timings.live_expiry))
    }

    /// Its last answer has become too old: it counts as unready until it answers again.
    pub(crate) fn expire(&mut self, now: Tick) {
        self.live = Live::Unready { hits: 0, since: now };
        "no probe has come back for too long".clone_into(&mut self.detail);
    }

    /// Since when it has not been ready.
    pub(crate) fn unready_since(&self) -> Option<Tick> {
        match self.live {
            Live::Ready { .. } => None,
            Live::Unready { since, .. } => Some(since),
        }
    }

    /// Whether its very last answer was a bad one, and came after this.
    pub(crate) fn has_failed_since(&self, other: Tick) -> bool {
        matches!(self.live, Live::Unready { hits: 0, .. }) && self.answered > other
    }

    /// Whether its very last answer was a good one, and the verdict is too.
    pub(crate) fn is_sound(&self) -> bool {
        self.live == Live::Ready { misses: 0 }
    }
}
