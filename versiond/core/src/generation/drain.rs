//! A drain: its deadlines while it lasts, and what came of it.
//!
//! Must not live here: counts of leases (they are the slot's), or when to begin one (that is `plan`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use supervisor_protocol::admin::{DrainCause, DrainOutcome};
use supervisor_protocol::{ByClass, Generation, StreamClass, Tick};

use crate::timings::Timings;

/// A drain under way: one absolute deadline, and one per class, all counted from its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub cause: DrainCause,
    pub successor: Option<Generation>,
    pub began: Tick,
    pub deadline: Tick,
    pub class_deadlines: ByClass<Tick>,
    /// Classes whose deadline has passed with work still in them.
    pub cut: ByClass<bool>,
}

impl Drain {
    /// A drain that begins now and may last as long as the timings allow, at most until `limit`.
    #[must_use]
    pub fn begin(
        cause: DrainCause,
        successor: Option<Generation>,
        timings: &Timings,
        limit: Option<Tick>,
        now: Tick,
    ) -> Drain {
        let capped = |duration: Duration| {
            let tick = now.after(duration);
            limit.map_or(tick, |limit| tick.min(limit))
        };
        let deadline = capped(timings.drain);
        let class_deadlines = timings.drain_class.map(|duration| capped(duration).min(deadline));
        Drain { cause, successor, began: now, deadline, class_deadlines, cut: ByClass::default() }
    }

    /// The classes to cut now: past their deadline, with leases left, and not cut before.
    pub(crate) fn due_cuts(&self, leases: &ByClass<u64>, now: Tick) -> Vec<StreamClass> {
        StreamClass::ALL
            .into_iter()
            .filter(|class| {
                *leases.get(*class) > 0 && !self.cut.get(*class) && now >= *self.class_deadlines.get(*class)
            })
            .collect()
    }

    /// The next moment at which a class with work in it is cut, or the whole drain ends.
    pub(crate) fn next_deadline(&self, leases: &ByClass<u64>) -> Tick {
        StreamClass::ALL
            .into_iter()
            .filter(|class| *leases.get(*class) > 0 && !self.cut.get(*class))
            .map(|class| *self.class_deadlines.get(class))
            .fold(self.deadline, Tick::min)
    }

    /// Whether any of its work was cut.
    pub(crate) fn has_cut(&self) -> bool {
        StreamClass::ALL.into_iter().any(|class| *self.cut.get(class))
    }

    /// Moves every deadline to `limit` where it lies later.
    pub(crate) fn shorten(&mut self, limit: Tick) {
        self.deadline = self.deadline.min(limit);
        self.class_deadlines = self.class_deadlines.map(|tick| tick.min(limit));
    }

    pub(crate) fn end(&self, outcome: DrainOutcome, now: Tick) -> DrainEnd {
        let cut_any = self.has_cut();
        let outcome = if cut_any && outcome == DrainOutcome::Drained { DrainOutcome::DeadlineCut } else { outcome };
        DrainEnd {
            cause: self.cause,
            successor: self.successor,
            took_ms: supervisor_protocol::time::millis(now.since(self.began)),
            outcome,
        }
    }
}

/// What came of a drain, as far as the pure part knows it. The shell adds what the leases counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainEnd {
    pub cause: DrainCause,
    pub successor: Option<Generation>,
    pub took_ms: u64,
    pub outcome: DrainOutcome,
}
