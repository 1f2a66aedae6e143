//! The daemon's metrics: counters that are written where things happen, [`gauges`] that are read off the board
//! and figures of the data plane when somebody asks, and the metrics of the children, labelled.

mod declared;
mod exposition;
mod fetches;
mod gauges;
mod labels;
mod lives;
mod plane;
mod scrape;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};
use router_dataplane::{PlaneCounters, WaitCounts};
use supervisor_protocol::admin::{Phase, Receipt};
use supervisor_protocol::{SlotId, StreamClass, Tick};
use versiond_core::memory::RollbackCause;

use self::declared::Declared;
pub(crate) use self::fetches::{Fetched, Fetches};
use self::gauges::Gauges;
use self::labels::{
    BuildLabel, CodeLabel, SlotCause, SlotClass, SlotLabel, SlotPhase, SlotReason, names, slot_cause, slot_label,
};
use self::lives::Lives;
pub(crate) use self::lives::{Counted, Swapped, Way};
pub(crate) use self::scrape::Source;
use self::scrape::{Children, Subject};
use self::text::Families;
use crate::board::Board;

/// All metrics of the daemon.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    transitions: Family<SlotPhase, Counter>,
    failures: Family<SlotReason, Counter>,
    publications: Family<SlotLabel, Counter>,
    rollbacks: Family<SlotCause, Counter>,
    drained: Family<SlotClass, Counter>,
    cut: Family<SlotClass, Counter>,
    drain_seconds: Family<SlotLabel, Histogram>,
    acts: Family<CodeLabel, Counter>,
    admin_refused: Family<CodeLabel, Counter>,
    lives: Lives,
    fetches: Fetches,
    gauges: Gauges,
}

/// What is counted elsewhere, as it stands now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Elsewhere {
    pub(crate) plane: PlaneCounters,
    pub(crate) waits: BTreeMap<SlotId, WaitCounts>,
    pub(crate) ledger_failures: u64,
    pub(crate) log_lines_lost: BTreeMap<SlotId, u64>,
    pub(crate) state_dir: PathBuf,
}

impl Metrics {
    /// Registers every metric.
    #[must_use]
    pub(crate) fn new() -> Metrics {
        let metrics = Metrics {
            registry: Mutex::new(Registry::with_prefix("versiond")),
            transitions: Family::default(),
            failures: Family::default(),
            publications: Family::default(),
            rollbacks: Family::default(),
            drained: Family::default(),
            cut: Family::default(),
            drain_seconds: Family::new_with_constructor(seconds),
            acts: Family::default(),
            admin_refused: Family::default(),
            lives: Lives::new(),
            fetches: Fetches::default(),
            gauges: Gauges::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock();
        let registry = &mut *registry;
        register(registry, &declared::TRANSITIONS, self.transitions.clone());
        register(registry, &declared::FAILURES, self.failures.clone());
        register(registry, &declared::PUBLICATIONS, self.publications.clone());
        register(registry, &declared::ROLLBACKS, self.rollbacks.clone());
        register(registry, &declared::DRAINED, self.drained.clone());
        register(registry, &declared::CUT, self.cut.clone());
        register(registry, &declared::DRAIN_SECONDS, self.drain_seconds.clone());
        register(registry, &declared::ACTS, self.acts.clone());
        register(registry, &declared::ADMIN_REFUSED, self.admin_refused.clone());
        let build: Family<BuildLabel, Gauge> = Family::default();
        build.get_or_create(&BuildLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        register(registry, &declared::BUILD, build);
        self.lives.register(registry);
        self.fetches.register(registry);
        self.gauges.register(registry);
    }

    /// What the store counts its fetches with.
    pub(crate) fn fetches(&self) -> Fetches {
        self.fetches.clone()
    }

    /// Something has happened to the processes of a slot.
    pub(crate) fn counts(&self, slot: &SlotId, counted: Counted) {
        self.lives.counts(slot, counted);
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
        self.publications.get_or_create(&slot_label(slot)).inc();
        // At zero from the first publication on, so that the first one is a growth and not a beginning.
        self.lives.begin(slot);
        for cause in RollbackCause::ALL {
            drop(self.rollbacks.get_or_create(&slot_cause(slot, cause)));
        }
        for class in StreamClass::ALL {
            let (service, version) = names(slot);
            drop(self.cut.get_or_create(&SlotClass { service, version, class: class.as_str() }));
        }
    }

    /// A build was taken back.
    pub(crate) fn rolled_back(&self, slot: &SlotId, cause: RollbackCause) {
        self.rollbacks.get_or_create(&slot_cause(slot, cause)).inc();
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
    pub(crate) async fn render(&self, board: &Board, elsewhere: Elsewhere, now: Tick) -> String {
        let subjects = board.metrics_sources().into_iter();
        let subjects = subjects.map(|(slot, generation, source)| Subject { slot, generation, source });
        let children = scrape::all(subjects.collect()).await;
        let store = elsewhere.state_dir.join("store");
        let store = tokio::task::spawn_blocking(move || bytes_below(&store)).await.unwrap_or_default();
        self.gauges.read(&board.status(now));
        let mut text = String::new();
        // Writing to a string does not fail.
        encode(&mut text, &self.registry.lock()).ok();
        let end = text.rfind("# EOF").unwrap_or(text.len());
        text.truncate(end);
        plane::append(&mut text, &elsewhere.plane, &elsewhere.waits);
        append(&mut text, &elsewhere, store);
        append_children(&mut text, &children);
        text.push_str("# EOF\n");
        text
    }
}

fn append(text: &mut String, elsewhere: &Elsewhere, store: u64) {
    let mut families = Families(text);
    families.single(&declared::LEDGER_FAILURES, elsewhere.ledger_failures);
    families.single(&declared::STORE_BYTES, store);
    let mut lost = families.begin(&declared::LOG_LINES_LOST);
    for (slot, lines) in &elsewhere.log_lines_lost {
        lost.series(&[("service", slot.service.as_str()), ("version", slot.name.as_str())], lines);
    }
}

fn append_children(text: &mut String, children: &Children) {
    let mut families = Families(text);
    let mut ups = families.begin(&declared::CHILD_METRICS_UP);
    for (Subject { slot, generation, .. }, up) in &children.up {
        let generation = generation.0.to_string();
        let (service, version) = (slot.service.as_str(), slot.name.as_str());
        ups.series(&[("service", service), ("version", version), ("generation", &generation)], u8::from(*up));
    }
    families.single(&declared::CHILD_METRICS_CONFLICTS, children.merged.conflicts);
    children.merged.render(text);
}

fn register(registry: &mut Registry, declared: &Declared, metric: impl Metric) {
    registry.register(declared.name, declared.help, metric);
}

/// From the twentieth of a second to half an hour.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.05, 2.0, 16))
}

/// The sizes of all files below a folder of folders.
fn bytes_below(folder: &Path) -> u64 {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let size =
        |entry: &std::fs::DirEntry| entry.metadata().map_or(0, |found| if found.is_file() { found.len() } else { 0 });
    entries(folder).map(|entry| size(&entry) + entries(&entry.path()).map(|below| size(&below)).sum::<u64>()).sum()
}
