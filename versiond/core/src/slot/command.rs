//! What an operator's verb does to a slot. The steps that follow are the plan's.
//!
//! What must outlive a restart is in the slot's memory, which the shell writes before it answers. Must not
//! live here: who may ask (that is the shell's).

use std::time::Duration;

use supervisor_protocol::Tick;
use supervisor_protocol::admin::{Verb, VerbRefused};

use super::{Slot, Want};
use crate::catalog::Artifact;
use crate::goals;
use crate::memory::{Approval, RollbackCause, RolledBack};
use crate::rollback;

/// What a superseded drain still gets.
pub const SUPERSEDED: Duration = Duration::from_secs(30);

impl Slot {
    /// Takes an operator's order, or says why not. To be followed by `handle(Input::Tick)`.
    pub fn command(&mut self, verb: &Verb, now: Tick) -> Result<(), VerbRefused> {
        match self.order(verb, now)? {
            Ok(()) => Ok(()),
            Err(Nothing(detail)) => Err(VerbRefused::NothingToDo { verb: verb.as_str().to_owned(), detail }),
        }
    }

    fn order(&mut self, verb: &Verb, now: Tick) -> Result<Result<(), Nothing>, VerbRefused> {
        let nothing = |detail: &str| Ok(Err(Nothing(detail.to_owned())));
        match (&self.want, verb) {
            (Want::Serve(_) | Want::Keep(_), _) | (_, Verb::Supersede) => {}
            (Want::Nothing, _) => return nothing("the name is not approved"),
            (Want::Stop { .. } | Want::Force, _) => return Err(VerbRefused::HostLeaving),
        }
        let ordered = goals::ordered(self).map(|ordered| ordered.sha256);
        match verb {
            Verb::Approve { accept_downtime, force_order } => {
                let Some(sha256) = ordered else { return nothing("nothing is wanted") };
                if goals::serves_desired(self) && !self.memory.took_back(&sha256) {
                    return nothing("what is wanted serves");
                }
                self.memory.approved =
                    Some(Approval { sha256, accept_downtime: *accept_downtime, force_order: *force_order });
                self.memory.rolled_back = None;
            }
            Verb::Hold => self.memory.held = true,
            Verb::Release => {
                if !std::mem::take(&mut self.memory.held) {
                    return nothing("no operator holds the slot");
                }
            }
            Verb::Rollback { force } => return self.roll_back(*force, now),
            Verb::Pin { sha256 } => {
                let pin = match sha256 {
                    Some(sha256) => self.known().find(|known| known.sha256 == *sha256).cloned().ok_or_else(|| {
                        let mut all: Vec<String> = self.known().map(|known| known.sha256.short()).collect();
                        all.sort();
                        all.dedup();
                        let (short, known) = (sha256.short(), all.join(", "));
                        VerbRefused::UnknownArtifact {
                            detail: format!(
                                "{short} is neither wanted here nor has it served here lately (known: {known})"
                            ),
                        }
                    })?,
                    None => {
                        let serving = self.serving().map(|serving| serving.artifact.clone());
                        let Some(pin) = serving.or_else(|| self.memory.last_good.clone()) else {
                            return nothing("nothing serves");
                        };
                        pin
                    }
                };
                self.pin(pin, now);
            }
            Verb::Unpin => {
                if self.memory.pin.take().is_none() {
                    return nothing("the slot is not pinned");
                }
                self.reordered(ordered, now);
            }
            Verb::Retry => {
                let taken_back = self.memory.rolled_back.take();
                if self.failures.is_empty() && taken_back.is_none() && self.next_hold.is_none() {
                    return nothing("nothing has failed");
                }
                self.failures.clear();
                self.next_hold = None;
            }
            Verb::Restart => {
                let Some(serving) = self.serving() else { return nothing("nothing serves") };
                self.restart = Some(serving.number);
            }
            Verb::Supersede => {
                if !self.generations.values().any(|generation| generation.drain().is_some()) {
                    return nothing("no generation of the slot drains");
                }
                self.shorten_drains(now.after(SUPERSEDED));
            }
        }
        Ok(Ok(()))
    }

    /// Runs these bytes whatever the catalog says. They need not be known to the slot: the store has them.
    pub fn pin(&mut self, artifact: Artifact, now: Tick) {
        let before = goals::ordered(self).map(|ordered| ordered.sha256);
        self.memory.rolled_back = None;
        self.memory.pin = Some(artifact);
        self.reordered(before, now);
    }

    /// Goes back to what had passed its trial before what is ordered now.
    fn roll_back(&mut self, force: bool, now: Tick) -> Result<Result<(), Nothing>, VerbRefused> {
        let nothing = |detail: &str| Ok(Err(Nothing(detail.to_owned())));
        let Some(ordered) = goals::ordered(self).cloned() else { return nothing("nothing is wanted") };
        let Some(way) = rollback::way(self, &ordered).cloned() else { return nothing("nothing else has served here") };
        if self.memory.took_back(&ordered.sha256) {
            return nothing("the slot has gone back already");
        }
        let blocked = rollback::blocked(self, &ordered, &way);
        if let Some(detail) = blocked.filter(|_| !force || self.denied.contains(&way.artifact.sha256)) {
            return Err(VerbRefused::RollbackUnsafe { detail });
        }
        let detail = "an operator went back".to_owned();
        self.memory.rolled_back = Some(RolledBack { sha256: ordered.sha256, cause: RollbackCause::Operator, detail });
        self.memory.last_good = Some(way.artifact.clone());
        self.memory.before = None;
        self.memory.baked = Some(way);
        self.trial = None;
        self.next_hold = None;
        self.wanted_since = now;
        Ok(Ok(()))
    }

    /// What the slot itself can be pinned to.
    fn known(&self) -> impl Iterator<Item = &Artifact> {
        let memory = &self.memory;
        let served = memory.baked.iter().chain(&memory.before).map(|served| &served.artifact);
        // What still drains may be of a name that was removed meanwhile.
        self.wanted().into_iter().chain(&memory.last_good).chain(served)
    }
}

/// Why there is nothing to be done.
struct Nothing(String);
