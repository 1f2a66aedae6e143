//! How long a member is waited for, and when it is asked again: silence is told within one detection window. Pure.

use std::time::Duration;

/// The longest time for which a host is asked to wait for news.
const WAIT: Duration = Duration::from_secs(2);
/// The least time between two answers of a host whose readiness changes all the time.
const APART: Duration = Duration::from_millis(20);

/// The two settings that all of it follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub interval: Duration,
    pub timeout: Duration,
}

/// What is known of a member when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing is wrong with it.
    Heard,
    /// It did not answer, or its connection was lost.
    Silent,
}

/// What the last question has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// News, or an answer after a wait for it.
    News,
    /// An answer at once that says nothing new, or no answer in time.
    Look,
    /// The connection was lost before the answer.
    Lost,
}

impl Pace {
    /// From the moment a member falls silent until that is told: the question that meets it, a pause, and another.
    #[must_use]
    pub fn window(self) -> Duration {
        self.interval + 2 * self.timeout
    }

    /// For how long a host may wait for news; its answer is due within the timeout all the same. One that was silent
    /// is not to wait: it has the whole timeout to show that it is there.
    #[must_use]
    pub fn wait(self, before: Before) -> Duration {
        match before {
            Before::Heard => WAIT.min(self.timeout * 2 / 3),
            Before::Silent => Duration::ZERO,
        }
    }

    /// Until it is asked again; `jitter` of 0 to 1 makes it shorter by up to a fifth, so that routers that were started
    /// together do not ask together.
    #[must_use]
    pub fn pause(self, before: Before, came: Came, jitter: f64) -> Duration {
        let pause = match (came, before) {
            // It answers when it has news, so that it is asked again at once.
            (Came::News, _) => APART,
            // A connection that is lost may be the end of a process, which the next one would meet.
            (Came::Lost, Before::Heard) => APART,
            (Came::Lost, Before::Silent) | (Came::Look, _) => self.interval,
        };
        pause.mul_f64(1.0 - 0.2 * jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACES: [(u64, u64); 4] = [(1_000, 3_000), (1_000, 1_000), (200, 100), (5_000, 30_000)];

    /// F60: the design's window, whatever the settings are.
    #[test]
    fn f60_silence_is_told_within_one_window_and_a_host_that_waits_still_answers_in_time() {
        for (interval, timeout) in PACES {
            let pace = Pace { interval: Duration::from_millis(interval), timeout: Duration::from_millis(timeout) };
            // It falls silent as soon as it is asked: two questions without an answer, and the pause between them.
            let told = pace.timeout + pace.pause(Before::Heard, Came::Look, 0.0) + pace.timeout;
            assert_eq!(told, pace.window());
            assert!(pace.wait(Before::Heard) <= pace.timeout * 2 / 3, "a third of the timeout is left for the answer");
            assert_eq!(pace.wait(Before::Silent), Duration::ZERO);
        }
    }

    #[test]
    fn a_lost_connection_is_looked_at_again_at_once_and_then_as_everything_else() {
        let pace = Pace { interval: Duration::from_secs(1), timeout: Duration::from_secs(3) };
        assert_eq!(pace.pause(Before::Heard, Came::Lost, 0.0), APART);
        assert_eq!(pace.pause(Before::Silent, Came::Lost, 0.0), pace.interval);
        assert_eq!(pace.pause(Before::Heard, Came::Look, 1.0), Duration::from_millis(800));
    }
}
