//! What the clients counted. Pure.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;
use supervisor_protocol::Tick;

use crate::checks::{Fault, Verdict};
use crate::scenario::Slot;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Short,
    Stream,
    Upload,
    WebSocket,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Short => "short request",
            Kind::Stream => "stream",
            Kind::Upload => "upload",
            Kind::WebSocket => "websocket",
        })
    }
}

/// The counts of one kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    pub started: u64,
    pub whole: u64,
    pub failed: u64,
    pub cut: u64,
    pub wrong_binary: u64,
    pub killed: u64,
    /// Told, rightly, that the name has been removed.
    pub not_found: u64,
}

impl Counts {
    /// Ended, in whatever way.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.whole + self.failed + self.cut + self.wrong_binary + self.killed + self.not_found
    }
}

/// One operation that was not whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub at_ms: u64,
    pub kind: Kind,
    pub slot: String,
    pub verdict: Verdict,
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { at_ms, kind, slot, verdict, what } = self;
        let verdict = match verdict {
            Verdict::Failed => "failed",
            Verdict::Cut => "cut",
            Verdict::WrongBinary => "wrong binary",
            Verdict::Killed => "killed",
        };
        let (seconds, tenths) = (at_ms / 1_000, at_ms % 1_000 / 100);
        write!(f, "{seconds:>4}.{tenths} s  {slot:<6} {kind:<13} {verdict}: {what}")
    }
}

/// Everything that was counted.
#[derive(Debug, Clone)]
pub struct Tally {
    counts: BTreeMap<Kind, Counts>,
    failures: Vec<Failure>,
    /// Apart, so that they do not use up the room of what nothing excuses.
    killed: Vec<Failure>,
    /// Events of streams that came in order.
    pub events: u64,
    /// Bytes of uploads that arrived whole.
    pub uploaded: u64,
    during: Histogram<u64>,
    outside: Histogram<u64>,
}

/// Failures beyond this many are counted but not described.
const DESCRIBED: usize = 200;

impl Tally {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        // A minute in microseconds; three digits. The bounds are constants, so this cannot fail.
        let histogram = || Histogram::new_with_bounds(1, 60_000_000, 3).unwrap_or_else(|_| unreachable!());
        Self {
            counts: BTreeMap::new(),
            failures: Vec::new(),
            killed: Vec::new(),
            events: 0,
            uploaded: 0,
            during: histogram(),
            outside: histogram(),
        }
    }

    /// An operation starts.
    pub fn start(&mut self, kind: Kind) {
        self.counts.entry(kind).or_default().started += 1;
    }

    /// An operation came to its own, right end.
    pub fn whole(&mut self, kind: Kind) {
        self.counts.entry(kind).or_default().whole += 1;
    }

    /// An operation was told, rightly, that the name is gone.
    pub fn not_found(&mut self, kind: Kind) {
        self.counts.entry(kind).or_default().not_found += 1;
    }

    /// An operation was not whole.
    pub fn fault(&mut self, kind: Kind, slot: Slot, fault: &Fault, verdict: Verdict, now: Tick) {
        let counts = self.counts.entry(kind).or_default();
        *match verdict {
            Verdict::Failed => &mut counts.failed,
            Verdict::Cut => &mut counts.cut,
            Verdict::WrongBinary => &mut counts.wrong_binary,
            Verdict::Killed => &mut counts.killed,
        } += 1;
        let described = if verdict == Verdict::Killed { &mut self.killed } else { &mut self.failures };
        if described.len() < DESCRIBED {
            let what = fault.to_string();
            described.push(Failure { at_ms: now.0, kind, slot: slot.name(), verdict, what });
        }
    }

    /// The latency of a short request, in microseconds.
    pub fn latency(&mut self, micros: u64, during_a_swap: bool) {
        if during_a_swap { &mut self.during } else { &mut self.outside }.saturating_record(micros.max(1));
    }

    /// The counts of one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Counts {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// The sum of one count over all kinds.
    #[must_use]
    pub fn sum(&self, count: fn(&Counts) -> u64) -> u64 {
        self.counts.values().map(count).sum()
    }

    /// The first failures, described; those that a kill of ours explains are left out.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter()
    }

    /// The first failures that a kill of ours explains.
    pub fn killed(&self) -> impl Iterator<Item = &Failure> {
        self.killed.iter()
    }

    /// Latencies of short requests in swaps and outside them.
    #[must_use]
    pub fn latencies(&self) -> (Latency, Latency) {
        (Latency::of(&self.during), Latency::of(&self.outside))
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

/// A summary of latencies, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    pub count: u64,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |micros: u64| (micros as f64 / 10.0).round() / 100.0;
        Self {
            count: histogram.len(),
            p50: ms(histogram.value_at_quantile(0.5)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_has_its_own_count_and_started_is_the_sum_of_all_ends() {
        let mut tally = Tally::new();
        let fault = Fault::NoAnswer("reset".to_owned());
        for verdict in [Verdict::Failed, Verdict::Cut, Verdict::WrongBinary, Verdict::Killed] {
            tally.start(Kind::Stream);
            tally.fault(Kind::Stream, Slot(0), &fault, verdict, Tick(5));
        }
        tally.start(Kind::Stream);
        tally.whole(Kind::Stream);
        tally.start(Kind::Short);
        tally.not_found(Kind::Short);
        let streams = tally.of(Kind::Stream);
        assert_eq!(
            streams,
            Counts { started: 5, whole: 1, failed: 1, cut: 1, wrong_binary: 1, killed: 1, not_found: 0 }
        );
        assert_eq!(streams.ended(), streams.started);
        assert_eq!(tally.sum(|counts| counts.started), 6);
        assert_eq!(tally.failures().count(), 3);
        assert_eq!(tally.killed().count(), 1);
    }

    #[test]
    fn a_thousand_failures_are_counted_though_not_described() {
        let mut tally = Tally::new();
        for _ in 0..1_000 {
            tally.fault(Kind::Short, Slot(1), &Fault::NoAnswer(String::new()), Verdict::Failed, Tick(0));
        }
        assert_eq!(tally.of(Kind::Short).failed, 1_000);
        assert_eq!(tally.failures().count(), DESCRIBED);
        tally.fault(Kind::Short, Slot(1), &Fault::NoAnswer(String::new()), Verdict::Killed, Tick(0));
        assert_eq!(tally.killed().count(), 1, "the one kind takes no room from the other");
    }

    #[test]
    fn latencies_in_swaps_are_kept_apart() {
        let mut tally = Tally::new();
        for _ in 0..100 {
            tally.latency(1_000, false);
            tally.latency(3_000, true);
        }
        tally.latency(50_000, true);
        let (during, outside) = tally.latencies();
        assert_eq!((during.count, outside.count), (101, 100));
        assert!((during.p50 - 3.0).abs() < 0.02 && (outside.p50 - 1.0).abs() < 0.02, "{during:?} {outside:?}");
        assert!((during.max - 50.0).abs() < 0.1);
    }
}
