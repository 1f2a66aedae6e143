//! What the store counts of its fetches.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::OutcomeLabel;
use super::{declared, register, seconds};

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetched {
    Ok,
    /// A mirror gave other bytes than those that were named.
    HashMismatch,
    /// The address may not be used, or the bytes are of no use.
    Refused,
    /// No mirror gave it, or the disk did not take it.
    Failed,
}

/// Shared by reference: a clone counts the same.
#[derive(Debug, Clone)]
pub(crate) struct Fetches {
    ended: Family<OutcomeLabel, Counter>,
    bytes: Counter,
    seconds: Histogram,
}

impl Default for Fetches {
    fn default() -> Self {
        let fetches = Fetches { ended: Family::default(), bytes: Counter::default(), seconds: seconds() };
        // At zero from the start on, so that the first one is a growth and not a beginning.
        for fetched in Fetched::ALL {
            drop(fetches.ended.get_or_create(&OutcomeLabel { outcome: fetched.as_str() }));
        }
        fetches
    }
}

impl Fetches {
    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, &declared::FETCHES, self.ended.clone());
        register(registry, &declared::FETCHED_BYTES, self.bytes.clone());
        register(registry, &declared::FETCH_SECONDS, self.seconds.clone());
    }

    pub(crate) fn ended(&self, fetched: Fetched, took: Duration) {
        self.ended.get_or_create(&OutcomeLabel { outcome: fetched.as_str() }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.inc_by(bytes as u64);
    }
}

#[cfg(test)]
impl Fetches {
    pub(crate) fn count(&self, fetched: Fetched) -> u64 {
        self.ended.get_or_create(&OutcomeLabel { outcome: fetched.as_str() }).get()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }
}

impl Fetched {
    const ALL: [Fetched; 4] = [Fetched::Ok, Fetched::HashMismatch, Fetched::Refused, Fetched::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Fetched::Ok => "ok",
            Fetched::HashMismatch => "hash_mismatch",
            Fetched::Refused => "refused",
            Fetched::Failed => "failed",
        }
    }
}
