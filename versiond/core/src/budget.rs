//! The time budget: every timeout of the supervisor in one table, and the inequalities between them.
//!
//! Lives here: names, defaults, meanings, and what contradicts what. Must not live here: where a
//! value came from, and the waiting itself.

use std::fmt;
use std::time::Duration;

use supervisor_protocol::{ByClass, StreamClass};

use crate::timings::Timings;

/// Every duration (and the bounds that go with one). None is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// How long a host says that it is leaving before it refuses anything. `None` where no router
    /// watches the host, and in no other case: see `detection`.
    pub announce: Option<Duration>,
    /// In which every router notices an unready host: its check interval and two check timeouts.
    pub detection: Duration,
    pub hold: Duration,
    /// Requests that may wait at once, over all slots; three quarters of them for one slot.
    pub hold_requests: u32,
    /// What these may take of memory, in bytes, shared likewise.
    pub hold_bytes: u64,
    pub ready_window: Duration,
    pub ready_max: Duration,
    pub ready_probe: Duration,
    pub live_probe: Duration,
    pub live_expiry: Duration,
    /// How long what serves is on trial.
    pub bake: Duration,
    pub drain: Duration,
    pub drain_class: ByClass<Duration>,
    pub stop_grace: Duration,
    pub shutdown_budget: Duration,
    /// What [`Budget::host_drain`] may not fall below.
    pub host_drain_min: Duration,
    pub catalog_poll: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Budget {
            announce: Some(seconds(8)),
            detection: seconds(7),
            hold: seconds(20),
            hold_requests: 1_000,
            hold_bytes: 64 << 20,
            ready_window: minutes(1),
            ready_max: minutes(32),
            ready_probe: Duration::from_millis(100),
            live_probe: seconds(1),
            live_expiry: seconds(5),
            bake: minutes(1),
            drain: minutes(15),
            drain_class: ByClass { request: minutes(2), stream: minutes(15), upgrade: minutes(15), job: minutes(10) },
            stop_grace: minutes(10),
            shutdown_budget: minutes(25),
            host_drain_min: minutes(2),
            catalog_poll: seconds(30),
        }
    }
}

/// A number of bytes as an operator writes it: in the largest unit of which it is a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 30) == 0 => write!(f, "{}GiB", bytes >> 30),
            bytes if bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes}B"),
        }
    }
}

/// Two values that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {left} is not {relation} {right}")]
pub struct Violation {
    pub rule: Rule,
    /// What was compared, with its value.
    pub left: String,
    pub relation: Relation,
    pub right: String,
}

/// How the two sides of an inequality stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    AtLeast,
    AtMost,
    Above,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Relation::AtLeast => "at least",
            Relation::AtMost => "at most",
            Relation::Above => "above",
        })
    }
}

/// What an inequality is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A host that refuses before its routers have noticed loses requests.
    AnnounceCoversDetection,
    /// Announcing, draining and the last stop grace share one absolute deadline.
    HostDrainFits,
    /// The drain is one absolute deadline; no class outlasts it.
    ClassWithinDrain(StreamClass),
    ReadyWindowWithinMax,
    ProbeWithinReadyWindow,
    /// One lost probe must not make an answer expire.
    ExpiryOutlastsTwoProbes,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::AnnounceCoversDetection => f.write_str("routers notice before the host refuses"),
            Rule::HostDrainFits => f.write_str("the host's drain fits into its shutdown budget"),
            Rule::ClassWithinDrain(class) => write!(f, "class {class} ends within the drain"),
            Rule::ReadyWindowWithinMax => f.write_str("the ready window is within its maximum"),
            Rule::ProbeWithinReadyWindow => f.write_str("a probe fits into the ready window"),
            Rule::ExpiryOutlastsTwoProbes => f.write_str("one lost probe withdraws nothing"),
        }
    }
}

/// One inequality with this budget's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inequality {
    pub rule: Rule,
    pub left: String,
    pub relation: Relation,
    pub right: String,
    pub holds: bool,
}

impl fmt::Display for Inequality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inequality { rule, left, relation, right, holds } = self;
        let sign = match relation {
            Relation::AtLeast => "≥",
            Relation::AtMost => "≤",
            Relation::Above => ">",
        };
        write!(f, "{} {left} {sign} {right}   {rule}", if *holds { "ok " } else { "NO " })
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The configuration key.
    pub key: &'static str,
    pub value: String,
    pub default: String,
    pub meaning: &'static str,
}

impl Budget {
    /// How long the whole host may drain: what the shutdown budget leaves after announcing and before
    /// the last stop grace, and no more than `drain`. Zero when it leaves nothing.
    #[must_use]
    pub fn host_drain(&self) -> Duration {
        let spent = self.announce.unwrap_or_default().saturating_add(self.stop_grace);
        self.drain.min(self.shutdown_budget.saturating_sub(spent))
    }

    /// The part that one slot needs.
    #[must_use]
    pub fn timings(&self) -> Timings {
        Timings {
            ready_window: self.ready_window,
            ready_max: self.ready_max,
            live_expiry: self.live_expiry,
            bake: self.bake,
            drain: self.drain,
            drain_class: self.drain_class,
            stop_grace: self.stop_grace,
            hold: self.hold,
            ..Timings::default()
        }
    }

    /// Every inequality, in the order of the manual.
    #[must_use]
    pub fn inequalities(&self) -> Vec<Inequality> {
        use Relation::{Above, AtLeast, AtMost};
        let mut all = Vec::new();
        let mut is = |rule, left: (&str, Duration), relation, right: (&str, Duration)| {
            let holds = match relation {
                AtLeast => left.1 >= right.1,
                AtMost => left.1 <= right.1,
                Above => left.1 > right.1,
            };
            let show = |(name, value): (&str, Duration)| format!("{name} ({})", Span(value));
            all.push(Inequality { rule, left: show(left), relation, right: show(right), holds });
        };
        if let Some(announce) = self.announce {
            is(Rule::AnnounceCoversDetection, ("announce", announce), AtLeast, ("detection", self.detection));
        }
        let host_drain = ("min(drain, shutdown_budget - announce - stop_grace)", self.host_drain());
        is(Rule::HostDrainFits, host_drain, AtLeast, ("host_drain_min", self.host_drain_min));
        for class in StreamClass::ALL {
            let key = Self::class_key(class);
            is(Rule::ClassWithinDrain(class), (key, *self.drain_class.get(class)), AtMost, ("drain", self.drain));
        }
        is(Rule::ReadyWindowWithinMax, ("ready_window", self.ready_window), AtMost, ("ready_max", self.ready_max));
        let window = ("ready_window", self.ready_window);
        is(Rule::ProbeWithinReadyWindow, window, Above, ("ready_probe", self.ready_probe));
        let two = self.live_probe.saturating_mul(2);
        is(Rule::ExpiryOutlastsTwoProbes, ("live_expiry", self.live_expiry), Above, ("2 × live_probe", two));
        all
    }

    /// The table, in the order of a generation's life.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let default = Budget::default();
        Self::MEANINGS
            .iter()
            .map(|(key, meaning)| Row { key, value: self.shown(key), default: default.shown(key), meaning })
            .collect()
    }

    const MEANINGS: [(&'static str, &'static str); 20] = [
        ("poll", "between two readings of the catalog"),
        ("ready_window", "a candidate becomes ready within this"),
        ("ready_max", "however often it says that it is initializing, within this"),
        ("ready_probe", "between two probes of a candidate"),
        ("live_probe", "between two probes of what serves"),
        ("live_expiry", "an older answer counts as unready"),
        ("bake", "what serves is on trial, and what served before is kept"),
        ("hold", "a request waits for a serving generation"),
        ("hold_requests", "requests that wait at once, three quarters of them for one slot"),
        ("hold_bytes", "memory that these may take, shared likewise"),
        ("drain", "the whole drain of a generation, one absolute deadline"),
        ("drain_request", "of which ordinary requests"),
        ("drain_stream", "of which streams"),
        ("drain_upgrade", "of which upgraded connections"),
        ("drain_job", "of which jobs"),
        ("stop_grace", "between the stop signal and the kill"),
        ("detection", "in which every router notices an unready host"),
        ("announce", "the host is unready and still admits"),
        ("shutdown_budget", "the whole stop of the host, one absolute deadline; the outer kill must come later"),
        ("host_drain_min", "what the shutdown budget must leave for draining"),
    ];

    fn shown(&self, key: &str) -> String {
        let span = match key {
            "hold_requests" => return self.hold_requests.to_string(),
            "hold_bytes" => return Bytes(self.hold_bytes).to_string(),
            "announce" => return self.announce.map_or("none".to_owned(), |announce| Span(announce).to_string()),
            "poll" => self.catalog_poll,
            "ready_window" => self.ready_window,
            "ready_max" => self.ready_max,
            "ready_probe" => self.ready_probe,
            "live_probe" => self.live_probe,
            "live_expiry" => self.live_expiry,
            "bake" => self.bake,
            "hold" => self.hold,
            "drain" => self.drain,
            "drain_request" => self.drain_class.request,
            "drain_stream" => self.drain_class.stream,
            "drain_upgrade" => self.drain_class.upgrade,
            "drain_job" => self.drain_class.job,
            "stop_grace" => self.stop_grace,
            "detection" => self.detection,
            "shutdown_budget" => self.shutdown_budget,
            "host_drain_min" => self.host_drain_min,
            _ => return String::new(),
        };
        Span(span).to_string()
    }

    const fn class_key(class: StreamClass) -> &'static str {
        match class {
            StreamClass::Request => "drain_request",
            StreamClass::Stream => "drain_stream",
            StreamClass::Upgrade => "drain_upgrade",
            StreamClass::Job => "drain_job",
        }
    }
}

/// Every inequality that does not hold.
#[must_use]
pub fn check(budget: &Budget) -> Vec<Violation> {
    let broken = budget.inequalities().into_iter().filter(|inequality| !inequality.holds);
    broken.map(|Inequality { rule, left, relation, right, .. }| Violation { rule, left, relation, right }).collect()
}

/// A duration as the configuration writes it: `1h30m`, `8s`, `100ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, name) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
            if rest >= unit {
                write!(f, "{}{name}", rest / unit)?;
                rest %= unit;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut Budget)) -> Vec<Rule> {
        let mut budget = Budget::default();
        change(&mut budget);
        check(&budget).into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn the_defaults_hold_together_and_leave_the_whole_drain_to_the_host() {
        assert_eq!(check(&Budget::default()), []);
        // 25 m - 8 s - 10 m is 14 m 52 s, a little less than the 15 m of one generation.
        assert_eq!(Budget::default().host_drain(), Duration::from_secs(14 * 60 + 52));
    }

    #[test]
    fn f34_phases_that_exceed_the_budget_are_refused() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert_eq!(broken(|b| b.shutdown_budget = minutes(12)), [Rule::HostDrainFits]);
        assert_eq!(broken(|b| b.stop_grace = minutes(30)), [Rule::HostDrainFits]);
        // 12 m 8 s leave exactly the 2 m.
        assert_eq!(broken(|b| b.shutdown_budget = minutes(12) + Duration::from_secs(8)), []);
        assert_eq!(
            broken(|b| {
                b.shutdown_budget = minutes(12);
                b.host_drain_min = minutes(1);
            }),
            []
        );
        assert_eq!(broken(|b| b.drain_class.job = minutes(16)), [Rule::ClassWithinDrain(StreamClass::Job)]);
    }

    /// F33: an announcement that routers cannot notice in time; none at all is a statement that there are none.
    #[test]
    fn f33_an_announcement_shorter_than_detection_is_refused() {
        assert_eq!(broken(|b| b.announce = Some(Duration::from_secs(6))), [Rule::AnnounceCoversDetection]);
        assert_eq!(broken(|b| b.announce = None), []);
    }

    #[test]
    fn probes_fit_into_what_they_guard() {
        assert_eq!(broken(|b| b.ready_window = b.ready_probe), [Rule::ProbeWithinReadyWindow]);
        assert_eq!(broken(|b| b.live_expiry = 2 * b.live_probe), [Rule::ExpiryOutlastsTwoProbes]);
        assert_eq!(broken(|b| b.ready_max = Duration::from_secs(59)), [Rule::ReadyWindowWithinMax]);
    }

    #[test]
    fn every_row_has_a_value_and_reads_back() {
        let rows = Budget::default().rows();
        for row in &rows {
            assert_eq!(row.value, row.default, "{}", row.key);
            if !row.key.starts_with("hold_") {
                supervisor_protocol::time::parse_duration(&row.value).unwrap();
            }
        }
    }
}
