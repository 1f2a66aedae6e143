//! What an input and a step do to a slot: the edges of its generations, and the failures it remembers.
//!
//! Must not live here: the choice of a step (that is `plan`), or I/O.

use supervisor_protocol::admin::{DrainCause, DrainOutcome};
use supervisor_protocol::contract::StateKind;
use supervisor_protocol::{Generation, Reason, Sha256, Tick};

use crate::generation::{Drain, Ending, Exit, Failure, Gen, State};
use crate::plan;
use crate::slot::{Failed, Input, NotLaunched, Slot, Step, Want};

/// What the shell was asked, and has failed at.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Fetch,
    Describe,
    Launch,
}

impl Slot {
    fn state(&self, number: Generation) -> Option<&State> {
        self.generations.get(&number).map(|generation| &generation.state)
    }

    pub(super) fn take(&mut self, input: Input, now: Tick) -> Vec<Step> {
        match input {
            Input::Want(want) => {
                match want {
                    Want::Stop { deadline } => self.shorten_drains(deadline),
                    // What is approved anew one day begins anew.
                    Want::Nothing => self.last_good = None,
                    Want::Serve(_) | Want::Keep(_) | Want::Force => {}
                }
                self.want = want;
                Vec::new()
            }
            Input::Fetched(number) => {
                let taken = self.generations.get_mut(&number).is_some_and(|generation| generation.fetched(now));
                if taken { vec![Step::Describe(number)] } else { Vec::new() }
            }
            Input::FetchFailed(number, failed) => {
                self.fail(number, Asked::Fetch, now, |sha256, retry_in_ms| match failed {
                    Failed::Fetch(detail) => Reason::FetchFailed { sha256, detail, retry_in_ms },
                    Failed::Hash { found } => Reason::HashMismatch { expected: sha256, found, retry_in_ms },
                    Failed::Artifact(detail) => Reason::ArtifactRefused { sha256, detail, retry_in_ms },
                    Failed::Ledger(detail) => Reason::LedgerUnwritable { detail },
                })
            }
            Input::Described(number, facts) => {
                if let Some(generation) = self.generations.get_mut(&number) {
                    generation.described(facts, now);
                }
                Vec::new()
            }
            Input::PreflightFailed(number, detail) => self
                .fail(number, Asked::Describe, now, |_, retry_in_ms| Reason::PreflightFailed { detail, retry_in_ms }),
            Input::Launched(number) => {
                let timings = self.timings.clone();
                if let Some(generation) = self.generations.get_mut(&number) {
                    generation.launched(&timings, now);
                }
                Vec::new()
            }
            Input::LaunchFailed(number, failed) => {
                self.fail(number, Asked::Launch, now, |sha256, retry_in_ms| match failed {
                    NotLaunched::Ports { range } => Reason::PortsExhausted { range },
                    NotLaunched::Failed(detail) => Reason::StartFailed { sha256, detail, retry_in_ms },
                })
            }
            Input::Probed(number, probe) => {
                let timings = self.timings.clone();
                if let Some(generation) = self.generations.get_mut(&number) {
                    generation.probed(&probe, &timings, now);
                }
                Vec::new()
            }
            Input::Leases(number, leases) => {
                // A count taken before the target was retired could still grow, so it is no proof of rest.
                if let Some(State::Retired { .. } | State::Draining { .. }) = self.state(number) {
                    self.leases.insert(number, leases);
                }
                Vec::new()
            }
            Input::ChildLoad(number, inflight) => {
                if let Some(State::Draining { .. }) = self.state(number) {
                    self.child_load.insert(number, inflight);
                }
                Vec::new()
            }
            Input::Exited(number, exit) => self.exited(number, exit, now),
            Input::Denied(denied) => {
                self.denied = denied;
                Vec::new()
            }
            Input::Tick => Vec::new(),
        }
    }

    /// What was asked of a candidate has failed: remembered, forgotten, tried again later. An answer to
    /// what is no longer asked changes nothing.
    fn fail(
        &mut self,
        number: Generation,
        asked: Asked,
        now: Tick,
        reason: impl FnOnce(String, u64) -> Reason,
    ) -> Vec<Step> {
        let Some(generation) = self.generations.get(&number) else { return Vec::new() };
        match (&generation.state, asked) {
            (State::Fetching, Asked::Fetch)
            | (State::Preflight, Asked::Describe)
            | (State::Starting { .. }, Asked::Launch) => {
                let sha256 = generation.sha256();
                self.remember(sha256, now, reason);
            }
            // It was given up while it was being made, and so is no failure of the build.
            (
                State::Terminating { why: Ending::Abandoned, .. } | State::Killing { why: Ending::Abandoned, .. },
                Asked::Launch,
            ) => {}
            (
                State::Fetching
                | State::Preflight
                | State::Waiting { .. }
                | State::Starting { .. }
                | State::Warming { .. }
                | State::Ready { .. }
                | State::Serving { .. }
                | State::Retired { .. }
                | State::Draining { .. }
                | State::Terminating { .. }
                | State::Killing { .. },
                Asked::Fetch | Asked::Describe | Asked::Launch,
            ) => return Vec::new(),
        }
        self.forget(number);
        vec![Step::Forget(number, None)]
    }

    fn exited(&mut self, number: Generation, exit: Exit, now: Tick) -> Vec<Step> {
        let Some(generation) = self.generations.get(&number) else { return Vec::new() };
        let (sha256, since) = (generation.sha256(), generation.since);
        match generation.state.clone() {
            State::Terminating { why: Ending::Drained(end), .. } | State::Killing { why: Ending::Drained(end), .. } => {
                self.forget(number);
                vec![Step::Forget(number, Some(end))]
            }
            State::Retired { drain, .. } => {
                self.forget(number);
                vec![Step::Forget(number, Some(drain.end(DrainOutcome::ProcessGone, now)))]
            }
            State::Draining { drain, .. } => {
                // It may end by itself once it is done. A count that never came is no zero, but a clean exit is.
                let left = self.leases(number).total() + self.child_load.get(&number).copied().unwrap_or_default();
                let outcome =
                    if exit == Exit::Code(0) && left == 0 { DrainOutcome::Drained } else { DrainOutcome::ProcessGone };
                self.forget(number);
                vec![Step::Forget(number, Some(drain.end(outcome, now)))]
            }
            State::Serving { .. } => {
                if now.since(since) > self.timings.backoff_reset {
                    self.failures.remove(&sha256);
                }
                let detail = exit.to_string();
                self.remember(sha256, now, |_, retry_in_ms| Reason::CrashBackoff {
                    generation: number.0,
                    detail,
                    retry_in_ms,
                });
                let end =
                    Drain::begin(DrainCause::Crash, None, &self.timings, None, now).end(DrainOutcome::ProcessGone, now);
                self.forget(number);
                let absent = plan::absent(self, now);
                self.absent = Some(absent);
                vec![Step::Withdraw(number, absent), Step::Forget(number, Some(end))]
            }
            State::Starting { .. } | State::Warming { .. } | State::Ready { .. } => {
                let detail = exit.to_string();
                self.remember(sha256, now, |sha256, retry_in_ms| Reason::StartFailed { sha256, detail, retry_in_ms });
                self.forget(number);
                vec![Step::Forget(number, None)]
            }
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Terminating { why: Ending::Abandoned, .. }
            | State::Killing { why: Ending::Abandoned, .. } => {
                self.forget(number);
                vec![Step::Forget(number, None)]
            }
        }
    }

    fn remember(&mut self, sha256: Sha256, now: Tick, reason: impl FnOnce(String, u64) -> Reason) {
        let count = self.failures.get(&sha256).map_or(0, |failure| failure.count) + 1;
        let pause = self.timings.backoff(count);
        let until = now.after(pause);
        let reason = reason(sha256.to_string(), supervisor_protocol::time::millis(pause));
        self.failures.insert(sha256, Failure { count, until, reason });
    }

    fn forget(&mut self, number: Generation) {
        self.generations.remove(&number);
        self.leases.remove(&number);
        self.child_load.remove(&number);
    }

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
                self.absent = None;
                self.last_good = self.generations.get(new).map(|generation| generation.artifact.clone());
                self.edge(*new, |generation| generation.publish(now));
                if let Some(old) = old {
                    let drain = Drain::begin(DrainCause::Swap, Some(*new), &self.timings, None, now);
                    self.edge(*old, |generation| generation.retire(drain, now));
                }
            }
            Step::Withdraw(number, absent) => {
                self.absent = Some(*absent);
                let (cause, limit) = match self.want {
                    Want::Stop { deadline } => (DrainCause::HostStop, Some(deadline)),
                    Want::Force => (DrainCause::HostStop, Some(now)),
                    Want::Serve(_) | Want::Keep(_) | Want::Nothing => (DrainCause::Removal, None),
                };
                let drain = Drain::begin(cause, None, &self.timings, limit, now);
                self.edge(*number, |generation| generation.retire(drain, now));
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
            Step::Terminate(number) => self.terminate(*number, now),
            Step::Kill(number) => self.edge(*number, |generation| generation.kill(now)),
            Step::Forget(number, _) => self.forget(*number),
        }
    }

    /// A build with state of its own may migrate the slot's data before it says anything: whatever served from
    /// them before cannot be trusted with them any more.
    fn touch_data(&mut self, number: Generation) {
        let Some(starting) = self.generations.get(&number) else { return };
        let local = starting.facts().is_none_or(|facts| facts.state == StateKind::Local);
        if local && self.last_good.as_ref().is_some_and(|good| !good.is_same(&starting.artifact)) {
            self.last_good = None;
        }
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
                if now >= *deadline {
                    let detail = detail.clone();
                    self.remember(sha256, now, |sha256, retry_in_ms| Reason::NeverReady {
                        sha256,
                        detail,
                        retry_in_ms,
                    });
                }
                // It has admitted nothing, so there is nothing to wait for.
                grace = grace.min(plan::CANDIDATE_GRACE);
                Ending::Abandoned
            }
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Starting { .. }
            | State::Ready { .. }
            | State::Serving { .. }
            | State::Terminating { .. }
            | State::Killing { .. } => {
                grace = grace.min(plan::CANDIDATE_GRACE);
                Ending::Abandoned
            }
        };
        self.edge(number, |generation| generation.terminate(why, grace, now));
    }

    /// Readiness that nobody has confirmed for too long is readiness no more.
    pub(super) fn expire(&mut self, now: Tick) {
        let timings = &self.timings;
        for generation in self.generations.values_mut() {
            if generation.live_until(timings).is_some_and(|until| now >= until) {
                generation.expire();
            }
        }
    }

    pub(super) fn shorten_drains(&mut self, limit: Tick) {
        for generation in self.generations.values_mut() {
            if let State::Retired { drain, .. } | State::Draining { drain, .. } = &mut generation.state {
                drain.shorten(limit);
            }
        }
    }

    fn edge(&mut self, number: Generation, edge: impl FnOnce(&mut Gen) -> bool) {
        if let Some(generation) = self.generations.get_mut(&number) {
            let taken = edge(generation);
            debug_assert!(taken, "{number} is {:?}: the plan took an edge that is not there", generation.phase());
        }
    }
}
