//! How often a build answers with an error of its own, and when that is a fault of the build: what is on trial,
//! compared with what served before it.
//!
//! Must not live here: what counts as an answer (that is the data plane's), or the way back (`rollback`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use supervisor_protocol::{Sha256, Tick};

/// Answers of a build, and how many of them said that it had failed (5xx).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Answers {
    pub all: u64,
    pub errors: u64,
}

/// When errors take a build on trial back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRule {
    /// By how much its rate may exceed that of its predecessor, in thousandths.
    pub permille: u32,
    /// How many answers of each are needed for a rate.
    pub least: u64,
}

/// What one generation has answered lately, from counts that only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    total: Answers,
    /// The counts at the beginning of this window and of the one before, and when this one began.
    begun: Answers,
    before: Answers,
    since: Tick,
    /// The next counts are the beginning of another window, and nothing before them counts.
    anew: bool,
}

/// What a build that had passed its trial answered when that could last be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usual {
    pub(crate) sha256: Sha256,
    pub(crate) answers: Answers,
}

impl Answers {
    fn since(self, earlier: Answers) -> Answers {
        Answers { all: self.all.saturating_sub(earlier.all), errors: self.errors.saturating_sub(earlier.errors) }
    }
}

impl std::fmt::Display for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.errors, self.all)
    }
}

impl ErrorRule {
    /// Whether these are enough for a rate.
    pub(crate) fn tells(&self, answers: Answers) -> bool {
        answers.all > 0 && answers.all >= self.least
    }

    /// Whether the rate of what is tried exceeds the usual one by more than it may. Too few answers of either say
    /// nothing.
    pub(crate) fn is_broken_by(&self, tried: Answers, usual: Answers) -> bool {
        // a/b - c/d > p/1000, without a division.
        let wide = u128::from;
        let over = wide(tried.errors) * wide(usual.all) * 1_000;
        let under = wide(usual.errors) * wide(tried.all) * 1_000;
        let margin = u128::from(self.permille) * wide(tried.all) * wide(usual.all);
        self.tells(tried) && self.tells(usual) && over > under + margin
    }
}

impl Tally {
    /// Takes the counts as they are now. A window that is full makes room for the next; `None` = it goes on.
    pub(crate) fn counts(&mut self, total: Answers, window: Option<Duration>, now: Tick) {
        self.total = total;
        if std::mem::take(&mut self.anew) {
            (self.before, self.begun, self.since) = (total, total, now);
        }
        if window.is_some_and(|window| now.since(self.since) >= window) {
            (self.before, self.begun, self.since) = (self.begun, total, now);
        }
    }

    /// Begins anew with the next counts.
    pub(crate) fn restart(&mut self) {
        (self.before, self.begun, self.anew) = (self.total, self.total, true);
    }

    /// What was answered in this window and the one before.
    pub(crate) fn lately(&self) -> Answers {
        self.total.since(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errors: u64, all: u64) -> Answers {
        Answers { all, errors }
    }

    #[test]
    fn f15_a_rate_counts_by_what_it_exceeds_the_usual_one() {
        let rule = ErrorRule { permille: 50, least: 20 };
        for (tried, usual, is_broken) in [
            (of(10, 20), of(0, 20), true),
            (of(2, 20), of(0, 1_000), true),
            // Exactly as much more as it may.
            (of(1, 20), of(0, 20), false),
            (of(5, 100), of(0, 1_000_000), false),
            (of(6, 100), of(0, 1_000_000), true),
            // A common cause.
            (of(50, 100), of(500, 1_000), false),
            (of(50, 100), of(451, 1_000), false),
            (of(50, 100), of(449, 1_000), true),
            (of(0, 100), of(100, 100), false),
            // Too few of either.
            (of(19, 19), of(0, 20), false),
            (of(20, 20), of(0, 19), false),
            (of(0, 0), of(0, 0), false),
        ] {
            assert_eq!(rule.is_broken_by(tried, usual), is_broken, "{tried}, usually {usual}");
        }
        assert!(!ErrorRule { permille: 0, least: 0 }.is_broken_by(of(0, 0), of(0, 0)));
    }

    #[test]
    fn what_was_answered_lately_is_of_this_window_and_the_one_before() {
        let minute = Duration::from_secs(60);
        let at = |seconds: u64| Tick(seconds * 1_000);
        let mut tally = Tally::default();
        for (seconds, total, lately) in [
            (10, of(1, 10), of(1, 10)),
            // The first window is full.
            (60, of(2, 20), of(2, 20)),
            (119, of(3, 90), of(3, 90)),
            (120, of(3, 100), of(1, 80)),
            (180, of(3, 110), of(0, 10)),
            // Nobody has asked for a long time.
            (999, of(3, 110), of(0, 0)),
        ] {
            tally.counts(total, Some(minute), at(seconds));
            assert_eq!(tally.lately(), lately, "at {seconds} s");
        }
        tally.restart();
        assert_eq!(tally.lately(), of(0, 0));
        tally.counts(of(4, 111), None, at(1_000));
        tally.counts(of(5, 113), None, at(5_000));
        tally.counts(of(5, 114), None, at(9_000));
        assert_eq!(tally.lately(), of(1, 3), "on trial nothing is left out");
    }
}
