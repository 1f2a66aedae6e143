//! The router's metrics: counters where things happen, everything else read when somebody asks.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;

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
struct Code {
    code: &'static str,
}

/// Registered once.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    checks: Family<PoolWhat, Counter>,
    listings: Family<PoolWhat, Counter>,
    alarms: Family<PoolWhat, Gauge>,
    requests: Family<PoolLabel, Gauge>,
    hosts: Family<HostRole, Gauge>,
    inflight: Family<HostLabel, Gauge>,
    refused: Family<Code, Gauge>,
    plane: Family<Code, Gauge>,
    ready: Gauge<u64, AtomicU64>,
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
            requests: Family::default(),
            hosts: Family::default(),
            inflight: Family::default(),
            refused: Family::default(),
            plane: Family::default(),
            ready: Gauge::default(),
        };
        registry.register("checks", "Answers to checks, by what they were", metrics.checks.clone());
        registry.register("listings", "Lists of members, by whether they were followed", metrics.listings.clone());
        registry.register("alarm", "1 while the alarm is raised", metrics.alarms.clone());
        registry.register("pool_requests", "Requests placed since the start", metrics.requests.clone());
        registry.register("host_role", "1: may be chosen in this role; out: may not", metrics.hosts.clone());
        registry.register("host_inflight", "Requests of this router in flight", metrics.inflight.clone());
        registry.register("refused", "Requests that were refused, by the code", metrics.refused.clone());
        registry.register("plane", "Counts of the data plane", metrics.plane.clone());
        registry.register("ready", "1: every member is known, and it does not stop", metrics.ready.clone());
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
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for (pool, count) in requests {
            self.requests.get_or_create(&PoolLabel { pool }).set(whole(count));
        }
        self.hosts.clear();
        self.inflight.clear();
        for host in hosts {
            let name = host.id.unwrap_or(host.address);
            let role = host.role.unwrap_or_else(|| "out".to_owned());
            self.hosts.get_or_create(&HostRole { pool: host.pool.clone(), host: name.clone(), role }).set(1);
            self.inflight.get_or_create(&HostLabel { pool: host.pool, host: name }).set(whole(host.inflight));
        }
        for (refusal, count) in plane.refused {
            self.refused.get_or_create(&Code { code: refusal.code() }).set(whole(count));
        }
        for (code, count) in [
            ("requests", plane.requests),
            ("answered", plane.answered),
            ("retries", plane.retries),
            ("connections_now", plane.connections_now),
            ("connections", plane.connections),
            ("upstream_connections", plane.upstream_connections),
        ] {
            self.plane.get_or_create(&Code { code }).set(whole(count));
        }
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &registry) {
            write!(text, "# {error}").ok();
        }
        text
    }
}
