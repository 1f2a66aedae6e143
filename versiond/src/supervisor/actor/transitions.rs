//! What is logged, counted and told when a generation moves.
//!
//! Must not live here: anything that follows from it.

use std::collections::BTreeMap;

use supervisor_protocol::admin::Phase;
use supervisor_protocol::{Generation, Reason, Sha256, Tick};
use versiond_core::generation::{Failure, Gen};
use versiond_core::slot::Step;

use super::Actor;
use crate::metrics::Counted;

/// What is told when it changes.
pub(super) struct Standing {
    phase: Phase,
    sha256: Sha256,
    failure: Option<Failure>,
    live: bool,
}

impl Actor {
    /// Where each generation stands, and what is remembered of its build, to be compared after an input.
    pub(super) fn standing(&self) -> BTreeMap<Generation, Standing> {
        let standing = |generation: &Gen| Standing {
            phase: generation.phase(),
            sha256: generation.sha256(),
            failure: self.slot.failure_of(&generation.sha256()).cloned(),
            live: generation.is_live(),
        };
        self.slot.generations().map(|generation| (generation.number, standing(generation))).collect()
    }

    pub(super) fn log_transitions(&self, before: &BTreeMap<Generation, Standing>) {
        let (after, slot) = (self.standing(), &self.effects.id);
        for (generation, now) in &after {
            let old = before.get(generation);
            if old.map(|old| old.phase) != Some(now.phase) {
                tracing::info!(%slot, %generation, to = now.phase.as_str(), "generation");
                self.effects.shared.metrics.transition(slot, now.phase);
            } else if let Some(old) = old.filter(|old| old.live != now.live) {
                tracing::warn!(%slot, %generation, was = old.live, is = now.live, why = self.unready(), "live readiness");
            }
        }
        let failed =
            |old: &Standing| self.slot.failure_of(&old.sha256).filter(|failure| Some(*failure) != old.failure.as_ref());
        for (generation, old) in before.iter().filter(|(generation, _)| !after.contains_key(generation)) {
            let text = failed(old).map(|failure| failure.reason.to_string());
            tracing::info!(%slot, %generation, to = "gone", failure = text, "generation");
        }
        // Also of one that is still being stopped for it; and once, whatever else runs the same bytes.
        let builds: BTreeMap<Sha256, &Standing> = before.values().map(|old| (old.sha256, old)).collect();
        for failure in builds.into_values().filter_map(failed) {
            self.effects.shared.metrics.failed(slot, failure.reason.code());
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
