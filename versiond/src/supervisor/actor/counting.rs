//! What of a slot's inputs and steps is counted: processes that end by themselves, bytes that are started again, and
//! what comes of the changes that have begun.
//!
//! Pure. Must not live here: the counters (that is `metrics`), or anything that follows.

use std::collections::BTreeSet;

use supervisor_protocol::admin::Phase;
use supervisor_protocol::{Generation, Sha256, Tick};
use versiond_core::catalog::Artifact;
use versiond_core::generation::{Exit, Failure};
use versiond_core::slot::{Input, Slot, Step};

use crate::metrics::{Counted, Swapped, Way};

/// What is known of a slot beside its state.
#[derive(Debug, Default)]
pub(super) struct Counting {
    /// The bytes whose process has ended by itself since something was published.
    crashed: BTreeSet<Sha256>,
    candidate: Option<Candidate>,
    /// The swap that was last done, until it is known to be taken back.
    done: Option<(Sha256, Way)>,
}

#[derive(Debug)]
struct Candidate {
    number: Generation,
    artifact: Artifact,
    /// Since when nothing but the change itself is waited for.
    approved: Option<Tick>,
    /// How it takes the place of what serves, from the moment it does.
    way: Option<Way>,
    /// What its bytes were remembered for when it began.
    failure: Option<Failure>,
}

impl Counting {
    /// Looks at an input that the slot has not been told of yet.
    pub(super) fn told(&mut self, slot: &Slot, input: &Input) -> Option<Counted> {
        let Input::Exited(number, exit) = input else { return None };
        let generation = slot.generations().find(|generation| generation.number == *number)?;
        match generation.phase() {
            Phase::Starting | Phase::Warming | Phase::Ready | Phase::Serving => {
                self.crashed.insert(generation.sha256());
                Some(Counted::Crash(*exit))
            }
            // It may end once it is done.
            Phase::Retired | Phase::Draining | Phase::Parked => {
                (*exit != Exit::Code(0)).then_some(Counted::Crash(*exit))
            }
            Phase::Fetching
            | Phase::Preflight
            | Phase::Terminating
            | Phase::Killing
            | Phase::Exited
            | Phase::Failed => None,
        }
    }

    /// Looks at what the slot has come to, and by which steps.
    pub(super) fn saw(&mut self, slot: &Slot, steps: &[Step], now: Tick) -> Vec<Counted> {
        let mut counted: Vec<Counted> = steps.iter().filter_map(|step| self.step(slot, step, now)).collect();
        if let Some(candidate) = &mut self.candidate
            && candidate.approved.is_none()
            && slot.may_begin(&candidate.artifact, now)
        {
            candidate.approved = Some(now);
        }
        if let Some((sha256, way)) = self.done
            && is_taken_back(slot, &sha256)
        {
            self.done = None;
            counted.push(Counted::Swap(way, Swapped::RolledBack));
        }
        counted
    }

    fn step(&mut self, slot: &Slot, step: &Step, now: Tick) -> Option<Counted> {
        match step {
            Step::Fetch(number, artifact) => {
                let failure = slot.failure_of(&artifact.sha256).cloned();
                let artifact = artifact.clone();
                self.candidate = Some(Candidate { number: *number, artifact, approved: None, way: None, failure });
                None
            }
            Step::Start(number) => {
                let candidate = self.candidate.as_mut().filter(|candidate| candidate.number == *number)?;
                if slot.serving().is_some() {
                    candidate.way.get_or_insert(Way::Overlap);
                }
                self.crashed.remove(&candidate.artifact.sha256).then_some(Counted::Restart)
            }
            Step::Hold { new, .. } => {
                let candidate = self.candidate.as_mut().filter(|candidate| candidate.number == *new)?;
                candidate.way = Some(if slot.is_evacuating() { Way::Evacuate } else { Way::Hold });
                None
            }
            Step::Restore { .. } => {
                let candidate = self.candidate.as_mut().filter(|candidate| candidate.way == Some(Way::Hold))?;
                candidate.way = None;
                Some(Counted::Swap(Way::Hold, Swapped::GivenUp))
            }
            Step::Publish { new, .. } => {
                self.crashed.clear();
                let candidate = self.candidate.take_if(|candidate| candidate.number == *new)?;
                let (sha256, way) = (candidate.artifact.sha256, candidate.way?);
                self.done = (!is_taken_back(slot, &sha256)).then_some((sha256, way));
                let took = now.since(candidate.approved.unwrap_or(now));
                Some(Counted::Swap(way, Swapped::Done(took)))
            }
            Step::Terminate(number) | Step::Kill(number) | Step::Forget(number, _) => {
                let candidate = self.candidate.take_if(|candidate| candidate.number == *number)?;
                let failure = slot.failure_of(&candidate.artifact.sha256);
                let failed = failure.is_some() && failure != candidate.failure.as_ref();
                Some(Counted::Swap(candidate.way?, if failed { Swapped::Failed } else { Swapped::Abandoned }))
            }
            Step::Describe(_)
            | Step::Evacuate(..)
            | Step::Withdraw(..)
            | Step::Absent(_)
            | Step::Cut(..)
            | Step::DrainChild(_)
            | Step::Park(..) => None,
        }
    }
}

fn is_taken_back(slot: &Slot, sha256: &Sha256) -> bool {
    slot.memory().rolled_back.as_ref().is_some_and(|rolled_back| rolled_back.sha256 == *sha256)
}

#[cfg(test)]
#[path = "counting_tests.rs"]
mod tests;
