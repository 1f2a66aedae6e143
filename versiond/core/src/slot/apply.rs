//! What a step does to a slot: the state is changed to expect what the shell is about to do.
//!
//! Must not live here: the choice of a step (that is `plan`), what an input does (`edges`), or I/O.

use supervisor_protocol::admin::{DrainCause, DrainOutcome};
use supervisor_protocol::contract::StateKind;
use supervisor_protocol::{Generation, Reason, Tick};

use crate::evacuate::{self, Evacuate, Evacuation, Stage};
use crate::generation::{Drain, Ending, Gen, State};
use crate::plan;
use crate::rollback;
use crate::slot::{Absent, Holding, SUPERSEDED, Slot, Step, Trial, Want};

impl Slot {
    pub(super) fn apply(&mut self, step: &Step, now: Tick) {
        match step {
            Step::Fetch(number, artifact) => {
                self.generations.insert(*number, Gen::begin(*number, artifact.clone(), now));
            }
            Step::Describe(_) => {}
            Step::Start(number) => {
                self.edge(*number, |generation| generation.start(now));
                self.touch_data(*number);
            }
            Step::Publish { new, old } => {
                self.edge(*new, |generation| generation.publish(now));
                self.took_over(*new, *old, now);
            }
            Step::Restore { back, old } => {
                if self.holding.as_ref().is_some_and(|holding| holding.old == *back) {
                    self.next_hold = Some(now.after(self.timings.backoff_max));
                }
                self.leases.remove(back);
                self.child_load.remove(back);
                self.edge(*back, |generation| generation.restore(now));
                self.took_over(*back, *old, now);
            }
            Step::Hold { old, new, until, empty_by } => {
                let bound = now.after(self.timings.hold);
                self.holding = Some(Holding {
                    old: *old,
                    new: *new,
                    expected: *until,
                    empty_by: *empty_by,
                    covered_until: (*until <= bound).then_some(bound),
                });
                if let Some(evacuation) = &mut self.evacuation {
                    evacuation.stage = Stage::Away;
                }
                self.absent = Some(Absent::Hold { until: Some(*until) });
                self.retire(*old, self.swap_cause(*old), Some(*new), None, now);
            }
            Step::Evacuate(new, Evacuate::Claim) => {
                self.evacuation = Some(Evacuation { new: *new, stage: Stage::Claiming });
            }
            Step::Evacuate(new, Evacuate::Leave { until }) => {
                self.evacuation = Some(Evacuation { new: *new, stage: Stage::Leaving { until: *until } });
            }
            Step::Evacuate(new, Evacuate::StepBack) => {
                self.evacuation = None;
                let neighbours = self.policy.evacuate.as_ref();
                let sha256 = self.generations.get(new).map(Gen::sha256);
                self.next_claim = neighbours.zip(sha256).map(|(all, sha256)| evacuate::next_claim(all, &sha256, now));
            }
            Step::Withdraw(number, absent) => {
                self.absent = Some(*absent);
                let denied = self.generations.get(number).is_some_and(|one| self.denied.contains(&one.sha256()));
                let (cause, limit) = match self.want {
                    Want::Stop { deadline } => (DrainCause::HostStop, Some(deadline)),
                    Want::Force => (DrainCause::HostStop, Some(now)),
                    Want::Serve(_) | Want::Keep(_) | Want::Nothing => {
                        (DrainCause::Removal, denied.then(|| now.after(SUPERSEDED)))
                    }
                };
                self.retire(*number, cause, None, limit, now);
            }
            Step::Absent(absent) => self.absent = Some(*absent),
            Step::Cut(number, class) => {
                if let Some(Gen { state: State::Retired { drain, .. } | State::Draining { drain, .. }, .. }) =
                    self.generations.get_mut(number)
                {
                    *drain.cut.get_mut(*class) = true;
                }
            }
            Step::DrainChild(number) => {
                self.child_load.remove(number);
                self.edge(*number, |generation| generation.drain_child(now));
            }
            Step::Park(number, _) => {
                self.leases.remove(number);
                self.child_load.remove(number);
                self.edge(*number, |generation| generation.park(now));
            }
            Step::Terminate(number) => self.terminate(*number, now),
            Step::Kill(number) => self.edge(*number, |generation| generation.kill(now)),
            Step::Forget(number, _) => self.forget(*number),
        }
    }

    /// A generation serves from now on, in the place of another if there is one.
    fn took_over(&mut self, new: Generation, old: Option<Generation>, now: Tick) {
        if let Some(old) = old {
            self.retire(old, self.swap_cause(old), Some(new), None, now);
        }
        self.absent = None;
        self.holding = None;
        self.evacuation = None;
        self.quiescing = None;
        self.restart = self.restart.filter(|restart| *restart == new);
        let Some(serving) = self.generations.get(&new) else { return };
        let (artifact, served) = (serving.artifact.clone(), rollback::served(serving));
        // What it answered before is no part of its trial.
        if let Some(tally) = self.tallies.get_mut(&new) {
            tally.restart();
        }
        let memory = &mut self.memory;
        // It was a yes to one change, which has been made.
        memory.approved = memory.approved.take().filter(|approved| approved.sha256 != artifact.sha256);
        self.trial = match &memory.baked {
            Some(baked) if !baked.artifact.is_same(&artifact) => {
                Some(Trial { generation: new, until: now.after(self.timings.bake), risen: None })
            }
            // With nothing to go back to there is nothing to be tried for.
            Some(_) | None => {
                memory.baked = served;
                None
            }
        };
        memory.last_good = Some(artifact);
    }

    /// Why a generation makes room for another.
    fn swap_cause(&self, old: Generation) -> DrainCause {
        let taken_back = |old: &Gen| self.memory.took_back(&old.artifact.sha256);
        if self.generations.get(&old).is_some_and(taken_back) {
            DrainCause::Rollback
        } else if self.restart == Some(old) {
            DrainCause::Restart
        } else {
            DrainCause::Swap
        }
    }

    fn retire(
        &mut self,
        number: Generation,
        cause: DrainCause,
        successor: Option<Generation>,
        limit: Option<Tick>,
        now: Tick,
    ) {
        let drain = Drain::begin(cause, successor, &self.timings, limit, now);
        self.trial = self.trial.take().filter(|trial| trial.generation != number);
        self.edge(number, |generation| generation.retire(drain, now));
    }

    /// A build may write into the slot's data before it says anything. What cannot read that does not come back to
    /// it.
    fn touch_data(&mut self, number: Generation) {
        let Some(starting) = self.generations.get(&number) else { return };
        let (artifact, facts) = (starting.artifact.clone(), starting.facts().cloned());
        let Some(facts) = facts else { return };
        let memory = &mut self.memory;
        memory.touch(artifact.sha256, &facts);
        let alone = facts.state == StateKind::Local;
        memory.last_good = memory.last_good.take().filter(|good| {
            let readable = memory.served(&good.sha256).is_some_and(|served| memory.unreadable(served).is_none());
            !alone || good.is_same(&artifact) || readable
        });
    }

    fn terminate(&mut self, number: Generation, now: Tick) {
        let Some(generation) = self.generations.get(&number) else { return };
        let (sha256, mut grace) = (generation.sha256(), self.timings.stop_grace);
        let why = match &generation.state {
            State::Retired { drain, .. } | State::Draining { drain, .. } => {
                let empty = self.is_idle(number) && self.child_load.get(&number) == Some(&0);
                let outcome = if empty { DrainOutcome::Drained } else { DrainOutcome::DeadlineCut };
                Ending::Drained(drain.end(outcome, now))
            }
            State::Warming { deadline, detail, .. } => {
                // It has admitted nothing, so there is nothing to wait for.
                grace = grace.min(plan::CANDIDATE_GRACE);
                if now >= *deadline {
                    let detail = detail.clone();
                    self.hold_failed(number, Some(format!("{number} never became ready: {detail}")), now);
                    self.remember(sha256, now, |sha256, retry_in_ms| Reason::NeverReady {
                        sha256,
                        detail,
                        retry_in_ms,
                    });
                    let failure = self.failures.get(&sha256);
                    failure.map_or(Ending::Abandoned, |failure| Ending::Failed(failure.reason.clone()))
                } else {
                    Ending::Abandoned
                }
            }
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Starting { .. }
            | State::Ready { .. }
            | State::Serving { .. }
            | State::Parked { .. }
            | State::Terminating { .. }
            | State::Killing { .. } => {
                grace = grace.min(plan::CANDIDATE_GRACE);
                Ending::Abandoned
            }
        };
        // Requests wait no longer for what is being stopped.
        self.holding = self.holding.take().filter(|holding| holding.new != number);
        self.edge(number, |generation| generation.terminate(why, grace, now));
    }

    fn edge(&mut self, number: Generation, edge: impl FnOnce(&mut Gen) -> bool) {
        if let Some(generation) = self.generations.get_mut(&number) {
            let taken = edge(generation);
            debug_assert!(taken, "{number} is {:?}: the plan took an edge that is not there", generation.phase());
        }
    }
}
