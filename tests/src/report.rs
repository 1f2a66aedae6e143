//! What came of a demo: the numbers, the verdict, the words. Pure.

use serde::Serialize;
use supervisor_protocol::StreamClass;
use supervisor_protocol::admin::{DrainCause, DrainOutcome, Receipt, describe_load};

use crate::approvals::Epoch;
use crate::book::Book;
use crate::killer::Kill;
use crate::sabotage::Sabotage;
use crate::tally::{Failure, Kind, Latency};

/// The one JSON object at the end.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What `versiond --version` said.
    pub versiond: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sabotage: Option<Sabotage>,
    /// Swaps that clients saw.
    pub swaps: u64,
    pub swaps_planned: u64,
    /// Short requests.
    pub requests: u64,
    pub streams: u64,
    pub uploads: u64,
    pub websockets: u64,
    /// Refused, unanswered or answered wrongly, of any kind.
    pub failed: u64,
    /// Admitted, begun and broken off, of any kind.
    pub cut: u64,
    /// Whether a binary answered that may not have.
    pub wrong_binary: bool,
    pub wrong_binary_answers: u64,
    /// What a kill of our own making broke; in neither of the counts above.
    pub killed: u64,
    /// 404 of a name after its removal.
    pub not_found_after_removal: u64,
    /// From the catalog document's being handed to versiond to the first answer of the new build.
    pub approved_to_serving_ms: Spread,
    /// Latency of short requests in swaps minus outside them.
    pub client_added_ms: Added,
    pub latency_in_swaps_ms: Latency,
    pub latency_outside_ms: Latency,
    /// The least number of streams leased on an old generation when the new one was published, by the
    /// receipts, and the same as the clients counted it; absent when there was no swap.
    pub alive_across_swaps_min: Option<u64>,
    pub alive_across_swaps_min_by_clients: Option<u64>,
    /// What that number must reach.
    pub alive_across_swaps_floor: u64,
    pub stream_events: u64,
    pub uploaded_bytes: u64,
    /// Of all kinds, per second.
    pub operations_per_s: f64,
    pub seconds: f64,
    pub trials: Vec<Trial>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kills: Vec<Kill>,
    pub interrupted: bool,
    /// What should have come and did not.
    pub missed: Vec<String>,
    /// The first that were not whole.
    pub failures: Vec<Failure>,
    #[serde(skip)]
    pub receipts: Vec<Receipt>,
}

/// A middle and an end, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub p50: Option<u64>,
    pub max: Option<u64>,
}

/// A difference of latencies, in milliseconds; may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Added {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// A change that must not be made, and the reason that versiond gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trial {
    pub what: &'static str,
    pub slot: String,
    pub reason: String,
    pub text: String,
}

/// What a report is made of, beside the book.
#[derive(Debug, Clone)]
pub struct Facts {
    pub versiond: String,
    pub sabotage: Option<Sabotage>,
    pub swaps_planned: u64,
    pub alive_floor: u64,
    pub seconds: f64,
    pub trials: Vec<Trial>,
    pub kills: Vec<Kill>,
    pub interrupted: bool,
    pub missed: Vec<String>,
    pub receipts: Vec<Receipt>,
}

/// How many failures are described.
const DESCRIBED: usize = 20;

impl Report {
    /// Adds everything up.
    #[must_use]
    pub fn new(book: &Book, facts: Facts) -> Self {
        let tally = &book.tally;
        let swaps = || book.lines.iter().flat_map(|line| line.swaps()).filter(|epoch| epoch.first_answer.is_some());
        let (during, outside) = tally.latencies();
        let by_receipts = facts.receipts.iter().filter(|receipt| receipt.cause == DrainCause::Swap);
        let wrong_binary_answers = tally.sum(|counts| counts.wrong_binary);
        Self {
            swaps: swaps().count() as u64,
            requests: tally.of(Kind::Short).started,
            streams: tally.of(Kind::Stream).started,
            uploads: tally.of(Kind::Upload).started,
            websockets: tally.of(Kind::WebSocket).started,
            failed: tally.sum(|counts| counts.failed),
            cut: tally.sum(|counts| counts.cut),
            wrong_binary: wrong_binary_answers > 0,
            wrong_binary_answers,
            killed: tally.sum(|counts| counts.killed),
            not_found_after_removal: tally.sum(|counts| counts.not_found),
            approved_to_serving_ms: Spread::of(swaps().filter_map(took).collect()),
            client_added_ms: Added::between(&during, &outside),
            latency_in_swaps_ms: during,
            latency_outside_ms: outside,
            alive_across_swaps_min: by_receipts.map(|receipt| *receipt.at_start.get(StreamClass::Stream)).min(),
            alive_across_swaps_min_by_clients: swaps().map(|epoch| epoch.alive).min(),
            alive_across_swaps_floor: facts.alive_floor,
            stream_events: tally.events,
            uploaded_bytes: tally.uploaded,
            operations_per_s: hundredths(tally.sum(|counts| counts.started) as f64 / facts.seconds.max(0.001)),
            failures: tally.failures().take(DESCRIBED).cloned().collect(),
            versiond: facts.versiond,
            sabotage: facts.sabotage,
            swaps_planned: facts.swaps_planned,
            seconds: hundredths(facts.seconds),
            trials: facts.trials,
            kills: facts.kills,
            interrupted: facts.interrupted,
            missed: facts.missed,
            receipts: facts.receipts,
        }
    }

    /// Everything that keeps this run from being a proof. Empty = whole.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut complain = |wrong: bool, what: String| {
            if wrong {
                found.push(what);
            }
        };
        complain(self.interrupted, "interrupted".to_owned());
        complain(self.failed > 0, format!("{} failed", self.failed));
        complain(self.cut > 0, format!("{} cut", self.cut));
        complain(self.wrong_binary, format!("{} answered by a wrong binary", self.wrong_binary_answers));
        complain(self.swaps < self.swaps_planned, format!("{} of {} swaps seen", self.swaps, self.swaps_planned));
        // A kill ends streams and forgets receipts; without one, both counts must reach the floor.
        if self.kills.is_empty() && self.sabotage.is_none() {
            let floor = self.alive_across_swaps_floor;
            for (by, alive) in [
                ("by the receipts", self.alive_across_swaps_min),
                ("as the clients counted", self.alive_across_swaps_min_by_clients),
            ] {
                let alive = alive.unwrap_or(0);
                complain(alive < floor, format!("only {alive} streams alive across a swap {by}, {floor} are due"));
            }
            let receipts = self.receipts.iter().filter(|receipt| receipt.cause == DrainCause::Swap).count() as u64;
            complain(receipts < self.swaps, format!("{receipts} receipts for {} swaps", self.swaps));
        }
        let short = self.receipts.iter().filter(|receipt| receipt.outcome != DrainOutcome::Drained).count();
        let excused = !self.kills.is_empty();
        complain(short > 0 && !excused, format!("{short} drains did not come to their own end"));
        found.extend(self.missed.iter().cloned());
        found
            .extend(self.kills.iter().flat_map(|kill| kill.wrong.iter().map(|wrong| format!("after a kill: {wrong}"))));
        found
    }

    /// Whether the clients noticed that a guard was missing.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        self.failed + self.cut > 0 || self.wrong_binary
    }

    /// The exit code: 0 whole, 1 not whole (or a sabotage that was caught), 2 a sabotage that was interrupted
    /// and so shows nothing, 3 a sabotage that nobody noticed.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.sabotage {
            Some(_) if self.interrupted => 2,
            Some(_) if self.is_caught() => 1,
            Some(_) => 3,
            None => u8::from(!self.complaints().is_empty()),
        }
    }

    /// The drain receipts, as a table.
    #[must_use]
    pub fn receipt_table(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "slot",
            "old",
            "new",
            "why",
            "in flight at the start",
            "finished",
            "cut",
            "longest",
            "took",
            "outcome",
        ]);
        // When the host stops in the end nothing is in flight any more.
        for receipt in self.receipts.iter().filter(|receipt| receipt.cause != DrainCause::HostStop) {
            let cause = match receipt.cause {
                DrainCause::Swap => "swap",
                DrainCause::Removal => "removal",
                DrainCause::HostStop => "host stop",
                DrainCause::Crash => "crash",
                DrainCause::Rollback => "rollback",
                DrainCause::Restart => "restart",
            };
            let outcome = match receipt.outcome {
                DrainOutcome::Drained => "drained",
                DrainOutcome::DeadlineCut => "cut at the deadline",
                DrainOutcome::ProcessGone => "process gone",
                DrainOutcome::Forced => "forced",
            };
            table.add_row([
                receipt.slot.name.to_string(),
                receipt.generation.to_string(),
                receipt.successor.map_or_else(|| "-".to_owned(), |new| new.to_string()),
                cause.to_owned(),
                describe_load(&receipt.at_start),
                receipt.finished.total().to_string(),
                receipt.cut.total().to_string(),
                seconds(receipt.longest_ms),
                seconds(receipt.took_ms),
                outcome.to_owned(),
            ]);
        }
        table.to_string()
    }

    /// The closing line.
    #[must_use]
    pub fn closing(&self) -> String {
        let ms = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        let counted = format!(
            "{} swaps under load in {:.0} s: {} short requests, {} streams, {} uploads, {} websockets; {} failed, {} cut. \
             From approval to serving {} (at most {}); at least {} streams alive across each swap; \
             short requests in swaps {:+.2} ms at p50, {:+.2} ms at p99.",
            self.swaps,
            self.seconds,
            self.requests,
            self.streams,
            self.uploads,
            self.websockets,
            self.failed,
            self.cut,
            ms(self.approved_to_serving_ms.p50),
            ms(self.approved_to_serving_ms.max),
            self.alive_across_swaps_min.unwrap_or(0),
            self.client_added_ms.p50,
            self.client_added_ms.p99,
        );
        let verdict = match (self.sabotage, self.is_caught()) {
            (Some(sabotage), _) if self.interrupted => format!("Sabotage {sabotage}: interrupted."),
            (Some(sabotage), true) => format!("Sabotage {sabotage}: caught."),
            (Some(sabotage), false) => format!("Sabotage {sabotage}: NOT CAUGHT."),
            (None, _) if self.complaints().is_empty() => "Nothing was cut.".to_owned(),
            (None, _) => format!("NOT WHOLE: {}.", self.complaints().join("; ")),
        };
        format!("{counted}\n{verdict}")
    }
}

impl Spread {
    /// Of values in any order.
    #[must_use]
    pub fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Self { p50: values.get(values.len().saturating_sub(1) / 2).copied(), max: values.last().copied() }
    }
}

impl Added {
    fn between(during: &Latency, outside: &Latency) -> Self {
        if during.count == 0 || outside.count == 0 {
            return Self { p50: 0.0, p99: 0.0, max: 0.0 };
        }
        Self {
            p50: hundredths(during.p50 - outside.p50),
            p99: hundredths(during.p99 - outside.p99),
            max: hundredths(during.max - outside.max),
        }
    }
}

fn took(epoch: &Epoch) -> Option<u64> {
    Some(epoch.first_answer?.0.saturating_sub(epoch.served.unwrap_or(epoch.approved).0))
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::Tick;

    use super::*;
    use crate::checks::{Fault, Origin};
    use crate::scenario::{Build, Slot};

    fn facts() -> Facts {
        Facts {
            versiond: "versiond 0.1.0".to_owned(),
            sabotage: None,
            swaps_planned: 0,
            alive_floor: 0,
            seconds: 10.0,
            trials: Vec::new(),
            kills: Vec::new(),
            interrupted: false,
            missed: Vec::new(),
            receipts: Vec::new(),
        }
    }

    fn book() -> Book {
        Book::new(&[Build::A], Tick(0))
    }

    fn with_a_cut() -> Book {
        let mut book = book();
        let ticket = book.start(Kind::Stream, Slot(0), Tick(0));
        let cut = Err(Fault::BrokenOff { after: "1 event".to_owned(), how: "reset".to_owned() });
        book.end(Kind::Stream, &ticket, &cut, Tick(1));
        book
    }

    #[test]
    fn one_cut_stream_one_missing_swap_or_one_stream_too_few_make_a_run_not_whole() {
        assert_eq!(Report::new(&book(), facts()).exit_code(), 0);
        assert_eq!(Report::new(&with_a_cut(), facts()).exit_code(), 1);
        assert_eq!(Report::new(&book(), Facts { swaps_planned: 1, ..facts() }).exit_code(), 1);
        assert_eq!(Report::new(&book(), Facts { alive_floor: 1, ..facts() }).exit_code(), 1);
        assert_eq!(Report::new(&book(), Facts { missed: vec!["x".to_owned()], ..facts() }).exit_code(), 1);
        assert_eq!(Report::new(&book(), Facts { interrupted: true, ..facts() }).exit_code(), 1);
    }

    #[test]
    fn a_sabotage_ends_with_1_when_it_is_caught_and_with_3_when_it_is_not() {
        let sabotaged = || Facts { sabotage: Some(Sabotage::NoDrain), ..facts() };
        assert_eq!(Report::new(&with_a_cut(), sabotaged()).exit_code(), 1);
        assert_eq!(Report::new(&book(), sabotaged()).exit_code(), 3);
        let json = serde_json::to_value(Report::new(&with_a_cut(), sabotaged())).unwrap();
        assert_eq!((&json["sabotage"], &json["cut"]), (&"no-drain".into(), &1.into()));
    }

    #[test]
    fn an_interrupted_sabotage_shows_nothing_and_ends_with_2() {
        let facts = || Facts { sabotage: Some(Sabotage::NoDrain), interrupted: true, ..facts() };
        for book in [book(), with_a_cut()] {
            let report = Report::new(&book, facts());
            assert_eq!(report.exit_code(), 2);
            assert!(report.closing().ends_with("Sabotage no-drain: interrupted."), "{}", report.closing());
        }
    }

    #[test]
    fn a_swap_is_timed_from_the_document_that_was_handed_out() {
        let mut book = book();
        book.line_mut(Slot(0)).approve(Build::B, Tick(100));
        book.served(Tick(900));
        let ticket = book.start(Kind::Short, Slot(0), Tick(1_000));
        book.answer(&ticket, &Origin { build: "b".to_owned(), generation: 2, host: None }, Tick(1_250)).unwrap();
        let report = Report::new(&book, facts());
        assert_eq!(report.approved_to_serving_ms, Spread { p50: Some(350), max: Some(350) });
        assert_eq!(report.swaps, 1);
        let receipts_are_missing = report.complaints();
        assert!(
            receipts_are_missing.iter().any(|complaint| complaint.contains("receipts")),
            "{receipts_are_missing:?}"
        );
    }
}
