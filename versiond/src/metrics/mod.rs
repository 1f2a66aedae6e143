//! The daemon's metrics: counters that are written where things happen, [`gauges`] that are read off the board
//! and figures of the data plane when somebody asks, and the metrics of the children, labelled.

mod exposition;
mod gauges;
mod labels;
mod plane;
mod scrape;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use router_dataplane::PlaneCounters;
use supervisor_protocol::admin::{Phase, Receipt};
use supervisor_protocol::{SlotId, StreamClass, Tick};
use versiond_core::memory::RollbackCause;

use self::gauges::Gauges;
use self::labels::{
    BuildLabel, CodeLabel, SlotCause, SlotClass, SlotLabel, SlotPhase, SlotReason, names, slot_cause, slot_label,
};
use self::scrape::{Children, Subject};
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
    gauges: Gauges,
}

/// What is counted elsewhere, as it stands now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Elsewhere {
    pub(crate) plane: PlaneCounters,
    pub(crate) ledger_failures: u64,
    pub(crate) log_lines_lost: BTreeMap<SlotId, u64>,
    pub(crate) state_dir: PathBuf,
}

impl Metrics {
    /// Registers every metric.
    #[must_use]
    pub(crate) fn new() -> Metrics {
        let seconds = || Histogram::new(exponential_buckets(0.05, 2.0, 16));
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
            gauges: Gauges::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock();
        registry.register("generation_transitions", "Phases entered by generations", self.transitions.clone());
        registry.register("generation_failures", "Generations that failed, by reason", self.failures.clone());
        registry.register("publications", "Generations published", self.publications.clone());
        registry.register("rollbacks", "Builds that were taken back, by cause", self.rollbacks.clone());
        registry.register("drained_leases", "Leases that ended by themselves during a drain", self.drained.clone());
        registry.register("cut_leases", "Leases that a deadline or a force ended", self.cut.clone());
        registry.register("drain_seconds", "How long drains took", self.drain_seconds.clone());
        registry.register("acts", "Changes asked for at the admin API, by what came of them", self.acts.clone());
        registry.register("admin_refused", "Callers whom the admin API did not let in", self.admin_refused.clone());
        let build: Family<BuildLabel, Gauge> = Family::default();
        build.get_or_create(&BuildLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build", "1, with the version of the daemon", build);
        self.gauges.register(&mut registry);
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
        let subjects = board.sockets().into_iter().map(|(slot, generation)| {
            // Where every child is told to serve its admin endpoints; a child without has no such file.
            let socket = elsewhere.state_dir.join("run").join(generation.to_string()).join("admin.sock");
            Subject { slot, generation, socket }
        });
        let children = scrape::all(subjects.filter(|subject| subject.socket.exists()).collect()).await;
        let store = elsewhere.state_dir.join("store");
        let store = tokio::task::spawn_blocking(move || bytes_below(&store)).await.unwrap_or_default();
        self.gauges.read(&board.status(now));
        let mut text = String::new();
        // Writing to a string does not fail.
        encode(&mut text, &self.registry.lock()).ok();
        let end = text.rfind("# EOF").unwrap_or(text.len());
        text.truncate(end);
        plane::append(&mut text, &elsewhere.plane);
        append(&mut text, &elsewhere, store);
        append_children(&mut text, &children);
        text.push_str("# EOF\n");
        text
    }
}

fn append(text: &mut String, elsewhere: &Elsewhere, store: u64) {
    for (name, kind, suffix, help, value) in [
        ("ledger_failures", "counter", "_total", "Writes of the ledger that failed", elsewhere.ledger_failures),
        ("store_bytes", "gauge", "", "What the artifacts take on the disk", store),
    ] {
        let name = format!("versiond_{name}");
        writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name}{suffix} {value}").ok();
    }
    text.push_str("# HELP versiond_log_lines_lost Lines of children that the log did not take.\n");
    text.push_str("# TYPE versiond_log_lines_lost counter\n");
    for (slot, lines) in &elsewhere.log_lines_lost {
        let (service, version) = names(slot);
        writeln!(text, "versiond_log_lines_lost_total{{service=\"{service}\",version=\"{version}\"}} {lines}").ok();
    }
}

fn append_children(text: &mut String, children: &Children) {
    text.push_str("# HELP versiond_child_metrics_up 1 while a child's own metrics can be read.\n");
    text.push_str("# TYPE versiond_child_metrics_up gauge\n");
    for (Subject { slot, generation, .. }, up) in &children.up {
        let (service, version) = names(slot);
        let labels = format!("service=\"{service}\",version=\"{version}\",generation=\"{}\"", generation.0);
        writeln!(text, "versiond_child_metrics_up{{{labels}}} {}", u8::from(*up)).ok();
    }
    text.push_str("# HELP versiond_child_metrics_conflicts Families of children that were left out: declared otherwise than another child's, or named as the supervisor's own.\n");
    text.push_str("# TYPE versiond_child_metrics_conflicts gauge\n");
    writeln!(text, "versiond_child_metrics_conflicts {}", children.merged.conflicts).ok();
    children.merged.render(text);
}

/// The sizes of all files below a folder of folders.
fn bytes_below(folder: &Path) -> u64 {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let size =
        |entry: &std::fs::DirEntry| entry.metadata().map_or(0, |found| if found.is_file() { found.len() } else { 0 });
    entries(folder).map(|entry| size(&entry) + entries(&entry.path()).map(|below| size(&below)).sum::<u64>()).sum()
}
