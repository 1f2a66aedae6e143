//! What is logged, counted and told when a generation moves.
//!
//! Must not live here: anything that follows from it.

use supervisor_protocol::{Reason, Tick};
use versiond_core::generation::Gen;
use versiond_core::slot::{Slot, Step};

use super::Actor;
use crate::metrics::Counted;

impl Actor {
    /// Tells what has changed since the slot was as it was `before`.
    pub(super) fn log_transitions(&self, before: &Slot) {
        let (shared, slot) = (&self.effects.shared, &self.effects.id);
        for now in self.slot.generations() {
            let (generation, old) = (now.number, find(before, now));
            if old.map(Gen::phase) != Some(now.phase()) {
                tracing::info!(%slot, %generation, to = now.phase().as_str(), "generation");
                shared.metrics.transition(slot, now.phase());
            } else if let Some(old) = old.filter(|old| old.is_live() != now.is_live()) {
                let (was, is) = (old.is_live(), now.is_live());
                tracing::warn!(%slot, %generation, was, is, why = self.unready(), "live readiness");
            }
        }
        for old in before.generations() {
            let generation = old.number;
            let failure = self.slot.failed_since(before, generation);
            if find(&self.slot, old).is_none() {
                let text = failure.as_ref().map(ToString::to_string);
                tracing::info!(%slot, %generation, to = "gone", failure = text, "generation");
            }
            // Once, although one that is still being stopped for it has to go yet.
            if let Some(failure) = failure.filter(|_| old.failure().is_none()) {
                shared.metrics.failed(slot, failure.code());
            }
        }
    }

    /// Counts a process that has ended by itself, and what the steps that follow have begun or ended.
    pub(super) fn count(&mut self, crash: Option<Counted>, steps: &[Step], now: Tick) {
        let counted = self.counting.saw(&self.slot, steps, now);
        for counted in crash.into_iter().chain(counted) {
            self.effects.shared.metrics.counts(&self.effects.id, counted);
        }
    }

    /// Why what serves is not ready.
    fn unready(&self) -> Option<String> {
        let mut reasons = self.slot.reasons(self.effects.shared.clock.now()).into_iter();
        reasons.find(|reason| matches!(reason, Reason::Unready { .. })).map(|reason| reason.to_string())
    }
}

/// The same generation in another state of the slot.
fn find<'s>(slot: &'s Slot, of: &Gen) -> Option<&'s Gen> {
    slot.generations().find(|known| known.number == of.number)
}
