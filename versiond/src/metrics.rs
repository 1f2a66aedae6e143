//! The daemon's metrics: counters that are written where things happen, and gauges that are read off
//! the board and the data plane when somebody asks.

use std::fmt::Write as _;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use router_dataplane::PlaneCounters;
use supervisor_protocol::admin::{Phase, Receipt};
use supervisor_protocol::host::HostState;
use supervisor_protocol::{SlotId, StreamClass};

use crate::board::Board;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SlotPhase {
    service: String,
    version: String,
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SlotReason {
    service: String,
    version: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SlotLabel {
    service: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SlotClass {
    service: String,
    version: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GenerationClass {
    service: String,
    version: String,
    generation: u64,
    phase: &'static str,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: String,
}

/// All metrics of the daemon.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    transitions: Family<SlotPhase, Counter>,
    failures: Family<SlotReason, Counter>,
    swaps: Family<SlotLabel, Counter>,
    drained: Family<SlotClass, Counter>,
    cut: Family<SlotClass, Counter>,
    drain_seconds: Family<SlotLabel, Histogram>,
    leases: Family<GenerationClass, Gauge>,
    ready: Family<SlotLabel, Gauge>,
    waiting: Family<SlotReason, Gauge>,
    host: Family<StateLabel, Gauge>,
    acts: Family<CodeLabel, Counter>,
    admin_refused: Family<CodeLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// Registers every metric.
    #[must_use]
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("versiond");
        let seconds = || Histogram::new(exponential_buckets(0.05, 2.0, 16));
        let metrics = Metrics {
            registry: Mutex::default(),
            transitions: Family::default(),
            failures: Family::default(),
            swaps: Family::default(),
            drained: Family::default(),
            cut: Family::default(),
            drain_seconds: Family::new_with_constructor(seconds),
            leases: Family::default(),
            ready: Family::default(),
            waiting: Family::default(),
            host: Family::default(),
            acts: Family::default(),
            admin_refused: Family::default(),
        };
        registry.register("generation_transitions", "Phases entered by generations", metrics.transitions.clone());
        registry.register("generation_failures", "Generations that failed, by reason", metrics.failures.clone());
        registry.register("publications", "Generations published", metrics.swaps.clone());
        registry.register("drained_leases", "Leases that ended by themselves during a drain", metrics.drained.clone());
        registry.register("cut_leases", "Leases that a deadline or a force ended", metrics.cut.clone());
        registry.register("drain_seconds", "How long drains took", metrics.drain_seconds.clone());
        registry.register("leases", "Leases of each live generation, by class", metrics.leases.clone());
        registry.register("slot_ready", "1 while a routed child of the slot is live-ready", metrics.ready.clone());
        registry.register("slot_waiting", "1 for every reason for which a slot waits", metrics.waiting.clone());
        registry.register("host_state", "1 for the state that the host is in", metrics.host.clone());
        registry.register("acts", "Changes asked for at the admin API, by what came of them", metrics.acts.clone());
        registry.register("admin_refused", "Callers whom the admin API did not let in", metrics.admin_refused.clone());
        *metrics.registry.lock() = registry;
        metrics
    }

    pub(crate) fn transition(&self, slot: &SlotId, phase: Phase) {
        let (service, version) = names(slot);
        self.transitions.get_or_create(&SlotPhase { service, version, phase: phase.as_str() }).inc();
    }

    pub(crate) fn failed(&self, slot: &SlotId, reason: &'static str) {
        let (service, version) = names(slot);
        self.failures.get_or_create(&SlotReason { service, version, reason }).inc();
    }

    pub(crate) fn published(&self, slot: &SlotId) {
        self.swaps.get_or_create(&slot_label(slot)).inc();
    }

    /// An operator has asked for a change: `done`, or the code of the refusal.
    pub(crate) fn acted(&self, code: &str) {
        self.acts.get_or_create(&CodeLabel { code: code.to_owned() }).inc();
    }

    pub(crate) fn admin_refused(&self, code: &str) {
        self.admin_refused.get_or_create(&CodeLabel { code: code.to_owned() }).inc();
    }

    pub(crate) fn drained(&self, receipt: &Receipt) {
        let (service, version) = names(&receipt.slot);
        for class in StreamClass::ALL {
            let label = SlotClass { service: service.clone(), version: version.clone(), class: class.as_str() };
            self.drained.get_or_create(&label).inc_by(*receipt.finished.get(class));
            self.cut.get_or_create(&label).inc_by(*receipt.cut.get(class));
        }
        let took = std::time::Duration::from_millis(receipt.took_ms);
        self.drain_seconds.get_or_create(&slot_label(&receipt.slot)).observe(took.as_secs_f64());
    }

    /// Everything, in the OpenMetrics text format.
    #[must_use]
    pub(crate) fn render(&self, board: &Board, plane: &PlaneCounters, now: supervisor_protocol::Tick) -> String {
        self.read_board(board, now);
        let mut text = String::new();
        // Writing to a string does not fail.
        encode(&mut text, &self.registry.lock()).ok();
        let end = text.rfind("# EOF").unwrap_or(text.len());
        text.truncate(end);
        append_plane(&mut text, plane);
        text.push_str("# EOF\n");
        text
    }

    fn read_board(&self, board: &Board, now: supervisor_protocol::Tick) {
        self.leases.clear();
        self.ready.clear();
        self.waiting.clear();
        let current = board.host_state();
        for state in [
            HostState::Starting,
            HostState::Serving,
            HostState::Cordoned,
            HostState::Announcing,
            HostState::Draining,
            HostState::Stopping,
            HostState::Stopped,
            HostState::Forcing,
        ] {
            self.host.get_or_create(&StateLabel { state: state.as_str() }).set(i64::from(state == current));
        }
        let status = board.status(now);
        for slot in &status.slots {
            self.ready.get_or_create(&slot_label(&slot.slot)).set(i64::from(slot.ready));
            let (service, version) = names(&slot.slot);
            for reason in &slot.reasons {
                let label = SlotReason { service: service.clone(), version: version.clone(), reason: reason.code() };
                self.waiting.get_or_create(&label).set(1);
            }
            for generation in &slot.generations {
                for class in StreamClass::ALL {
                    let label = GenerationClass {
                        service: service.clone(),
                        version: version.clone(),
                        generation: generation.generation.0,
                        phase: generation.phase.as_str(),
                        class: class.as_str(),
                    };
                    let leases = i64::try_from(*generation.by_class.get(class)).unwrap_or(i64::MAX);
                    self.leases.get_or_create(&label).set(leases);
                }
            }
        }
    }
}

/// The data plane counts for itself; its figures are appended as they are.
fn append_plane(text: &mut String, plane: &PlaneCounters) {
    let mut counter = |name: &str, help: &str, value: u64| {
        writeln!(text, "# HELP versiond_{name} {help}.\n# TYPE versiond_{name} counter\nversiond_{name}_total {value}")
            .ok();
    };
    counter("requests", "Requests whose head was read", plane.requests);
    counter("answered_requests", "Responses of children that were passed on", plane.answered);
    counter("held_requests", "Requests that waited for a slot without a serving generation", plane.held);
    counter("retries", "Attempts beyond the first", plane.retries);
    counter("client_connections", "Connections of clients", plane.connections);
    counter("upstream_connections", "Connections made to children", plane.upstream_connections);
    text.push_str("# HELP versiond_refused_requests Requests that no child answered, by reason.\n# TYPE versiond_refused_requests counter\n");
    for (refusal, count) in &plane.refused {
        writeln!(text, "versiond_refused_requests_total{{reason=\"{}\"}} {count}", refusal.code()).ok();
    }
    text.push_str(
        "# HELP versiond_held_requests_now Requests that wait now.\n# TYPE versiond_held_requests_now gauge\n",
    );
    writeln!(text, "versiond_held_requests_now {}", plane.held_now).ok();
    text.push_str("# HELP versiond_held_bytes_now Memory that these may take.\n# TYPE versiond_held_bytes_now gauge\n");
    writeln!(text, "versiond_held_bytes_now {}", plane.held_bytes_now).ok();
    text.push_str("# HELP versiond_held_longest_milliseconds The longest that a request has waited.\n# TYPE versiond_held_longest_milliseconds gauge\n");
    writeln!(text, "versiond_held_longest_milliseconds {}", plane.held_longest_ms).ok();
    text.push_str("# HELP versiond_client_connections_now Open connections of clients.\n# TYPE versiond_client_connections_now gauge\n");
    writeln!(text, "versiond_client_connections_now {}", plane.connections_now).ok();
}

fn names(slot: &SlotId) -> (String, String) {
    (slot.service.to_string(), slot.name.to_string())
}

fn slot_label(slot: &SlotId) -> SlotLabel {
    let (service, version) = names(slot);
    SlotLabel { service, version }
}
