//! The router's metrics: counters where things happen, everything else read when somebody asks.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use router_core::view::View;
use router_dataplane::PlaneCounters;
use supervisor_protocol::router::HostStatus;

/// Every alarm, so that one that is over is shown as 0.
const ALARMS: [&str; 5] = ["panic", "all_cordoned", "all_leaving", "second_local", "identity"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolWhat {
    pool: String,
    what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HostLabel {
    pool: String,
    host: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HostRole {
    pool: String,
    host: String,
    role: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

/// Registered once.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    checks: Family<PoolWhat, Counter>,
    listings: Family<PoolWhat, Counter>,
    alarms: Family<PoolWhat, Gauge>,
    placed: Family<PoolLabel, Counter>,
    hosts: Family<HostRole, Gauge>,
    inflight: Family<HostLabel, Gauge>,
    admitted: Family<HostLabel, Counter>,
    plane: OfPlane,
    ready: Gauge<u64, AtomicU64>,
}

/// What the data plane counts.
#[derive(Default)]
struct OfPlane {
    requests: Counter,
    answered: Counter,
    refused: Family<Reason, Counter>,
    retries: Counter,
    connections: Counter,
    connections_now: Gauge,
    not_begun: Counter,
    inflight_now: Gauge,
    upstream_connections: Counter,
}

/// What is known elsewhere, as it stands now.
pub(crate) struct Elsewhere {
    pub(crate) ready: bool,
    pub(crate) requests: Vec<(String, u64)>,
    pub(crate) hosts: Vec<HostStatus>,
    pub(crate) plane: PlaneCounters,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("versiond_router");
        let metrics = Metrics {
            registry: Mutex::default(),
            checks: Family::default(),
            listings: Family::default(),
            alarms: Family::default(),
            placed: Family::default(),
            hosts: Family::default(),
            inflight: Family::default(),
            admitted: Family::default(),
            plane: OfPlane::default(),
            ready: Gauge::default(),
        };
        registry.register("checks", "Answers to checks, by what they were", metrics.checks.clone());
        registry.register("listings", "Lists of members, by whether they were followed", metrics.listings.clone());
        registry.register("alarm", "1 while the alarm is raised", metrics.alarms.clone());
        registry.register("pool_requests", "Requests that a route led to the pool", metrics.placed.clone());
        registry.register("host_role", "1: may be chosen in this role; out: may not", metrics.hosts.clone());
        registry.register("host_inflight", "Requests of this router in flight", metrics.inflight.clone());
        registry.register("host_requests", "Requests of this router that the host was given", metrics.admitted.clone());
        registry.register("ready", "1: every member is known, and it does not stop", metrics.ready.clone());
        let build: Family<Version, Gauge> = Family::default();
        build.get_or_create(&Version { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build", "1, with the version of the router", build);
        metrics.plane.register(&mut registry);
        *metrics.registry.lock() = registry;
        metrics
    }

    pub(crate) fn checked(&self, pool: &str, what: &'static str) {
        self.checks.get_or_create(&PoolWhat { pool: pool.to_owned(), what }).inc();
    }

    pub(crate) fn listed(&self, pool: &str, what: &'static str) {
        self.listings.get_or_create(&PoolWhat { pool: pool.to_owned(), what }).inc();
    }

    pub(crate) fn alarmed(&self, pool: &str, view: &View) {
        for what in ALARMS {
            let scopes = view.versions().map(|(_, scope)| scope).chain([view.whole()]);
            let is_raised = scopes.flat_map(|scope| &scope.alarms).any(|alarm| alarm.code() == what);
            self.alarms.get_or_create(&PoolWhat { pool: pool.to_owned(), what }).set(i64::from(is_raised));
        }
    }

    /// The text that is scraped.
    pub(crate) fn text(&self, elsewhere: Elsewhere) -> String {
        let registry = self.registry.lock();
        let Elsewhere { ready, requests, hosts, plane } = elsewhere;
        self.ready.set(u64::from(ready));
        for (pool, count) in requests {
            stands_at(&self.placed.get_or_create(&PoolLabel { pool }), count);
        }
        self.hosts.clear();
        self.inflight.clear();
        self.admitted.clear();
        for host in hosts {
            let role = host.role.unwrap_or_else(|| "out".to_owned());
            let label = HostLabel { pool: host.pool, host: host.id.unwrap_or(host.address) };
            self.hosts.get_or_create(&HostRole { pool: label.pool.clone(), host: label.host.clone(), role }).set(1);
            self.inflight.get_or_create(&label).set(whole(host.inflight));
            stands_at(&self.admitted.get_or_create(&label), host.admitted);
        }
        self.plane.follow(&plane);
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &registry) {
            write!(text, "# {error}").ok();
        }
        text
    }
}

impl OfPlane {
    fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests whose head was read", self.requests.clone());
        registry.register("answered_requests", "Responses of hosts that were passed on", self.answered.clone());
        registry.register("refused_requests", "Requests that no host answered, by reason", self.refused.clone());
        registry.register("retries", "Attempts beyond the first", self.retries.clone());
        registry.register("client_connections", "Connections of clients", self.connections.clone());
        registry.register("client_connections_now", "Open connections of clients", self.connections_now.clone());
        registry.register(
            "client_connections_not_begun",
            "Connections that ended before a request could be read",
            self.not_begun.clone(),
        );
        registry.register(
            "requests_inflight_now",
            "Requests in flight, those that wait among them",
            self.inflight_now.clone(),
        );
        registry.register("upstream_connections", "Connections made to hosts", self.upstream_connections.clone());
    }

    fn follow(&self, plane: &PlaneCounters) {
        stands_at(&self.requests, plane.requests);
        stands_at(&self.answered, plane.answered);
        for (refusal, count) in &plane.refused {
            stands_at(&self.refused.get_or_create(&Reason { reason: refusal.code() }), *count);
        }
        stands_at(&self.retries, plane.retries);
        stands_at(&self.connections, plane.connections);
        self.connections_now.set(whole(plane.connections_now));
        stands_at(&self.not_begun, plane.not_begun);
        self.inflight_now.set(whole(plane.inflight_now));
        stands_at(&self.upstream_connections, plane.upstream_connections);
    }
}

/// It is counted elsewhere.
fn stands_at(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use router_core::pool::{Pool, PoolSettings};
    use supervisor_protocol::{ByClass, Refusal, Tick};

    use super::*;

    const GUIDE: &str = include_str!("../../docs/router.md");

    /// Name, type and labels, as a row of the guide has them.
    type Row = (String, String, String);

    /// Everything that can be told, once.
    fn scraped() -> String {
        let metrics = Metrics::new();
        metrics.checked("p", "word");
        metrics.listed("p", "followed");
        metrics.alarmed("p", &Pool::new(PoolSettings::default(), Tick(1)).view());
        let host = HostStatus {
            pool: "p".to_owned(),
            id: Some("gpu-1".to_owned()),
            address: "10.0.0.1:8080".to_owned(),
            weight: 1,
            health: "answering".to_owned(),
            state: None,
            role: Some("ready".to_owned()),
            out: None,
            share_percent: 100.0,
            drain: None,
            inflight: 2,
            by_class: ByClass::default(),
            oldest_ms: 0,
            forecast_ms: 0,
            admitted: 7,
        };
        metrics.text(Elsewhere {
            ready: true,
            requests: vec![("p".to_owned(), 9)],
            hosts: vec![host],
            plane: PlaneCounters { refused: BTreeMap::from([(Refusal::NoHost, 3)]), ..PlaneCounters::default() },
        })
    }

    fn rows_of(scrape: &str) -> BTreeSet<Row> {
        let kinds = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let kinds: BTreeMap<String, &str> = kinds
            .map(|(name, kind)| (if kind == "counter" { format!("{name}_total") } else { name.to_owned() }, kind))
            .collect();
        let samples = scrape.lines().filter(|line| !line.starts_with('#'));
        let rows = samples.map(|line| {
            let name = line.split(['{', ' ']).next().unwrap();
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.split('}').next().unwrap());
            let labels = labels.split(',').filter_map(|label| Some(format!("`{}`", label.split_once('=')?.0)));
            (name.to_owned(), kinds[name].to_owned(), labels.collect::<Vec<_>>().join(", "))
        });
        rows.collect()
    }

    fn rows_of_guide() -> BTreeSet<Row> {
        let rows = GUIDE.lines().filter_map(|line| line.strip_prefix("| `versiond_router_"));
        let rows = rows.map(|row| {
            let mut cells = row.split(" | ").map(str::to_owned);
            let mut next = || cells.next().unwrap_or_default();
            (format!("versiond_router_{}", next().trim_end_matches('`')), next(), next().trim().to_owned())
        });
        rows.collect()
    }

    #[test]
    fn the_guide_has_every_metric_with_its_type_and_labels_and_no_other() {
        let (emitted, told) = (rows_of(&scraped()), rows_of_guide());
        assert!(emitted.len() > 15, "the search is broken: {emitted:?}");
        let lacking: Vec<_> = emitted.difference(&told).collect();
        let foreign: Vec<_> = told.difference(&emitted).collect();
        assert!(lacking.is_empty() && foreign.is_empty(), "not in the guide: {lacking:?}; nowhere else: {foreign:?}");
    }

    #[test]
    fn what_the_plane_counts_is_told_as_it_stands() {
        let text = scraped();
        for line in [
            "versiond_router_refused_requests_total{reason=\"no_host\"} 3",
            "versiond_router_pool_requests_total{pool=\"p\"} 9",
            "versiond_router_host_requests_total{pool=\"p\",host=\"gpu-1\"} 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
