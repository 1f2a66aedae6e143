//! What is logged, counted and told when a generation moves.
//!
//! Must not live here: anything that follows from it.

use std::collections::BTreeMap;

use supervisor_protocol::admin::Phase;
use supervisor_protocol::{Generation, Reason, Sha256};
use versiond_core::generation::Gen;

use super::Actor;

/// What is told when it changes.
pub(super) struct Standing {
    phase: Phase,
    sha256: Sha256,
    failures: u32,
    live: bool,
}

impl Actor {
    /// Where each generation stands, and what is remembered of its build, to be compared after an input.
    pub(super) fn standing(&self) -> BTreeMap<Generation, Standing> {
        let standing = |generation: &Gen| Standing {
            phase: generation.phase(),
            sha256: generation.sha256(),
            failures: self.slot.failure_of(&generation.sha256()).map_or(0, |failure| failure.count),
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
        for (generation, old) in before.iter().filter(|(generation, _)| !after.contains_key(generation)) {
            let failure = self.slot.failure_of(&old.sha256).filter(|failure| failure.count > old.failures);
            let text = failure.map(|failure| failure.reason.to_string());
            tracing::info!(%slot, %generation, to = "gone", failure = text, "generation");
            if let Some(failure) = failure {
                self.effects.shared.metrics.failed(slot, failure.reason.code());
            }
        }
    }

    /// Why what serves is not ready.
    fn unready(&self) -> Option<String> {
        let mut reasons = self.slot.reasons(self.effects.shared.clock.now()).into_iter();
        reasons.find(|reason| matches!(reason, Reason::Unready { .. })).map(|reason| reason.to_string())
    }
}
