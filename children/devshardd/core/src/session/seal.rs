//! What is over leaves the state: it is folded into one hash, so that a state holds what is under way and no more.
//!
//! What is sealed when is told by the steps alone, so that all parties seal the same.

use super::inference::Status;
use super::root::fold;
use super::{State, inference::Inference};
use crate::ids::InferenceId;

/// The state's own clock is read from the latest inferences, so many for each member.
const CLOCK_FROM: usize = 3;

impl State {
    /// Behind a step of an active session.
    pub(super) fn seal_what_is_over(&mut self) {
        let every = u64::from(self.binding.terms.seal_every).max(1);
        if !self.latest.0.is_multiple_of(every) {
            return;
        }
        let Some(clock) = self.clock() else { return };
        let (grace_nonces, grace_s) = (self.binding.seal_grace_nonces(), i64::from(self.binding.terms.seal_grace_s));
        let is_due = |id: InferenceId, inference: &Inference| {
            self.latest.0 >= id.0.saturating_add(grace_nonces)
                && match inference.status {
                    Status::Validated | Status::Invalidated | Status::TimedOut => true,
                    Status::Finished => clock.saturating_sub(inference.confirmed_at) >= grace_s,
                    Status::Pending | Status::Started | Status::Challenged => false,
                }
        };
        let due: Vec<_> =
            self.live.iter().filter(|(id, inference)| is_due(**id, inference)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.seal(id));
    }

    /// At the end of a session.
    pub(super) fn seal_everything(&mut self) {
        let all: Vec<_> = self.live.keys().copied().collect();
        all.into_iter().for_each(|id| self.seal(id));
    }

    fn seal(&mut self, id: InferenceId) {
        if let Some(inference) = self.live.remove(&id) {
            self.sealed = fold(self.sealed, self.latest, id, &inference);
        }
    }

    /// The latest time at which an executor has confirmed one of the latest inferences.
    fn clock(&self) -> Option<i64> {
        let latest = self.live.values().rev().take(CLOCK_FROM * self.binding.group.len());
        latest.map(|inference| inference.confirmed_at).filter(|at| *at > 0).max()
    }
}
