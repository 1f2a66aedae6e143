//! When silence is not believed: it would take the last ready host, or more than half of them at once.
//!
//! What was ready last is then kept and tried. Lives here: the rule, over what is ready and what fell silent,
//! and nothing that is remembered: it ends by itself as members answer again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use supervisor_protocol::Tick;

/// Which of the two rules count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Of a pool: the last one, and more than half at once.
    Pool,
    /// Of one version: the last one.
    Version,
}

/// Why silence is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    LastReady,
    MoreThanHalf,
}

impl Cause {
    /// The metric label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Cause::LastReady => "last_ready",
            Cause::MoreThanHalf => "more_than_half",
        }
    }
}

/// Those that are kept although they are silent, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept<I> {
    pub cause: Cause,
    pub members: BTreeSet<I>,
}

/// Who is kept. `silent` holds those that were ready when they were heard last, with the moment at which each
/// fell silent; `ready` counts those that are ready now. Silences within `window` of each other are one event.
///
/// The events are gone through as they came: at each of them, those that it took are kept if they were more
/// than half of what was ready then, or if they leave nobody.
#[must_use]
pub fn kept<I: Ord + Clone>(ready: usize, silent: &BTreeMap<I, Tick>, window: Duration, rule: Rule) -> Option<Kept<I>> {
    let mut members = BTreeSet::new();
    let mut cause = None;
    let moments: BTreeSet<Tick> = silent.values().copied().collect();
    for moment in moments {
        let still_ready = ready + silent.values().filter(|since| **since > moment).count();
        let taken = silent.iter().filter(|(_, since)| **since <= moment && moment.since(**since) <= window);
        let taken: BTreeSet<I> = taken.map(|(id, _)| id.clone()).collect();
        let why = if still_ready == 0 {
            Some(Cause::LastReady)
        } else {
            match rule {
                Rule::Pool if taken.len() > still_ready => Some(Cause::MoreThanHalf),
                Rule::Pool | Rule::Version => None,
            }
        };
        if why.is_some() {
            members.extend(taken);
            cause = cause.min(why).or(why);
        }
    }
    cause.map(|cause| Kept { cause, members })
}
