//! What must hold between the machine and the truth at any moment, while nothing happens, and at rest.

use supervisor_protocol::admin::Phase;
use supervisor_protocol::{Reason, Tick};
use versiond_core::slot::{Absent, Input, Want};

use crate::world::World;
use crate::world::life::{Life, Process};

impl World {
    /// After every input.
    pub(super) fn check_state(&self) {
        let (slot, truth) = (&self.slot, &self.truth);
        let now = truth.now;
        assert_eq!(slot.serving().map(|serving| serving.number), truth.target, "the machine knows what serves");
        let known: Vec<_> = slot.generations().map(|generation| generation.number).collect();
        let begun = truth.lives.iter().filter(|(_, life)| !life.forgotten).map(|(number, _)| *number);
        assert_eq!(known, begun.collect::<Vec<_>>(), "P7: each generation is accounted for");

        let mut again = slot.clone();
        assert_eq!(again.handle(Input::Tick, self.next, now), [], "what can be done now is done at once");

        let wake = slot.wake();
        assert!(wake.is_none_or(|(at, _)| at > now), "it wakes for {wake:?}, and nothing is due");
        let due = truth.must_wake_by().filter(|due| *due > now);
        assert!(due.is_none_or(|due| wake.is_some_and(|(at, _)| at <= due)), "{due:?} is due, it wakes for {wake:?}");

        let at_rest = match &truth.want {
            Want::Serve(wanted) => slot.serving().is_some_and(|serving| serving.artifact.is_same(wanted)),
            Want::Keep(_) => false,
            Want::Nothing | Want::Stop { .. } | Want::Force => slot.is_gone(),
        };
        assert!(at_rest || !slot.reasons(now).is_empty(), "P11: it is not where it is wanted, and gives no reason");
        let waits = slot.serving().is_none() && truth.absent != Some(Absent::NotServing);
        if let (Want::Serve(_), true, None) = (&truth.want, waits, slot.candidate()) {
            let latest = now.after(truth.timings.backoff_max);
            assert!(wake.is_some_and(|(at, _)| at <= latest), "P7: it waits for a new try and wakes for {wake:?}");
        }
        self.check_wait();
        self.check_absent();
    }

    /// A candidate that could start without harm is not kept waiting.
    fn check_wait(&self) {
        let waiting = self
            .slot
            .candidate()
            .filter(|candidate| candidate.phase() == Phase::Preflight && candidate.facts().is_some());
        let Some(candidate) = waiting.filter(|_| self.truth.is_free()) else { return };
        let build = self.truth.lives[&candidate.number].build;
        let local = self.truth.builds[build].is_alone();
        if self.truth.target.is_none() && local && self.truth.good.is_some_and(|good| good != build) {
            // What served from the data directory comes back before anything else touches it.
            return;
        }
        // A process counts until the machine knows that it is gone.
        let known =
            self.truth.lives.iter().filter(|(number, life)| {
                **number != candidate.number && !life.forgotten && life.process != Process::None
            });
        let others: Vec<&Life> = known.map(|(_, life)| life).collect();
        let life = &self.truth.lives[&candidate.number];
        let share = self.truth.shares(life) && others.iter().all(|other| self.truth.shares(other));
        // What is kept for a way back is not in the way.
        let others: Vec<&Life> = others.into_iter().filter(|other| !other.parked || other.stopped.is_some()).collect();
        let may_start = others.is_empty() || share && others.len() == 1;
        assert!(!may_start, "P4: {} waits and could start beside {} others", candidate.number, others.len());
    }

    /// While nothing serves, a request is told what fits what is wanted.
    fn check_absent(&self) {
        let (None, Some(absent)) = (self.truth.target, self.truth.absent) else { return };
        match (&self.truth.want, absent) {
            (Want::Serve(_), Absent::Hold { until }) => {
                assert!(until.is_none_or(|until| until > self.truth.now), "a forecast that has passed: {until:?}");
            }
            (Want::Serve(_) | Want::Keep(_), Absent::NotServing) => {}
            (Want::Keep(_), Absent::Hold { .. }) => {}
            (Want::Nothing, Absent::NotFound) | (Want::Stop { .. } | Want::Force, Absent::Stopping) => {}
            (want, absent) => panic!("a request is told {absent:?} while {want:?} is wanted"),
        }
    }

    /// Before the moment it asks for, a tick changes nothing.
    pub(super) fn check_quiet_until(&self, at: Tick) {
        let now = self.truth.now;
        for early in [now.0 + 1, now.0 + (at.0 - now.0) / 2, at.0.saturating_sub(1)] {
            if (now.0 + 1..at.0).contains(&early) {
                let steps = self.slot.clone().handle(Input::Tick, self.next, Tick(early));
                assert_eq!(steps, [], "at {early} ms something is due before it wakes at {:?}", self.slot.wake());
            }
        }
    }

    /// Long after the last thing happened.
    pub(super) fn check_rest(&self) {
        let (slot, truth) = (&self.slot, &self.truth);
        let drains = truth.lives.values().filter(|life| life.retired.is_some() && !life.forgotten).count();
        assert_eq!(drains, 0, "P7: every drain ends");
        match &truth.want {
            Want::Nothing | Want::Stop { .. } | Want::Force => assert!(slot.is_gone(), "P7: nothing is left"),
            Want::Keep(_) => {}
            Want::Serve(_) => {
                let wanted = truth.wanted_build().expect("a build is wanted");
                let build = &truth.builds[wanted];
                let serving = truth.target.map(|target| truth.lives[&target].build);
                let beside_local =
                    truth.target.is_some_and(|target| !truth.shares(&truth.lives[&target]) || build.is_alone());
                assert!(serving.is_none() || serving != truth.denied, "P6: what is denied serves");
                if slot.memory().rolled_back.is_some() || truth.operated {
                    // Not only the catalog's word counts: what serves was checked when it came.
                    return;
                }
                if build.is_good(&truth.timings) && serving != Some(wanted) {
                    assert!(beside_local, "P7: a good build is wanted, {serving:?} serves");
                    let reasons = slot.reasons(truth.now);
                    let waits = |reason: &Reason| matches!(reason.code(), "needs_window" | "quiescing");
                    assert!(reasons.iter().any(waits), "F08: {reasons:?}");
                }
                let good = truth.good.filter(|good| Some(*good) != truth.denied);
                if let Some(good) = good.filter(|good| truth.builds[*good].is_good(&truth.timings)) {
                    assert!(serving.is_some(), "P7: {good} has served and could, and nothing does");
                }
                if build.is_bad(&truth.timings) {
                    assert_ne!(serving, Some(wanted), "P2: a bad build serves");
                }
            }
        }
    }
}
