//! What is really so of one generation.
//!
//! Must not live here: what a step may do to it (that is `truth`).

use std::collections::BTreeMap;
use std::time::Duration;

use supervisor_protocol::admin::DrainCause;
use supervisor_protocol::{ByClass, StreamClass, Tick};
use versiond_core::generation::{Exit, Probe};
use versiond_core::timings::Timings;

use crate::world::errors::Answered;

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
    /// It has served and no receipt has been written since.
    pub(crate) owes: bool,
    pub(crate) parked: bool,
    /// Answers in a row, to what is asked of it where it stands, that did not say ready.
    pub(crate) misses: u8,
    /// When it last said ready to that.
    pub(crate) heard: Option<Tick>,
    /// When it last became the target, and how often it has come back.
    pub(crate) since: Tick,
    pub(crate) comebacks: u32,
    pub(crate) answered: Answered,
    /// How often it has been told to drain.
    pub(crate) drains: u32,
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
    pub(crate) limit: Option<Tick>,
    pub(crate) cause: DrainCause,
}

impl Life {
    pub(crate) fn begin(build: usize) -> Life {
        Life {
            build,
            stage: Stage::Fetching,
            process: Process::None,
            ready: false,
            warming: None,
            published: false,
            owes: false,
            parked: false,
            misses: 0,
            heard: None,
            since: Tick::ZERO,
            comebacks: 0,
            answered: Answered::default(),
            drains: 0,
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

    pub(crate) fn has_process(&self) -> bool {
        matches!(self.process, Process::Making | Process::Alive(_))
    }

    /// Whether it is asked if it could serve again. An answer to another question, that was asked before it came
    /// here, says nothing of that: it may have said that it drains.
    pub(crate) fn is_standby(&self) -> bool {
        self.retired.is_some() || self.parked
    }

    pub(crate) fn hears(&mut self, probe: &Probe, now: Tick) {
        self.heard = if *probe == Probe::Ready { Some(now) } else { self.heard };
        self.misses = if *probe == Probe::Ready { 0 } else { self.misses.saturating_add(1) };
    }

    /// Whether it is in this one of its drains.
    pub(crate) fn is_in(&self, drain: u32) -> bool {
        self.stage == Stage::Draining && self.drains == drain
    }

    pub(crate) fn counts(&self) -> ByClass<u64> {
        let mut counts = ByClass::default();
        self.leases.values().for_each(|class| *counts.get_mut(*class) += 1);
        counts
    }
}

impl Retired {
    /// When the whole drain ends, and when the part of a class does.
    pub(crate) fn deadlines(&self, timings: &Timings) -> (Tick, ByClass<Tick>) {
        let capped =
            |duration: Duration| self.limit.map_or(self.at.after(duration), |limit| limit.min(self.at.after(duration)));
        let whole = capped(timings.drain);
        (whole, timings.drain_class.map(|duration| capped(duration).min(whole)))
    }
}
