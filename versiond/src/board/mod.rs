//! The board: what every part of the daemon knows of the slots and the host, to read at any time.
//!
//! Slot actors and the host task write it; the data listener's status endpoints, the admin API and
//! the metrics read it. Reading never waits for a child (F37). Must not live here: decisions.

mod shown;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use daemon_kit::Events;
use parking_lot::Mutex;
use router_dataplane::{Clock, Target};
use supervisor_protocol::admin::{CatalogStatus, Isolation, Plan, Receipt, SlotStatus, SlotWhy, Status, Why};
use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::events::Happening;
use supervisor_protocol::host::{GenerationLoad, HealthEntry, HostDrain, HostState, ReadyAll, SlotReadiness};
use supervisor_protocol::time::millis;
use supervisor_protocol::{BootNonce, ByClass, Generation, HostId, Reason, SCHEMA, Sha256, SlotId, Tick, VersionName};
use tokio::sync::watch;
use versiond_core::generation::Facts;
use versiond_core::host::Host;
use versiond_core::slot::{Slot, Want};

use self::shown::{
    has_verdict, health_status, live, readiness, reasons, slot_plan, slot_status, taken_back, told, transitions, worded,
};
use crate::catalog::CatalogView;
use crate::metrics::{Metrics, Source};
use crate::supervisor::Flight;

/// Receipts that are kept for the API.
const RECEIPTS: usize = 200;

/// Shared by reference; every method takes a short lock.
pub(crate) struct Board {
    identity: Identity,
    inner: Mutex<Inner>,
    seq: watch::Sender<u64>,
    events: Arc<Events<Happening>>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// Who this daemon is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) id: HostId,
    pub(crate) boot: BootNonce,
    pub(crate) started: Tick,
}

struct Inner {
    host: Host,
    slots: BTreeMap<SlotId, SlotView>,
    catalog: CatalogStatus,
    catalog_read: Option<Tick>,
    receipts: VecDeque<Receipt>,
    /// Why the catalog's latest word on a slot is not followed, although something is wanted there.
    blocked: BTreeMap<SlotId, Reason>,
    /// The files that stand in for artifacts.
    overrides: BTreeMap<SlotId, String>,
    /// What is to be said of the configuration.
    notes: Vec<Reason>,
    /// When an artifact that could not be had is fetched again at the earliest.
    pauses: BTreeMap<Sha256, Tick>,
    isolation: Isolation,
    /// The slots that the first catalog named; `None` until one has been read.
    expected: Option<BTreeSet<SlotId>>,
}

/// A slot as its actor last left it.
#[derive(Clone)]
pub(crate) struct SlotView {
    pub(crate) slot: Slot,
    pub(crate) lives: BTreeMap<Generation, LifeView>,
    /// Of the artifact that is being fetched.
    pub(crate) progress: Option<(u64, Option<u64>)>,
    pub(crate) flight: Arc<Flight>,
}

/// What is known of a generation beyond its state.
#[derive(Clone, Default)]
pub(crate) struct LifeView {
    pub(crate) pid: Option<u32>,
    pub(crate) port: Option<u16>,
    pub(crate) metrics: Option<Arc<Source>>,
    pub(crate) facts: Option<Facts>,
    pub(crate) target: Option<Arc<Target>>,
    /// It waits for builds in these slots, which may bring the schema of the shared database up to date.
    pub(crate) schema_ahead: Vec<VersionName>,
    /// What the child counted when it was last asked during its drain.
    pub(crate) child_load: Option<u64>,
}

impl Board {
    /// A board without slots.
    pub(crate) fn new(
        identity: Identity,
        host: Host,
        catalog: CatalogStatus,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Arc<Board> {
        Arc::new(Board {
            metrics,
            events: Events::new(identity.boot.clone(), identity.started),
            clock,
            identity,
            inner: Mutex::new(Inner {
                host,
                slots: BTreeMap::new(),
                catalog,
                catalog_read: None,
                receipts: VecDeque::new(),
                blocked: BTreeMap::new(),
                overrides: BTreeMap::new(),
                notes: Vec::new(),
                pauses: BTreeMap::new(),
                isolation: Isolation::least(),
                expected: None,
            }),
            seq: watch::Sender::new(1),
        })
    }

    /// Says how children are kept apart.
    pub(crate) fn set_isolation(&self, isolation: Isolation) {
        self.inner.lock().isolation = isolation;
    }

    /// Changes the host under the lock and tells whoever waits, if `f` says that it changed. What `f` does to the
    /// data plane is done when the state is first shown.
    pub(crate) fn host<T>(&self, f: impl FnOnce(&mut Host) -> (T, bool)) -> T {
        let (value, changed, before, state) = {
            let host = &mut self.inner.lock().host;
            let before = host.state();
            let (value, changed) = f(host);
            (value, changed, before, host.state())
        };
        if before != state {
            self.events.push(Happening::Host { state }, self.clock.now());
        }
        if changed {
            self.bump();
        }
        value
    }

    /// Replaces what is known of a slot, or strikes it off.
    pub(crate) fn set_slot(&self, id: &SlotId, view: Option<SlotView>) {
        self.set_slot_with(id, view, || ());
    }

    /// The same, together with `effect`: nobody sees the one without the other.
    pub(crate) fn set_slot_with<T>(&self, id: &SlotId, view: Option<SlotView>, effect: impl FnOnce() -> T) -> T {
        let (changed, done) = {
            let mut inner = self.inner.lock();
            let done = effect();
            let before = inner.slots.get(id);
            let changed = before.map(|old| told(id, old)) != view.as_ref().map(|new| told(id, new));
            // Under the lock, so that the stream has them in the order in which they happened.
            for transition in transitions(id, before.map(|view| &view.slot), view.as_ref().map(|view| &view.slot)) {
                self.events.push(Happening::Transition(transition), self.clock.now());
            }
            if let Some(cause) = taken_back(before.map(|view| &view.slot), view.as_ref().map(|view| &view.slot)) {
                self.metrics.rolled_back(id, cause);
            }
            match view {
                Some(view) => inner.slots.insert(id.clone(), view),
                None => inner.slots.remove(id),
            };
            (changed, done)
        };
        if changed {
            self.bump();
        }
        done
    }

    /// What a slot was told.
    pub(crate) fn flight(&self, id: &SlotId) -> Option<Arc<Flight>> {
        self.inner.lock().slots.get(id).map(|view| view.flight.clone())
    }

    /// Notes the progress of a fetch.
    pub(crate) fn set_progress(&self, id: &SlotId, progress: Option<(u64, Option<u64>)>) {
        if let Some(view) = self.inner.lock().slots.get_mut(id) {
            view.progress = progress;
        }
    }

    /// Notes until when an artifact that could not be had is not fetched again.
    pub(crate) fn set_pause(&self, sha256: Sha256, until: Option<Tick>) {
        let mut inner = self.inner.lock();
        match until {
            Some(until) => inner.pauses.insert(sha256, until),
            None => inner.pauses.remove(&sha256),
        };
    }

    /// Replaces what is known of the catalog.
    pub(crate) fn set_catalog(&self, view: &CatalogView) {
        // An entry without anything to serve is all that is wanted of its slot, which tells it itself.
        let blocked = view.desired.slots.iter().filter(|(_, intent)| intent.artifact.is_some());
        let blocked = blocked.filter_map(|(id, intent)| Some((id.clone(), intent.blocked.clone()?))).collect();
        let mut inner = self.inner.lock();
        inner.catalog = view.status.clone();
        inner.catalog_read = view.read_at;
        inner.blocked = blocked;
        let overrides = view.desired.slots.iter();
        inner.overrides =
            overrides.filter_map(|(id, intent)| Some((id.clone(), intent.override_file.clone()?))).collect();
    }

    /// Replaces what is to be said of the configuration.
    pub(crate) fn set_notes(&self, notes: Vec<Reason>) {
        self.inner.lock().notes = notes;
    }

    /// Keeps a receipt.
    pub(crate) fn add_receipt(&self, receipt: Receipt) {
        self.events.push(Happening::Drained(receipt.clone()), self.clock.now());
        {
            let mut inner = self.inner.lock();
            inner.receipts.push_front(receipt);
            inner.receipts.truncate(RECEIPTS);
        }
        self.bump();
    }

    /// What has happened.
    pub(crate) fn events(&self) -> &Arc<Events<Happening>> {
        &self.events
    }

    /// The processes of all generations.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let inner = self.inner.lock();
        inner.slots.values().flat_map(|view| view.lives.values()).filter_map(|life| life.pid).collect()
    }

    /// Every generation that may have metrics of its own, and where.
    pub(crate) fn metrics_sources(&self) -> Vec<(SlotId, Generation, Source)> {
        let inner = self.inner.lock();
        let lives =
            inner.slots.iter().flat_map(|(id, view)| view.lives.iter().map(move |(number, life)| (id, number, life)));
        let of = |(id, number, life): (&SlotId, &Generation, &LifeView)| {
            life.metrics.as_deref().map(|source| (id.clone(), *number, source.clone()))
        };
        lives.filter_map(of).collect()
    }

    /// Grows by every change that a router or an operator may wait for.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.seq.subscribe()
    }

    /// Tells whoever waits that something changed.
    pub(crate) fn bump(&self) {
        self.seq.send_modify(|seq| *seq += 1);
    }

    /// Where the host stands.
    pub(crate) fn host_state(&self) -> HostState {
        self.inner.lock().host.state()
    }

    /// Names the slots that the catalog in force wants.
    pub(crate) fn expect(&self, slots: BTreeSet<SlotId>) {
        let changed = self.inner.lock().expected.replace(slots.clone()).as_ref() != Some(&slots);
        if changed {
            self.bump();
        }
    }

    /// Whether a catalog has been read, and every slot that it wants has had its verdict.
    pub(crate) fn all_decided(&self) -> bool {
        let inner = self.inner.lock();
        let decided = |id: &SlotId| {
            let view = inner.slots.get(id);
            view.is_some_and(|view| *view.slot.want() != Want::Nothing && has_verdict(view))
        };
        inner.expected.as_ref().is_some_and(|expected| expected.iter().all(decided))
    }

    /// Requests in flight over all generations.
    pub(crate) fn inflight(&self) -> u64 {
        let inner = self.inner.lock();
        inner
            .slots
            .values()
            .flat_map(|view| view.lives.values())
            .filter_map(|life| life.target.as_ref())
            .map(|target| target.load().by_class.total())
            .sum()
    }

    /// The body of `GET /healthz`.
    pub(crate) fn healthz(&self) -> Vec<HealthEntry> {
        let inner = self.inner.lock();
        let entries = inner.slots.iter().flat_map(|(id, view)| {
            view.slot.generations().map(|generation| {
                let life = view.lives.get(&generation.number).cloned().unwrap_or_default();
                HealthEntry {
                    service: id.service.clone(),
                    name: id.name.clone(),
                    port: life.port.unwrap_or_default(),
                    status: health_status(generation),
                    sha256: generation.sha256(),
                    binary_version: life.facts.map(|facts| facts.binary_version).unwrap_or_default(),
                    generation: generation.number,
                }
            })
        });
        entries.collect()
    }

    /// What `GET /readyz` answers: for the whole host, or for exactly one version of it.
    pub(crate) fn is_ready(&self, service: Option<&str>, version: Option<&str>) -> bool {
        let inner = self.inner.lock();
        let live = inner
            .slots
            .iter()
            .filter(|(id, _)| service.is_none_or(|service| id.service.as_str() == service))
            .filter(|(id, _)| version.is_none_or(|version| id.name.as_str() == version))
            .filter(|(_, view)| live(&view.slot))
            .count();
        inner.host.is_ready(live)
    }

    /// The body of `GET /readyz?all=1`.
    pub(crate) fn ready_all(&self) -> ReadyAll {
        let inner = self.inner.lock();
        let slots: Vec<SlotReadiness> = inner.slots.iter().map(|(id, view)| readiness(id, view)).collect();
        ReadyAll {
            schema: SCHEMA,
            id: self.identity.id.clone(),
            boot: self.identity.boot.clone(),
            seq: *self.seq.borrow(),
            state: inner.host.state(),
            ready: inner.host.is_ready(slots.iter().filter(|slot| slot.ready).count()),
            slots,
        }
    }

    /// The body of `GET /drain/status`.
    pub(crate) fn drain(&self, now: Tick) -> HostDrain {
        let inner = self.inner.lock();
        let host = &inner.host;
        let since = host.leaving_since().or_else(|| host.cordon().map(|cordon| cordon.since));
        let mode = host.cordon().map(|cordon| cordon.mode).or_else(|| host.leaving_since().map(|_| DrainMode::All));
        let mut report = HostDrain {
            schema: SCHEMA,
            id: self.identity.id.clone(),
            boot: self.identity.boot.clone(),
            seq: *self.seq.borrow(),
            state: host.state(),
            mode,
            since_ms: since.map(|since| millis(now.since(since))),
            deadline_in_ms: host.drained_by().map(|deadline| millis(deadline.since(now))),
            inflight: 0,
            by_class: ByClass::default(),
            by_service: BTreeMap::new(),
            oldest_ms: 0,
            forecast_ms: 0,
        };
        for (id, view) in &inner.slots {
            for generation in view.slot.generations() {
                let Some(target) = view.lives.get(&generation.number).and_then(|life| life.target.as_ref()) else {
                    continue;
                };
                let load = target.load();
                report.inflight += load.by_class.total();
                report.by_class.add(&load.by_class);
                report.oldest_ms = report.oldest_ms.max(load.oldest_ms);
                report.forecast_ms = report.forecast_ms.max(load.forecast_ms);
                let versions = report.by_service.entry(id.service.clone()).or_default();
                versions.entry(id.name.clone()).or_default().push(GenerationLoad {
                    generation: generation.number,
                    draining: generation.is_leaving(),
                    inflight: load.by_class.total(),
                    by_class: load.by_class,
                    oldest_ms: load.oldest_ms,
                });
            }
        }
        report
    }

    /// The body of `GET /v1/status`.
    pub(crate) fn status(&self, now: Tick) -> Status {
        let inner = self.inner.lock();
        let live = inner.slots.values().filter(|view| live(&view.slot)).count();
        Status {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.identity.id.clone(),
            boot: self.identity.boot.clone(),
            state: inner.host.state(),
            ready: inner.host.is_ready(live),
            uptime_ms: millis(now.since(self.identity.started)),
            catalog: CatalogStatus {
                read_ms_ago: inner.catalog_read.map(|read| millis(now.since(read))),
                ..inner.catalog.clone()
            },
            isolation: inner.isolation.clone(),
            slots: inner
                .slots
                .iter()
                .map(|(id, view)| SlotStatus {
                    override_file: inner.overrides.get(id).cloned(),
                    ..slot_status(id, view, inner.blocked.get(id), &inner.pauses, now)
                })
                .collect(),
            receipts: inner.receipts.iter().cloned().collect(),
        }
    }

    /// The body of `GET /v1/why`, of one slot or of all.
    pub(crate) fn why(&self, only: Option<&SlotId>, now: Tick) -> Why {
        let inner = self.inner.lock();
        let slots =
            inner.slots.iter().filter(|(id, _)| only.is_none_or(|only| only == *id)).map(|(id, view)| SlotWhy {
                slot: id.clone(),
                serving: view.slot.serving().map(|serving| serving.number),
                reasons: reasons(view, inner.blocked.get(id), &inner.pauses, now).into_iter().map(worded).collect(),
            });
        let host = inner.catalog.reason.iter().chain(&inner.notes).cloned().collect();
        Why { schema: SCHEMA, host, slots: slots.collect() }
    }

    /// The body of `GET /v1/plan`, of one slot or of all.
    pub(crate) fn plan(&self, only: Option<&SlotId>, now: Tick) -> Plan {
        let inner = self.inner.lock();
        let slots = inner.slots.iter().filter(|(id, _)| only.is_none_or(|only| only == *id));
        let slots = slots.map(|(id, view)| slot_plan(id, view, inner.blocked.get(id), now));
        Plan { schema: SCHEMA, slots: slots.collect() }
    }

    /// Every slot with its generations.
    pub(crate) fn slots(&self) -> Vec<(SlotId, SlotView)> {
        self.inner.lock().slots.iter().map(|(id, view)| (id.clone(), view.clone())).collect()
    }

    /// Every slot.
    pub(crate) fn slot_ids(&self) -> Vec<SlotId> {
        self.inner.lock().slots.keys().cloned().collect()
    }
}
