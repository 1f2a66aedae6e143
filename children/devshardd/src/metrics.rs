//! What a session host counts.

use children_kit::metrics::Metrics;
use devshard_core::events::EndCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// What became of a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Run here to its end, and stored.
    Completed,
    /// Read from what is stored.
    Replayed,
    Early(EndCode),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

/// The counters. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    inferences: Family<OutcomeLabels, Counter>,
    refused: Family<RefusalLabels, Counter>,
    dispatched: Counter,
    forks: Counter,
}

impl Counters {
    /// The counters, and all of them as text.
    #[must_use]
    pub fn new() -> (Metrics, Counters) {
        Metrics::new("devshard", |registry| {
            let counters = Counters::default();
            let Counters { inferences, refused, dispatched, forks } = &counters;
            registry.register("inferences", "Inferences by what became of them here", inferences.clone());
            registry.register("refused", "Requests that were refused, by reason", refused.clone());
            registry.register("dispatched", "Inferences for which the model was called", dispatched.clone());
            registry.register("diff_fork_detected", "Diffs that contradict one that is stored", forks.clone());
            counters
        })
    }

    pub fn ended(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Completed => "completed",
            Outcome::Replayed => "replayed",
            Outcome::Early(code) => code.code(),
        };
        self.inferences.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&RefusalLabels { reason }).inc();
    }

    pub fn dispatched(&self) {
        self.dispatched.inc();
    }

    pub fn forked(&self) {
        self.forks.inc();
    }
}
