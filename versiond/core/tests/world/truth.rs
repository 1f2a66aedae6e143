//! The reference: what is really so in a world, kept apart from the machine under test, and the
//! promises that every step of the machine must keep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use supervisor_protocol::admin::{DrainCause, DrainOutcome, Verb};
use supervisor_protocol::contract::StateKind;
use supervisor_protocol::{Generation, Sha256, StreamClass, Tick};
use versiond_core::generation::{DrainEnd, Exit};
use versiond_core::slot::{Absent, Input, SUPERSEDED, Slot, Step, Want};
use versiond_core::timings::Timings;

use crate::world::errors::Errors;
use crate::world::life::{Life, Process, Retired, Stage};
use crate::world::story::{ACTIVATED, Build, artifact};

/// Everything that is so.
pub(crate) struct Truth {
    pub(crate) now: Tick,
    pub(crate) want: Want,
    pub(crate) timings: Timings,
    pub(crate) builds: Vec<Build>,
    pub(crate) lives: BTreeMap<Generation, Life>,
    /// The generation that the data plane sends new requests to.
    pub(crate) target: Option<Generation>,
    pub(crate) absent: Option<Absent>,
    /// The build that last served, until its name is removed.
    pub(crate) good: Option<usize>,
    /// The builds that were approved since the name was last removed.
    pub(crate) named: BTreeSet<usize>,
    /// The build that may not run.
    pub(crate) denied: Option<usize>,
    /// Requests wait for the second in the place of the first, which must empty by then.
    pub(crate) holding: Option<(Generation, Generation, Option<Tick>)>,
    /// For which build an operator accepts to be away.
    pub(crate) accepts: Option<usize>,
    /// An operator has ordered something, or a build was taken back: not only the catalog's word counts.
    pub(crate) operated: bool,
    pub(crate) closed_until: Option<Tick>,
    pub(crate) errors: Errors,
}

impl Truth {
    pub(crate) fn want(&mut self, want: &Want) {
        if let Want::Stop { deadline } = want {
            for retired in self.lives.values_mut().filter_map(|life| life.retired.as_mut()) {
                retired.limit = Some(retired.limit.map_or(*deadline, |limit| limit.min(*deadline)));
            }
        }
        match want {
            Want::Nothing => {
                self.good = None;
                self.named.clear();
            }
            Want::Serve(artifact) => {
                let build =
                    (0..self.builds.len()).find(|build| crate::world::story::artifact(*build).is_same(artifact));
                self.named.extend(build);
            }
            Want::Keep(_) | Want::Stop { .. } | Want::Force => {}
        }
        if !matches!(want, Want::Serve(_) | Want::Keep(_)) {
            self.holding = None;
        }
        self.want = want.clone();
    }

    pub(crate) fn deny(&mut self, hashes: &BTreeSet<Sha256>) {
        self.denied = (0..self.builds.len()).find(|build| hashes.contains(&artifact(*build).sha256));
        let limit = self.now.after(SUPERSEDED);
        for life in self.lives.values_mut().filter(|life| self.denied == Some(life.build)) {
            if let Some(retired) = &mut life.retired {
                retired.limit = Some(retired.limit.map_or(limit, |before| before.min(limit)));
            }
        }
    }

    pub(crate) fn wanted_build(&self) -> Option<usize> {
        match &self.want {
            Want::Serve(wanted) => (0..self.builds.len()).find(|build| artifact(*build).sha256 == wanted.sha256),
            Want::Keep(_) | Want::Nothing | Want::Stop { .. } | Want::Force => None,
        }
    }

    /// What an operator's order changes of what is so.
    pub(crate) fn ordered(&mut self, verb: &Verb, slot: &Slot) {
        self.operated = true;
        match verb {
            Verb::Approve { accept_downtime, .. } => {
                let approved = slot.memory().approved.as_ref().map(|approved| approved.sha256);
                let build = (0..self.builds.len()).find(|build| Some(artifact(*build).sha256) == approved);
                self.accepts = build.filter(|_| *accept_downtime);
            }
            Verb::Rollback { .. } => {
                let way = slot.memory().baked.as_ref().map(|served| served.artifact.sha256);
                self.good = (0..self.builds.len()).find(|build| Some(artifact(*build).sha256) == way).or(self.good);
            }
            Verb::Supersede => {
                let limit = self.now.after(SUPERSEDED);
                for retired in self.lives.values_mut().filter_map(|life| life.retired.as_mut()) {
                    retired.limit = Some(retired.limit.map_or(limit, |before| before.min(limit)));
                }
            }
            Verb::Hold | Verb::Release | Verb::Pin { .. } | Verb::Unpin | Verb::Retry | Verb::Restart => {}
        }
    }

    /// Whether nothing but the slot itself keeps a change from beginning.
    pub(crate) fn is_free(&self) -> bool {
        !self.operated && self.closed_until.is_none_or(|opens| opens <= self.now)
    }

    /// P6: approved for this slot, now or before, and not denied.
    fn may_run(&self, build: usize) -> bool {
        self.named.contains(&build) && self.denied != Some(build)
    }

    pub(crate) fn forced(&self) -> bool {
        matches!(self.want, Want::Force)
    }

    fn is_unwanted(&self) -> bool {
        matches!(self.want, Want::Nothing | Want::Stop { .. } | Want::Force)
    }

    pub(crate) fn shares(&self, life: &Life) -> bool {
        !self.builds[life.build].is_alone()
    }

    /// The generations other than this one that have a process.
    pub(crate) fn others(&self, number: Generation) -> Vec<&Life> {
        self.lives
            .iter()
            .filter(|(other, life)| **other != number && life.has_process())
            .map(|(_, life)| life)
            .collect()
    }

    fn life(&mut self, number: Generation) -> &mut Life {
        let life = self.lives.get_mut(&number).unwrap_or_else(|| panic!("a step names {number}, which never began"));
        assert!(!life.forgotten, "a step names {number}, which is forgotten");
        life
    }

    /// Checks one step against what is so, and makes it so.
    pub(crate) fn step(&mut self, step: &Step, input: &Input, next: Generation) {
        match step {
            Step::Fetch(number, wanted) => {
                assert_eq!(*number, next, "numbers are given out by the shell");
                let build = (0..self.builds.len()).find(|build| artifact(*build).is_same(wanted)).expect("a build");
                assert!(self.may_run(build), "P6: {build} is fetched");
                let before = self.lives.insert(*number, Life::begin(build));
                assert!(before.is_none(), "{number} is used again");
            }
            Step::Describe(number) => self.reach(*number, Stage::Fetched, Stage::Describing),
            Step::Start(number) => self.start(*number),
            Step::Publish { new, old } => self.publish(*new, *old),
            Step::Restore { back, old } => self.restore(*back, *old),
            Step::Hold { old, new, until, empty_by } => self.hold(*old, *new, *until, *empty_by),
            Step::Evacuate(..) => panic!("this host has no peers"),
            Step::Park(number, end) => self.park(*number, end),
            Step::Withdraw(number, absent) => self.withdraw(*number, *absent, input),
            Step::Absent(absent) => {
                assert_eq!(self.target, None, "something serves");
                self.absent = Some(*absent);
            }
            Step::Cut(number, class) => self.cut(*number, *class),
            Step::DrainChild(number) => {
                let life = self.life(*number);
                assert!(life.retired.is_some() && life.leases.is_empty(), "P1: {number} is drained beside its leases");
                life.drains += 1;
                self.reach(*number, Stage::Made, Stage::Draining);
            }
            Step::Terminate(number) => self.terminate(*number),
            Step::Kill(number) => self.kill(*number),
            Step::Forget(number, end) => self.forget(*number, end.as_ref()),
        }
        let alive = self.lives.values().filter(|life| life.has_process()).count();
        assert!(alive <= 4, "F13: {alive} generations of one slot have processes");
    }

    fn reach(&mut self, number: Generation, from: Stage, to: Stage) {
        let life = self.life(number);
        assert_eq!(life.stage, from, "{number} is brought to {to:?}");
        life.stage = to;
    }

    fn start(&mut self, number: Generation) {
        self.reach(number, Stage::Described, Stage::Making);
        let life = &self.lives[&number];
        let others = self.others(number);
        assert!(
            others.is_empty() || self.shares(life) && others.iter().all(|other| self.shares(other)),
            "P5: {number} starts beside another, and not both share"
        );
        assert!(self.may_run(life.build), "P6: {number} starts");
        let build = life.build;
        // F68: it may migrate what the other one served from.
        if self.builds[build].state == StateKind::Local && self.good != Some(build) {
            self.good = None;
        }
        self.life(number).process = Process::Making;
    }

    fn publish(&mut self, new: Generation, old: Option<Generation>) {
        let life = self.life(new);
        assert!(life.ready, "P2: the latest probe of {new} did not say ready");
        assert!(matches!(life.process, Process::Alive(_)), "P2: the process of {new} does not live");
        assert!(!life.published && life.stopped.is_none());
        life.published = true;
        self.take_over(new, old);
    }

    /// What a target that comes and one that goes have in common, whatever brought it.
    fn take_over(&mut self, new: Generation, old: Option<Generation>) {
        assert_eq!(old, self.target, "P4: what served is retired by the step that replaces it");
        let now = self.now;
        let life = self.life(new);
        (life.owes, life.since) = (true, now);
        let build = life.build;
        assert!(self.may_run(build), "P6: {new} is not approved");
        let activated = self.good == Some(ACTIVATED) && self.wanted_build() == Some(ACTIVATED);
        assert!(!activated || build == ACTIVATED || self.operated, "F15: {new} goes back behind an activation");
        self.good = Some(build);
        if let Some(old) = old {
            self.life(old).retired = Some(Retired { at: now, limit: None, cause: DrainCause::Swap });
        }
        let drains = self.lives.values().filter(|life| life.retired.is_some() && life.has_process()).count();
        assert!(drains <= 2, "F13: {drains} predecessors drain beside {new}");
        self.target = Some(new);
        self.holding = None;
        self.accepts = self.accepts.filter(|accepts| *accepts != build);
    }

    fn restore(&mut self, back: Generation, old: Option<Generation>) {
        let undrain = self.builds[self.lives[&back].build].undrain;
        let given_up = self.holding.is_some_and(|(held, ..)| held == back);
        let others_share = self.others(back).iter().all(|other| self.shares(other));
        let life = self.life(back);
        assert!(life.published && life.stopped.is_none(), "{back} has not served, or is stopped");
        assert!(StreamClass::ALL.into_iter().all(|class| !life.cut.get(class)), "P1: work of {back} was cut");
        assert!(life.stage == Stage::Made || undrain, "{back} cannot take its drain back");
        assert!(given_up || life.misses < 2, "P2: {back} has not been ready lately");
        (life.retired, life.parked, life.child, life.stage) = (None, false, None, Stage::Made);
        life.comebacks += 1;
        let alone = self.others(back).is_empty();
        assert!(alone || others_share && self.shares(&self.lives[&back]), "P5: {back} returns beside another");
        self.take_over(back, old);
    }

    fn hold(&mut self, old: Generation, new: Generation, until: Tick, empty_by: Option<Tick>) {
        assert_eq!(self.target, Some(old));
        let (before, after) = (&self.lives[&old], &self.lives[&new]);
        assert!(!self.shares(before) || !self.shares(after), "P4: {new} could come beside {old}");
        assert_eq!(after.stage, Stage::Described, "F09: {new} is not known to be fit");
        assert!(self.may_run(after.build), "P6: {new} is not approved");
        let bound = self.now.after(self.timings.hold);
        match empty_by {
            Some(empty_by) => assert!(until <= bound && empty_by <= bound, "P4: {old} is away for too long"),
            None => {
                assert_eq!(self.accepts, Some(self.lives[&new].build), "P4: nobody has accepted that {old} is away")
            }
        }
        let now = self.now;
        self.target = None;
        self.absent = Some(Absent::Hold { until: Some(until) });
        self.holding = Some((old, new, empty_by));
        self.life(old).retired = Some(Retired { at: now, limit: None, cause: DrainCause::Swap });
    }

    fn park(&mut self, number: Generation, end: &DrainEnd) {
        let undrain = self.builds[self.lives[&number].build].undrain;
        assert!(undrain && self.shares(&self.lives[&number]), "{number} could never return");
        assert!(!self.lives.values().any(|life| life.parked && !life.forgotten && life.stopped.is_none()));
        let life = self.life(number);
        assert!(life.leases.is_empty() && life.child == Some(0), "P1: {number} has not drained");
        assert_eq!(end.outcome, DrainOutcome::Drained);
        (life.retired, life.parked, life.owes) = (None, true, false);
    }

    fn withdraw(&mut self, number: Generation, absent: Absent, input: &Input) {
        assert_eq!(self.target, Some(number));
        self.target = None;
        self.absent = Some(absent);
        let crashed = matches!(input, Input::Exited(exited, _) if *exited == number);
        let denied = self.denied == Some(self.lives[&number].build);
        assert!(
            self.is_unwanted() || crashed || denied,
            "P3, P4: {number} is withdrawn although it lives and is wanted"
        );
        let (cause, limit) = match self.want {
            _ if crashed => (DrainCause::Crash, None),
            Want::Stop { deadline } => (DrainCause::HostStop, Some(deadline)),
            Want::Force => (DrainCause::HostStop, Some(self.now)),
            Want::Nothing | Want::Serve(_) | Want::Keep(_) => {
                (DrainCause::Removal, denied.then(|| self.now.after(SUPERSEDED)))
            }
        };
        let now = self.now;
        self.life(number).retired = Some(Retired { at: now, limit, cause });
    }

    fn cut(&mut self, number: Generation, class: StreamClass) {
        let (now, timings) = (self.now, self.timings.clone());
        let life = self.life(number);
        let retired = life.retired.as_ref().expect("only what drains is cut");
        let due = *retired.deadlines(&timings).1.get(class);
        assert!(now >= due, "P1: {class} of {number} is cut at {now:?}, its deadline is {due:?}");
        assert!(!life.cut.get(class), "{class} of {number} is cut twice");
        *life.cut.get_mut(class) = true;
        life.leases.retain(|_, lease| *lease != class);
    }

    fn terminate(&mut self, number: Generation) {
        let (now, timings) = (self.now, self.timings.clone());
        let life = self.life(number);
        assert!(life.process != Process::None, "{number} has no process to stop");
        assert!(life.stopped.is_none(), "{number} is stopped twice");
        life.stopped = Some(now);
        if let Some(retired) = &life.retired {
            assert!(life.leases.is_empty(), "P1: {number} is stopped with {:?} uncut", life.counts());
            let (deadline, _) = retired.deadlines(&timings);
            let empty = life.stage == Stage::Draining && life.child == Some(0);
            assert!(empty || now >= deadline, "P1: {number} is stopped before its child is empty");
        } else {
            let idle = life.parked && life.leases.is_empty();
            assert!(idle || !life.published, "P1: {number} is stopped while it serves");
        }
    }

    fn kill(&mut self, number: Generation) {
        let (now, forced, timings) = (self.now, self.forced(), self.timings.clone());
        let life = self.life(number);
        assert!(life.process != Process::None && !life.killed, "{number} has no process to kill");
        life.killed = true;
        let grace = if life.published && !life.parked {
            timings.stop_grace
        } else {
            timings.stop_grace.min(Duration::from_secs(10))
        };
        let over = life.stopped.is_some_and(|stopped| now >= stopped.after(grace));
        assert!(forced || over, "P1: {number} is killed within its grace");
    }

    fn forget(&mut self, number: Generation, end: Option<&DrainEnd>) {
        let life = self.life(number);
        assert!(!life.has_process(), "P7: {number} is forgotten while its process lives");
        life.forgotten = true;
        assert_eq!(life.owes, end.is_some(), "what served, and nothing else, leaves a receipt");
        let (Some(end), Some(retired)) = (end, &life.retired) else { return };
        let swap = matches!(end.cause, DrainCause::Swap | DrainCause::Rollback | DrainCause::Restart);
        assert_eq!(swap, retired.cause == DrainCause::Swap);
        assert_eq!(end.successor.is_some(), swap);
        let cut = StreamClass::ALL.into_iter().any(|class| *life.cut.get(class));
        if end.outcome == DrainOutcome::Drained {
            assert!(!cut && !life.lost, "P1: the receipt of {number} hides work that was cut");
            let left_by_itself = life.exit == Some(Exit::Code(0)) && life.child.unwrap_or(0) == 0;
            assert!(
                life.child == Some(0) || left_by_itself,
                "the receipt of {number} counts what nobody counted: {:?} {:?} {:?}",
                life.child,
                life.exit,
                life.stage
            );
        }
    }

    /// The moment before which the machine must want to be asked again.
    pub(crate) fn must_wake_by(&self) -> Option<Tick> {
        let lives = self.lives.values().filter(|life| life.has_process() && !life.killed);
        let due = lives.filter_map(|life| match (life.stopped, &life.retired, life.warming) {
            (Some(stopped), _, _) => Some(stopped.after(self.timings.stop_grace)),
            (None, None, _) if life.parked => None,
            (None, Some(retired), _) => {
                let (deadline, classes) = retired.deadlines(&self.timings);
                Some(life.leases.values().map(|class| *classes.get(*class)).fold(deadline, Tick::min))
            }
            (None, None, Some(warming)) if !life.published => Some(window_end(warming, &self.timings)),
            (None, None, _) => None,
        });
        due.min()
    }
}

/// The end of a ready window that was last extended at the first and began at the second moment.
fn window_end((extended, began): (Tick, Tick), timings: &Timings) -> Tick {
    extended.after(timings.ready_window).min(began.after(timings.ready_max))
}
