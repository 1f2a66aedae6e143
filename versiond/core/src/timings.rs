//! The durations that the slot machine works with. Defaults are those of the design's time budget.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use supervisor_protocol::ByClass;

/// How long each step of a generation's life may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// A candidate must become ready within this, or say that it is initializing.
    pub ready_window: Duration,
    /// However often it says so, it must be ready within this.
    pub ready_max: Duration,
    /// A serving generation that has not been heard of for so long counts as unready.
    pub live_expiry: Duration,
    /// The whole drain of a generation.
    pub drain: Duration,
    /// The drain of each class; never longer than `drain`.
    pub drain_class: ByClass<Duration>,
    /// Between the stop signal and the kill.
    pub stop_grace: Duration,
    /// The first pause after a failure; it doubles up to `backoff_max`.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// A generation that served for so long starts its backoff anew.
    pub backoff_reset: Duration,
    /// How long what serves is on trial, while what served before is kept.
    pub bake: Duration,
    /// How long a request may wait for a slot that has no serving generation.
    pub hold: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Timings {
            ready_window: minutes(1),
            ready_max: minutes(32),
            live_expiry: Duration::from_secs(5),
            drain: minutes(15),
            drain_class: ByClass { request: minutes(2), stream: minutes(15), upgrade: minutes(15), job: minutes(10) },
            stop_grace: minutes(10),
            backoff_min: Duration::from_secs(1),
            backoff_max: minutes(1),
            backoff_reset: minutes(1),
            bake: minutes(1),
            hold: Duration::from_secs(20),
        }
    }
}

impl Timings {
    /// The pause after the `count`th failure in a row, counted from 1.
    #[must_use]
    pub fn backoff(&self, count: u32) -> Duration {
        let doublings = count.saturating_sub(1).min(16);
        self.backoff_min.saturating_mul(1 << doublings).min(self.backoff_max)
    }
}
