//! What came of a fleet's demo: the numbers, the verdict, the words. Pure.

use serde::Serialize;
use supervisor_protocol::time::millis;

use super::acts::Act;
use super::ledger::{Executed, Ledger, Moved};
use super::router::DETECTION_WINDOW;
use crate::tally::{Failure, Kind};

/// The one JSON object at the end.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What `versiond --version` said.
    pub versiond: String,
    pub hosts: usize,
    /// Short requests; each is a POST that must be executed once.
    pub requests: u64,
    pub streams: u64,
    /// Refused, unanswered or answered wrongly.
    pub failed: u64,
    /// Admitted, begun and broken off.
    pub cut: u64,
    /// In flight on the host that was killed; in neither of the counts above.
    pub killed: u64,
    pub wrong_binary: u64,
    pub executed_once: u64,
    pub executed_twice: u64,
    /// Answered whole, and executed by nobody.
    pub executed_by_nobody: u64,
    /// Moves of sessions between hosts that nothing was done to.
    pub moved_wrongly: u64,
    /// The longest time in which a session had two owners, in milliseconds, and what it may be.
    pub two_owners_ms: u64,
    pub two_owners_bound_ms: u64,
    pub seconds: f64,
    pub acts: Vec<Seen>,
    pub interrupted: bool,
    /// What should have come and did not.
    pub missed: Vec<String>,
    pub failures: Vec<Failure>,
}

/// One change, and what the sessions saw of it.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    #[serde(flatten)]
    pub act: Act,
    /// Sessions that another host answered than before, because of it.
    pub moved: u64,
    pub two_owners_ms: u64,
}

/// What a report is made of, beside the ledger.
#[derive(Debug, Clone)]
pub struct Facts {
    pub versiond: String,
    pub hosts: usize,
    pub seconds: f64,
    /// The ids of all executions that the hosts have noted.
    pub executed: Vec<u64>,
    pub acts: Vec<Act>,
    pub missed: Vec<String>,
    pub interrupted: bool,
}

/// How many failures are described.
const DESCRIBED: usize = 20;

impl Report {
    /// Adds everything up.
    #[must_use]
    pub fn new(ledger: &Ledger, facts: Facts) -> Self {
        let tally = &ledger.tally;
        let Executed { once, twice, unknown } = ledger.executed(facts.executed);
        // The first is the start, which is no act.
        let moved: Vec<Moved> = ledger.moved().into_iter().skip(1).map(|(_, moved)| moved).collect();
        let seen = facts.acts.into_iter().zip(&moved);
        Self {
            requests: tally.of(Kind::Short).started,
            streams: tally.of(Kind::Stream).started,
            failed: tally.sum(|counts| counts.failed),
            cut: tally.sum(|counts| counts.cut),
            killed: tally.sum(|counts| counts.killed),
            wrong_binary: tally.sum(|counts| counts.wrong_binary),
            executed_once: once,
            executed_twice: twice.len() as u64,
            executed_by_nobody: unknown.len() as u64,
            moved_wrongly: moved.iter().map(|moved| moved.wrongly).sum(),
            two_owners_ms: moved.iter().map(|moved| moved.two_owners_ms).max().unwrap_or(0),
            two_owners_bound_ms: millis(DETECTION_WINDOW),
            acts: seen
                .map(|(act, moved)| Seen { act, moved: moved.sessions, two_owners_ms: moved.two_owners_ms })
                .collect(),
            failures: tally.failures().take(DESCRIBED).cloned().collect(),
            versiond: facts.versiond,
            hosts: facts.hosts,
            seconds: facts.seconds,
            interrupted: facts.interrupted,
            missed: facts.missed,
        }
    }

    /// Everything that keeps this run from being a proof. Empty = whole.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let late = self.two_owners_ms.saturating_sub(self.two_owners_bound_ms);
        let counted = [
            (u64::from(self.interrupted), "interrupted"),
            (self.failed, "failed"),
            (self.cut, "cut"),
            (self.wrong_binary, "answered by a wrong binary"),
            (self.executed_twice, "executed twice"),
            (self.executed_by_nobody, "answered and executed by nobody"),
            (self.moved_wrongly, "moves between hosts that nothing was done to"),
            (late, "ms of two owners beyond one detection window"),
        ];
        let found = counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        found.chain(self.missed.iter().cloned()).collect()
    }

    /// The exit code: 0 whole, 1 not whole.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.complaints().is_empty())
    }

    /// The changes, as a table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "change",
            "streams open",
            "seen by both routers",
            "done after",
            "sessions moved",
            "two owners",
        ]);
        let ms = |ms: u64| format!("{ms} ms");
        for Seen { act, moved, two_owners_ms } in &self.acts {
            table.add_row([
                act.what.clone(),
                act.streams.to_string(),
                act.noticed_ms.map_or_else(|| "-".to_owned(), ms),
                ms(act.done_ms),
                moved.to_string(),
                ms(*two_owners_ms),
            ]);
        }
        table.to_string()
    }

    /// The closing lines.
    #[must_use]
    pub fn closing(&self) -> String {
        let counted = format!(
            "{} hosts behind two routers, {} changes in {:.0} s: {} short requests, {} streams; {} failed, {} cut, {} in \
             flight on the host that was killed. {} executions, {} twice; no session had two owners for longer than {} ms.",
            self.hosts,
            self.acts.len(),
            self.seconds,
            self.requests,
            self.streams,
            self.failed,
            self.cut,
            self.killed,
            self.executed_once + self.executed_twice,
            self.executed_twice,
            self.two_owners_ms,
        );
        let complaints = self.complaints();
        if complaints.is_empty() {
            format!("{counted}\nNothing was cut but what the killed host had in flight.")
        } else {
            format!("{counted}\nNOT WHOLE: {}.", complaints.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::Tick;

    use super::*;
    use crate::checks::{Fault, Origin};
    use crate::fleet::ledger::Moves;
    use crate::scenario::Build;

    fn facts() -> Facts {
        Facts {
            versiond: "versiond 0.1.0".to_owned(),
            hosts: 3,
            seconds: 1.0,
            executed: Vec::new(),
            acts: Vec::new(),
            missed: Vec::new(),
            interrupted: false,
        }
    }

    fn asks(ledger: &mut Ledger, host: &str, at: u64) {
        let ticket = ledger.begin(Kind::Short, 1, false, Tick(at));
        let origin = Origin { build: "a".to_owned(), generation: 1, host: Some(host.to_owned()) };
        ledger.answered(&ticket, &origin, Tick(at + 1)).unwrap();
        ledger.end(&ticket, Some(host), &Ok(()), Tick(at + 1));
    }

    #[test]
    fn each_thing_that_must_not_be_makes_a_run_not_whole() {
        let ledger = || Ledger::new(Build::A, Tick(0));
        assert_eq!(Report::new(&ledger(), facts()).exit_code(), 0);
        assert_eq!(Report::new(&ledger(), Facts { interrupted: true, ..facts() }).exit_code(), 1);
        assert_eq!(Report::new(&ledger(), Facts { missed: vec!["x".to_owned()], ..facts() }).exit_code(), 1);
        assert_eq!(Report::new(&ledger(), Facts { executed: vec![4, 4], ..facts() }).exit_code(), 1);
        assert_eq!(Report::new(&ledger(), Facts { executed: vec![4, 5], ..facts() }).exit_code(), 0);
        let mut failed = ledger();
        let ticket = failed.begin(Kind::Short, 1, true, Tick(0));
        failed.end(&ticket, None, &Err(Fault::NoAnswer("reset".to_owned())), Tick(1));
        assert_eq!(Report::new(&failed, facts()).exit_code(), 1);
        let mut nobody = ledger();
        let ticket = nobody.begin(Kind::Short, 1, true, Tick(0));
        nobody.end(&ticket, Some("x"), &Ok(()), Tick(1));
        assert_eq!(Report::new(&nobody, facts()).exit_code(), 1);
    }

    #[test]
    fn two_owners_are_borne_for_one_detection_window() {
        let of = |last: u64| {
            let mut ledger = Ledger::new(Build::A, Tick(0));
            asks(&mut ledger, "x", 1);
            ledger.change("x goes", Moves::Of("x".to_owned()), Tick(10));
            for (host, at) in [("y", 20), ("x", 20 + last), ("y", 40 + last)] {
                asks(&mut ledger, host, at);
            }
            Report::new(&ledger, facts())
        };
        let window = millis(DETECTION_WINDOW);
        assert_eq!((of(window).two_owners_ms, of(window).exit_code()), (window, 0));
        assert_eq!(of(window + 1).exit_code(), 1);
    }
}
