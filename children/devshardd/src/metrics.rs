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

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Valid,
    Invalid,
    /// It is made again.
    None,
}

impl Verdict {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Invalid => "invalid",
            Verdict::None => "none",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    verdict: &'static str,
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
    diverged: Counter,
    checks: Family<VerdictLabels, Counter>,
}

impl Counters {
    /// The counters, and all of them as text.
    #[must_use]
    pub fn new() -> (Metrics, Counters) {
        Metrics::new("devshard", |registry| {
            let counters = Counters::default();
            let Counters { inferences, refused, dispatched, forks, diverged, checks } = &counters;
            registry.register("inferences", "Inferences by what became of them here", inferences.clone());
            registry.register("refused", "Requests that were refused, by reason", refused.clone());
            registry.register("dispatched", "Inferences for which the model was called", dispatched.clone());
            registry.register("diff_fork_detected", "Diffs that contradict one that is stored", forks.clone());
            let other = "States that another member has signed and that are not those here";
            registry.register("state_divergence", other, diverged.clone());
            registry.register("checks", "Inferences of other members by what their check came to", checks.clone());
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

    pub fn diverged(&self) {
        self.diverged.inc();
    }

    pub fn checked(&self, verdict: Verdict) {
        self.checks.get_or_create(&VerdictLabels { verdict: verdict.name() }).inc();
    }

    pub fn forked(&self) {
        self.forks.inc();
    }
}
