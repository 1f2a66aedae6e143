//! The reference: what is really so in a world, kept apart from the machine under test, and the
//! promises that every step of the machine must keep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use supervisor_protocol::admin::{DrainCause, DrainOutcome};
use supervisor_protocol::contract::StateKind;
use supervisor_protocol::{ByClass, Generation, Sha256, StreamClass, Tick};
use versiond_core::generation::{DrainEnd, Exit};
use versiond_core::slot::{Absent, Input, Step, Want};
use versiond_core::timings::Timings;

use crate::world::story::{Build, artifact};

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
    /// The build that may not run.
    pub(crate) denied: Option<usize>,
}

/// One generation.
pub(crate) struct Life {
    pub(crate) build: usize,
    pub(crate) stage: Stage,
    pub(crate) process: Process,
    /// What the latest probe that was delivered said.
    pub(crate) ready: bool,
    /// When the machine last heard something that extends the ready window, and when it began.
    pub(crate) warming: Option<(Tick, Tick)>,
    pub(crate) published: bool,
    pub(crate) retired: Option<Retired>,
    pub(crate) leases: BTreeMap<u64, StreamClass>,
    pub(crate) cut: ByClass<bool>,
    /// The process ended with leases that nobody had cut.
    pub(crate) lost: bool,
    /// What the child last said that it still has.
    pub(crate) child: Option<u64>,
    pub(crate) stopped: Option<Tick>,
    pub(crate) killed: bool,
    pub(crate) exit: Option<Exit>,
    pub(crate) forgotten: bool,
}

/// How far the shell has been told to bring it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Fetching,
    Fetched,
    Describing,
    Described,
    Making,
    Made,
    Draining,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    None,
    Making,
    Alive(Tick),
    Gone,
}

pub(crate) struct Retired {
    pub(crate) at: Tick,
    limit: Option<Tick>,
    cause: DrainCause,
}

impl Life {
    pub(crate) fn has_process(&self) -> bool {
        matches!(self.process, Process::Making | Process::Alive(_))
    }

    pub(crate) fn counts(&self) -> ByClass<u64> {
        let mut counts = ByClass::default();
        self.leases.values().for_each(|class| *counts.get_mut(*class) += 1);
        counts
    }
}

impl Retired {
    /// When the whole drain ends, and when the part of a class does.
    fn deadlines(&self, timings: &Timings) -> (Tick, ByClass<Tick>) {
        let capped =
            |duration: Duration| self.limit.map_or(self.at.after(duration), |limit| limit.min(self.at.after(duration)));
        let whole = capped(timings.drain);
        (whole, timings.drain_class.map(|duration| capped(duration).min(whole)))
    }
}

impl Truth {
    pub(crate) fn want(&mut self, want: &Want) {
        if let Want::Stop { deadline } = want {
            for retired in self.lives.values_mut().filter_map(|life| life.retired.as_mut()) {
                retired.limit = Some(retired.limit.map_or(*deadline, |limit| limit.min(*deadline)));
            }
        }
        if let Want::Nothing = want {
            self.good = None;
        }
        self.want = want.clone();
    }

    pub(crate) fn deny(&mut self, hashes: &BTreeSet<Sha256>) {
        self.denied = (0..self.builds.len()).find(|build| hashes.contains(&artifact(*build).sha256));
    }

    pub(crate) fn wanted_build(&self) -> Option<usize> {
        match &self.want {
            Want::Serve(wanted) => (0..self.builds.len()).find(|build| artifact(*build).sha256 == wanted.sha256),
            Want::Keep(_) | Want::Nothing | Want::Stop { .. } | Want::Force => None,
        }
    }

    /// The builds that a new generation may be of, what served before first.
    fn goals(&self) -> Vec<usize> {
        let Some(wanted) = self.wanted_build() else { return Vec::new() };
        let goals = match self.target.map(|target| self.lives[&target].build) {
            Some(serving) if serving == wanted => Vec::new(),
            Some(_) => vec![wanted],
            None => self.good.into_iter().filter(|good| *good != wanted).chain([wanted]).collect(),
        };
        goals.into_iter().filter(|build| Some(*build) != self.denied).collect()
    }

    pub(crate) fn forced(&self) -> bool {
        matches!(self.want, Want::Force)
    }

    fn is_unwanted(&self) -> bool {
        matches!(self.want, Want::Nothing | Want::Stop { .. } | Want::Force)
    }

    pub(crate) fn shares(&self, life: &Life) -> bool {
        matches!(self.builds[life.build].state, StateKind::None | StateKind::Shared)
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
                let goals = self.goals();
                let place = goals.iter().position(|build| artifact(*build).sha256 == wanted.sha256);
                let place = place.expect("only what is wanted, or has served, is fetched");
                let build = goals[place];
                let over = |life: &Life| life.forgotten || life.stopped.is_some();
                let failed = |better: &usize| self.lives.values().any(|life| life.build == *better && over(life));
                assert!(goals[..place].iter().all(failed), "P7: what served before does not come back first");
                let before = self.lives.insert(*number, Life::begin(build));
                assert!(before.is_none(), "{number} is used again");
            }
            Step::Describe(number) => self.reach(*number, Stage::Fetched, Stage::Describing),
            Step::Start(number) => self.start(*number),
            Step::Publish { new, old } => self.publish(*new, *old),
            Step::Withdraw(number, absent) => self.withdraw(*number, *absent, input),
            Step::Absent(absent) => {
                assert_eq!(self.target, None, "something serves");
                self.absent = Some(*absent);
            }
            Step::Cut(number, class) => self.cut(*number, *class),
            Step::DrainChild(number) => {
                let life = self.life(*number);
                assert!(life.retired.is_some() && life.leases.is_empty(), "P1: {number} is drained beside its leases");
                self.reach(*number, Stage::Made, Stage::Draining);
            }
            Step::Terminate(number) => self.terminate(*number),
            Step::Kill(number) => self.kill(*number),
            Step::Forget(number, end) => self.forget(*number, end.as_ref()),
        }
        let alive = self.lives.values().filter(|life| life.has_process()).count();
        assert!(alive <= 2, "F13: {alive} generations of one slot have processes");
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
        assert!(self.goals().contains(&life.build));
        let build = life.build;
        // F68: it may migrate what the other one served from.
        if self.builds[build].state == StateKind::Local && self.good != Some(build) {
            self.good = None;
        }
        self.life(number).process = Process::Making;
    }

    fn publish(&mut self, new: Generation, old: Option<Generation>) {
        assert_eq!(old, self.target, "P4: what served is retired by the step that replaces it");
        let goals = self.goals();
        let (now, life) = (self.now, self.life(new));
        assert!(life.ready, "P2: the latest probe of {new} did not say ready");
        assert!(matches!(life.process, Process::Alive(_)), "P2: the process of {new} does not live");
        assert!(!life.published && life.stopped.is_none());
        assert!(goals.contains(&life.build), "P6: {new} is not what is wanted");
        life.published = true;
        self.good = Some(life.build);
        if let Some(old) = old {
            self.life(old).retired = Some(Retired { at: now, limit: None, cause: DrainCause::Swap });
        }
        let drains = self.lives.values().filter(|life| life.retired.is_some() && life.has_process()).count();
        assert!(drains <= 1, "F13: {drains} predecessors drain beside {new}");
        self.target = Some(new);
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
            Want::Nothing | Want::Serve(_) | Want::Keep(_) => (DrainCause::Removal, None),
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
        let (now, timings, goals) = (self.now, self.timings.clone(), self.goals());
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
            assert!(!life.published, "P1: {number} is stopped while it serves");
            let superseded = !goals.contains(&life.build);
            let out_of_time = life.warming.is_some_and(|warming| now >= window_end(warming, &timings));
            assert!(superseded || out_of_time, "F19: {number} is given up before its window ends");
        }
    }

    fn kill(&mut self, number: Generation) {
        let (now, forced, timings) = (self.now, self.forced(), self.timings.clone());
        let life = self.life(number);
        assert!(life.process != Process::None && !life.killed, "{number} has no process to kill");
        life.killed = true;
        let grace = if life.published { timings.stop_grace } else { timings.stop_grace.min(Duration::from_secs(10)) };
        let over = life.stopped.is_some_and(|stopped| now >= stopped.after(grace));
        assert!(forced || over, "P1: {number} is killed within its grace");
    }

    fn forget(&mut self, number: Generation, end: Option<&DrainEnd>) {
        let life = self.life(number);
        assert!(!life.has_process(), "P7: {number} is forgotten while its process lives");
        life.forgotten = true;
        assert_eq!(life.published, end.is_some(), "what served, and nothing else, leaves a receipt");
        let (Some(end), Some(retired)) = (end, &life.retired) else { return };
        assert_eq!(end.cause, retired.cause);
        assert_eq!(end.successor.is_some(), end.cause == DrainCause::Swap);
        let cut = StreamClass::ALL.into_iter().any(|class| *life.cut.get(class));
        if end.outcome == DrainOutcome::Drained {
            assert!(!cut && !life.lost, "P1: the receipt of {number} hides work that was cut");
            let left_by_itself = life.exit == Some(Exit::Code(0)) && life.child.unwrap_or(0) == 0;
            assert!(life.child == Some(0) || left_by_itself, "the receipt of {number} counts what nobody counted");
        }
    }

    /// The moment before which the machine must want to be asked again.
    pub(crate) fn must_wake_by(&self) -> Option<Tick> {
        let lives = self.lives.values().filter(|life| life.has_process() && !life.killed);
        let due = lives.filter_map(|life| match (life.stopped, &life.retired, life.warming) {
            (Some(stopped), _, _) => Some(stopped.after(self.timings.stop_grace)),
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

impl Life {
    fn begin(build: usize) -> Life {
        Life {
            build,
            stage: Stage::Fetching,
            process: Process::None,
            ready: false,
            warming: None,
            published: false,
            retired: None,
            leases: BTreeMap::new(),
            cut: ByClass::default(),
            lost: false,
            child: None,
            stopped: None,
            killed: false,
            exit: None,
            forgotten: false,
        }
    }
}

/// The end of a ready window that was last extended at the first and began at the second moment.
fn window_end((extended, began): (Tick, Tick), timings: &Timings) -> Tick {
    extended.after(timings.ready_window).min(began.after(timings.ready_max))
}
