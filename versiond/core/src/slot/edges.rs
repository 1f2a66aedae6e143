//! What an input does to a slot: the edges of its generations, and the failures it remembers.
//!
//! Must not live here: the choice of a step (that is `plan`), what a step does (`apply`), or I/O.

use supervisor_protocol::admin::{DrainCause, DrainOutcome};
use supervisor_protocol::time::millis;
use supervisor_protocol::{Generation, Reason, Sha256, Tick};

use crate::evacuate::Stage;
use crate::generation::{Drain, Ending, Exit, Failure, State};
use crate::goals;
use crate::memory::{Memory, RollbackCause, RolledBack};
use crate::plan;
use crate::slot::{Failed, Input, NotLaunched, Quiescing, SUPERSEDED, Slot, Step, Want};
use crate::window::Opening;

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
                self.wants(want, now);
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
            Input::NotIsolated(number, detail) => {
                self.fail(number, Asked::Describe, now, |_, _| Reason::IsolationMissing { detail })
            }
            Input::Launched(number) => {
                let timings = self.timings.clone();
                if let Some(generation) = self.generations.get_mut(&number) {
                    generation.launched(&timings, now);
                }
                Vec::new()
            }
            Input::LaunchFailed(number, failed) => {
                // A host without a free port says nothing of the build.
                let blame = match &failed {
                    NotLaunched::Failed(detail) => Some(format!("{number} could not be started: {detail}")),
                    NotLaunched::Ports { .. } | NotLaunched::Ledger(_) | NotLaunched::Isolation(_) => None,
                };
                if let Some(State::Starting { .. }) = self.state(number) {
                    self.hold_failed(number, blame, now);
                }
                self.fail(number, Asked::Launch, now, |sha256, retry_in_ms| match failed {
                    NotLaunched::Ports { range } => Reason::PortsExhausted { range },
                    NotLaunched::Ledger(detail) => Reason::LedgerUnwritable { detail },
                    NotLaunched::Isolation(detail) => Reason::IsolationMissing { detail },
                    NotLaunched::Failed(detail) => Reason::StartFailed { sha256, detail, retry_in_ms },
                })
            }
            Input::Probed(number, probe) => {
                let timings = self.timings.clone();
                let generation = self.generations.get_mut(&number);
                if let Some(ms) = generation.and_then(|generation| generation.probed(&probe, &timings, now)) {
                    self.memory.started_within(ms);
                }
                Vec::new()
            }
            Input::Compared(number, probe) => {
                if let Some(generation) = self.generations.get_mut(&number) {
                    generation.compared(&probe, now);
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
            Input::Forecast(number, forecast_ms) => {
                let candidate = self.candidate().map(|candidate| candidate.number);
                if let Some(candidate) = candidate.filter(|_| self.wants_forecast(now) == Some(number)) {
                    let before = self.quiescing.take().filter(|before| before.candidate == candidate);
                    let since = before.map_or(now, |before| before.since);
                    self.quiescing = Some(Quiescing { candidate, since, forecast_ms, at: now });
                }
                Vec::new()
            }
            Input::Peer { host, asked, word } => {
                let known = self.policy.evacuate.as_ref().is_some_and(|neighbours| neighbours.others.contains(&host));
                if known {
                    self.peers.entry(host).or_default().heard(asked, word);
                }
                Vec::new()
            }
            Input::Claimed(number) => {
                if let Some(evacuation) = self.evacuation.as_mut().filter(|evacuation| evacuation.new == number)
                    && evacuation.stage == Stage::Claiming
                {
                    evacuation.stage = Stage::Claimed { at: now };
                }
                Vec::new()
            }
            Input::Answers(number, answers) => {
                self.answered(number, answers, now);
                Vec::new()
            }
            Input::Exited(number, exit) => self.exited(number, exit, now),
            Input::Denied(denied) => {
                self.denied = denied;
                self.shorten_denied(now);
                Vec::new()
            }
            Input::Opening(opening) => {
                self.opening = opening;
                Vec::new()
            }
            Input::Tick => Vec::new(),
        }
    }

    /// Something else is wanted. What was remembered for another hash is forgotten.
    fn wants(&mut self, want: Want, now: Tick) {
        let before = goals::ordered(self).map(|ordered| ordered.sha256);
        match want {
            Want::Stop { deadline } => {
                self.shorten_drains(deadline);
                self.holding = None;
                self.evacuation = None;
            }
            // What is approved anew one day begins anew.
            Want::Nothing => {
                self.memory = Memory::default();
                self.trial = None;
                self.holding = None;
                self.evacuation = None;
            }
            Want::Force => {
                self.holding = None;
                self.evacuation = None;
            }
            Want::Serve(_) | Want::Keep(_) => {}
        }
        self.want = want;
        self.reordered(before, now);
    }

    /// After a change of what is ordered: from here on it is another change.
    pub(super) fn reordered(&mut self, before: Option<Sha256>, now: Tick) {
        let Some(sha256) = goals::ordered(self).map(|ordered| ordered.sha256) else { return };
        self.memory.rolled_back = self.memory.rolled_back.take().filter(|taken_back| taken_back.sha256 == sha256);
        self.memory.approved = self.memory.approved.take().filter(|approved| approved.sha256 == sha256);
        if before != Some(sha256) {
            self.wanted_since = now;
            self.next_hold = None;
            self.restart = None;
        }
    }

    /// A candidate for which requests wait has failed. Where the old one comes back it is not stopped again for the
    /// same bytes: a build that is to blame was taken back, any other waits for a while.
    pub(super) fn hold_failed(&mut self, number: Generation, blame: Option<String>, now: Tick) {
        let Some(holding) = self.holding.take_if(|holding| holding.new == number) else { return };
        let Some(failed) = self.generations.get(&holding.new).map(|failed| failed.artifact.sha256) else { return };
        self.next_hold = Some(now.after(self.timings.backoff_max));
        let ordered = goals::ordered(self).is_some_and(|ordered| ordered.sha256 == failed);
        let comes_back = self.memory.last_good.as_ref().is_some_and(|good| good.sha256 != failed);
        if let Some(detail) = blame.filter(|_| ordered && comes_back) {
            self.memory.rolled_back = Some(RolledBack { sha256: failed, cause: RollbackCause::Start, detail });
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
                State::Terminating { why: Ending::Abandoned | Ending::Failed(_), .. }
                | State::Killing { why: Ending::Abandoned | Ending::Failed(_), .. },
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
                | State::Parked { .. }
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
        let (artifact, sha256, since) = (generation.artifact.clone(), generation.sha256(), generation.since);
        match generation.state.clone() {
            State::Terminating { why: Ending::Drained(end), .. } | State::Killing { why: Ending::Drained(end), .. } => {
                self.memory.stopped_within(millis(now.since(since)));
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
                if self.trial.as_ref().is_some_and(|trial| trial.generation == number) {
                    self.trial = None;
                    self.take_back(&artifact, RollbackCause::Crash, format!("{number} ended: {exit}"));
                }
                self.forget(number);
                let absent = plan::absent(self, now);
                self.absent = Some(absent);
                vec![Step::Withdraw(number, absent), Step::Forget(number, Some(end))]
            }
            State::Starting { .. } | State::Warming { .. } | State::Ready { .. } => {
                let detail = exit.to_string();
                self.hold_failed(number, Some(format!("{number} ended before it was ready: {exit}")), now);
                self.remember(sha256, now, |sha256, retry_in_ms| Reason::StartFailed { sha256, detail, retry_in_ms });
                self.forget(number);
                vec![Step::Forget(number, None)]
            }
            State::Fetching
            | State::Preflight
            | State::Waiting { .. }
            | State::Parked { .. }
            | State::Terminating { why: Ending::Abandoned | Ending::Failed(_), .. }
            | State::Killing { why: Ending::Abandoned | Ending::Failed(_), .. } => {
                self.forget(number);
                vec![Step::Forget(number, None)]
            }
        }
    }

    pub(super) fn remember(&mut self, sha256: Sha256, now: Tick, reason: impl FnOnce(String, u64) -> Reason) {
        let count = self.failures.get(&sha256).map_or(0, |failure| failure.count) + 1;
        let pause = self.timings.backoff(count);
        let until = now.after(pause);
        let reason = reason(sha256.to_string(), millis(pause));
        self.failures.insert(sha256, Failure { count, until, reason });
    }

    pub(super) fn forget(&mut self, number: Generation) {
        self.generations.remove(&number);
        self.holding = self.holding.take().filter(|holding| holding.new != number);
        self.quiescing = self.quiescing.take().filter(|quiescing| quiescing.candidate != number);
        // One that has taken the slot away gives it back when something serves.
        self.evacuation = self.evacuation.filter(|one| one.new != number || one.stage == Stage::Away);
        self.restart = self.restart.filter(|restart| *restart != number);
        self.leases.remove(&number);
        self.child_load.remove(&number);
        self.tallies.remove(&number);
    }

    /// Readiness that nobody has confirmed for too long is readiness no more.
    pub(super) fn expire(&mut self, now: Tick) {
        let timings = &self.timings;
        for generation in self.generations.values_mut() {
            generation.expire(timings, now);
        }
        if let Some(holding) = &mut self.holding {
            holding.covered_until = holding.covered_until.filter(|until| *until > now);
        }
        self.next_hold = self.next_hold.filter(|next| *next > now);
        self.next_claim = self.next_claim.filter(|next| *next > now);
        match self.opening {
            Opening::Closed { opens } if opens <= now => self.opening = Opening::Open { closes: None },
            Opening::Closed { .. } | Opening::Open { .. } => {}
        }
    }

    /// What is denied leaves within the deadline of a superseded drain.
    fn shorten_denied(&mut self, now: Tick) {
        let limit = now.after(SUPERSEDED);
        for generation in self.generations.values_mut().filter(|one| self.denied.contains(&one.artifact.sha256)) {
            if let State::Retired { drain, .. } | State::Draining { drain, .. } = &mut generation.state {
                drain.shorten(limit);
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
}
