//! What is read off the board when somebody asks: every value is set anew, and what is gone is gone.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use supervisor_protocol::admin::{
    CatalogStatus, Containment, GenerationStatus, Isolation, Phase, SlotStatus, SocketOwnership, Status, Users,
};
use supervisor_protocol::host::HostState;
use supervisor_protocol::{SlotId, StreamClass};

use super::labels::{
    GenerationClass, GenerationInfo, GenerationLabel, IsolationLabel, ReasonLabel, SlotLabel, SlotReason, StateLabel,
    names, slot_label,
};
use super::{declared, register};

const STATES: [HostState; 8] = [
    HostState::Starting,
    HostState::Serving,
    HostState::Cordoned,
    HostState::Announcing,
    HostState::Draining,
    HostState::Stopping,
    HostState::Stopped,
    HostState::Forcing,
];

/// Of a value that may be absent as a whole.
type NoLabels = Vec<(String, String)>;

#[derive(Default)]
pub(super) struct Gauges {
    leases: Family<GenerationClass, Gauge>,
    generations: Family<GenerationInfo, Gauge>,
    draining_seconds: Family<GenerationLabel, Gauge>,
    draining_inflight: Family<GenerationLabel, Gauge>,
    ready: Family<SlotLabel, Gauge>,
    waiting: Family<SlotReason, Gauge>,
    host: Family<StateLabel, Gauge>,
    catalog_age: Family<NoLabels, Gauge>,
    catalog_revision: Family<NoLabels, Gauge>,
    catalog_refused: Family<ReasonLabel, Gauge>,
    isolation: Family<IsolationLabel, Gauge>,
    uptime: Family<NoLabels, Gauge>,
}

impl Gauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, &declared::SLOT_READY, self.ready.clone());
        register(registry, &declared::LEASES, self.leases.clone());
        register(registry, &declared::GENERATION, self.generations.clone());
        register(registry, &declared::DRAINING_SECONDS, self.draining_seconds.clone());
        register(registry, &declared::DRAINING_INFLIGHT, self.draining_inflight.clone());
        register(registry, &declared::SLOT_WAITING, self.waiting.clone());
        register(registry, &declared::HOST_STATE, self.host.clone());
        register(registry, &declared::CATALOG_AGE, self.catalog_age.clone());
        register(registry, &declared::CATALOG_REVISION, self.catalog_revision.clone());
        register(registry, &declared::CATALOG_REFUSED, self.catalog_refused.clone());
        register(registry, &declared::ISOLATION, self.isolation.clone());
        register(registry, &declared::UPTIME, self.uptime.clone());
    }

    pub(super) fn read(&self, status: &Status) {
        for state in STATES {
            set(&self.host, StateLabel { state: state.as_str() }, u64::from(state == status.state));
        }
        set(&self.uptime, NoLabels::new(), status.uptime_ms / 1_000);
        self.catalog(&status.catalog);
        self.isolation(&status.isolation);
        self.leases.clear();
        self.generations.clear();
        self.draining_seconds.clear();
        self.draining_inflight.clear();
        self.ready.clear();
        self.waiting.clear();
        for slot in &status.slots {
            self.slot(slot);
        }
    }

    fn catalog(&self, catalog: &CatalogStatus) {
        self.catalog_age.clear();
        self.catalog_revision.clear();
        self.catalog_refused.clear();
        if let Some(ms) = catalog.read_ms_ago {
            set(&self.catalog_age, NoLabels::new(), ms / 1_000);
        }
        if let Some(revision) = catalog.revision {
            set(&self.catalog_revision, NoLabels::new(), revision);
        }
        if let Some(reason) = &catalog.reason {
            set(&self.catalog_refused, ReasonLabel { reason: reason.code() }, 1);
        }
    }

    fn isolation(&self, isolation: &Isolation) {
        self.isolation.clear();
        let label = IsolationLabel {
            processes: match isolation.processes {
                Containment::Cgroup => "cgroup",
                Containment::Group => "group",
            },
            users: match isolation.users {
                Users::Separate => "separate",
                Users::None => "none",
            },
            socket_ownership: match isolation.socket_ownership {
                SocketOwnership::Verified => "verified",
                SocketOwnership::Unverified => "unverified",
            },
        };
        set(&self.isolation, label, 1);
    }

    fn slot(&self, slot: &SlotStatus) {
        set(&self.ready, slot_label(&slot.slot), u64::from(slot.ready));
        let (service, version) = names(&slot.slot);
        for reason in &slot.reasons {
            let label = SlotReason { service: service.clone(), version: version.clone(), reason: reason.code() };
            set(&self.waiting, label, 1);
        }
        for generation in &slot.generations {
            self.generation(&slot.slot, generation);
        }
    }

    fn generation(&self, slot: &SlotId, it: &GenerationStatus) {
        let ((service, version), generation) = (names(slot), it.generation.0);
        let phase = it.phase.as_str();
        for class in StreamClass::ALL {
            let (service, version) = (service.clone(), version.clone());
            let label = GenerationClass { service, version, generation, phase, class: class.as_str() };
            set(&self.leases, label, *it.by_class.get(class));
        }
        let label = GenerationLabel { service: service.clone(), version: version.clone(), generation };
        if matches!(it.phase, Phase::Retired | Phase::Draining) {
            set(&self.draining_seconds, label.clone(), it.phase_ms / 1_000);
            set(&self.draining_inflight, label, it.inflight);
        }
        let sha12 = it.sha256.to_string().chars().take(12).collect();
        let binary_version = it.binary_version.clone().unwrap_or_default();
        let label = GenerationInfo { service, version, generation, phase, sha12, binary_version };
        set(&self.generations, label, 1);
    }
}

fn set<L>(family: &Family<L, Gauge>, label: L, value: u64)
where
    L: Clone + std::hash::Hash + Eq,
{
    family.get_or_create(&label).set(i64::try_from(value).unwrap_or(i64::MAX));
}
