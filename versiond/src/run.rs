//! `versiond run`: puts the parts together, in the order that makes a crash at any point harmless, and
//! takes them apart again.
//!
//! 1. the ledger's lock, so that no second versiond touches anything;
//! 2. the sweep of what a dead predecessor left, before a port or a folder is used again;
//! 3. the listeners, then the parts, then READY.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use daemon_kit::bind;
use router_dataplane::{
    Clock, HoldBounds, Listener, LocalEndpoints, NoLocalEndpoints, PeerRanges, Plane, PlaneConfig, RouteTable,
    TlsIdentity,
};
use supervisor_protocol::admin::CatalogStatus;
use supervisor_protocol::headers::HostStamp;
use supervisor_protocol::{BootNonce, ServiceName, Tick};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use versiond_core::host::{Host, HostTimings};

pub use daemon_kit::init_logging;

pub use crate::supervisor::chain;

use crate::admin;
use crate::board::{Board, Identity};
use crate::catalog::{self, CatalogView};
use crate::config::{CatalogSource, Config, HostTls};
use crate::faults::{Fault, Faults, crash};
use crate::host::{Endpoints, Lifecycle, Signals};
use crate::isolation::{self, Isolation};
use crate::keeper::Keeper;
use crate::ledger::{Ledger, LedgerState};
use crate::metrics::Metrics;
use crate::process::sweep::{self, SweepError, sweep};
use crate::process::{PortAllocator, Spawner, oneshot};
use crate::reload::{Origin, Reloader};
use crate::store::Store;
use crate::supervisor::{
    Commands, Manager, Order, PreUpgrade, ProbeTimings, Recorder, Schemas, Settings, Shared, other_peers,
};

/// How long what a dead predecessor left may take to die.
const SWEEP_WITHIN: Duration = Duration::from_secs(30);
/// How long clients may take to read the last bytes of their answers once every request is over.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);
/// The same for a host that is forced.
const CLOSE_FORCED: Duration = Duration::from_secs(1);
/// How long a probe, or a call to a child's admin socket, may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a draining child is asked for its count.
const DRAIN_POLL: Duration = Duration::from_millis(100);

/// Runs the daemon until a signal has emptied it.
///
/// # Errors
/// It cannot start: the text says what is missing and where. After the start nothing is an error.
pub fn run(config: Config, origin: Origin, faults: Faults) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(supervise(config, origin, faults));
    // Nothing that a stuck mount holds up may hold up the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn supervise(config: Config, origin: Origin, faults: Faults) -> anyhow::Result<()> {
    let signals = Signals::catch()?;
    catalog::install_tls();
    let state_dir = config.host.state_dir.clone().into_std_path_buf();
    let (ledger, state) = Ledger::open(&state_dir)?;
    crash::before("sweep");
    let (recorder, state) = swept(ledger, state).await?;
    crash::after("sweep");
    let isolation = Arc::new(Isolation::establish(&state_dir, SWEEP_WITHIN).context("the children's folders")?);

    crash::before("listen");
    let listeners = Listeners::bind(&config)?;
    crash::after("listen");

    let clock = Clock::start();
    let boot = BootNonce::new(String::from(oneshot::random_nonce()?))?;
    let budget = &config.timing;
    let host = Host::new(
        HostTimings {
            announce: budget.announce.unwrap_or_default(),
            drain: budget.host_drain(),
            stop_grace: budget.stop_grace,
            budget: budget.shutdown_budget,
        },
        admin::remembered(state.cordon, clock.now()),
    );
    let identity = Identity { id: config.host.id.clone(), boot: boot.clone(), started: Tick::ZERO };
    let metrics = Arc::new(Metrics::new());
    let board = Board::new(identity, host, unread(&config), metrics.clone(), clock);
    board.set_isolation(isolation.shown_for(isolation::asked(&config)).await);
    let spawner = Spawner::start("/proc/self/exe".into()).context("the thread that forks")?;
    spawner.logs().remember(config.host.log_ring);
    let store = Store::open(&state_dir.join("store"), !faults.has(Fault::NoHash), config.catalog.url_rules())?;
    let store = Arc::new(store.counted_by(metrics.fetches()));
    let (catalog, catalog_handle) = catalog::open(&config, clock)?;
    let entries = config.services.iter().map(|(name, service)| (name.clone(), service.entry.clone()));
    let entries: BTreeMap<ServiceName, Option<String>> = entries.collect();
    tokio::spawn(catalog::stage(catalog.clone(), store.clone(), entries.clone(), catalog_handle.staging()));
    let keeper = Arc::new(Keeper {
        store: store.clone(),
        board: board.clone(),
        recorder: recorder.clone(),
        catalog: catalog.clone(),
        rules: config.catalog.url_rules(),
        entries,
        runtime: tokio::runtime::Handle::current(),
    });
    tokio::spawn(keeper.clone().run());
    let looked_at = config.clone();
    let settings = tokio::task::spawn_blocking(move || Settings::new(&looked_at)).await?;

    let stamp = HostStamp { id: config.host.id.clone(), boot };
    let planes = Planes::start(&config, faults, clock, stamp, listeners.data, listeners.status, &board)?;
    let plane = planes.data.clone();

    let tail = TaskTracker::new();
    let shared = Arc::new(Shared {
        board: board.clone(),
        store,
        spawner: spawner.clone(),
        ports: PortAllocator::new(config.host.child_ports),
        recorder: recorder.clone(),
        clock,
        faults,
        timings: budget.timings(),
        probes: ProbeTimings {
            ready: budget.ready_probe,
            live: budget.live_probe,
            drain: DRAIN_POLL,
            timeout: PROBE_TIMEOUT,
        },
        metrics: metrics.clone(),
        pre_upgrade: pre_upgrade(&config, &catalog),
        state_dir: state_dir.clone(),
        peers: other_peers(&config.host.peers, &config.host.id),
        isolation: isolation.clone(),
        schemas: Schemas::new(),
        tail: tail.clone(),
    });
    let (orders, order) = watch::channel(Order::Follow);
    let manager = Manager::new(shared, &settings, plane.clone(), &state);
    let (commands, given) = Commands::new();
    let (settings, reloaded) = watch::channel(Arc::new(settings));
    let manager = tokio::spawn(manager.run(reloaded, catalog, order, given));
    let reloader = Reloader {
        origin,
        config: config.clone(),
        settings,
        catalog: catalog_handle.clone(),
        board: board.clone(),
        isolation: isolation.clone(),
    };
    let reload = reloader.start();

    let parts = admin::Parts {
        board: board.clone(),
        plane: plane.clone(),
        metrics,
        recorder,
        clock,
        commands,
        catalog: catalog_handle,
        keeper,
        reload: reload.clone(),
        logs: spawner.logs(),
        state_dir,
    };
    admin::serve(parts, listeners.admin, listeners.metrics)?;
    tracing::info!(listen = %config.host.listen, admin = %config.host.admin, id = %config.host.id, "versiond runs");
    crash::before("ready");
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
    crash::after("ready");

    let lifecycle = Lifecycle { board, plane: plane.clone(), spawner, clock, orders, reload };
    let forced = lifecycle
        .run(signals, async {
            if let Err(error) = manager.await {
                tracing::error!(%error, "the manager failed");
            }
        })
        .await;
    tail.close();
    tail.wait().await;
    planes.shutdown(if forced { CLOSE_FORCED } else { CLOSE_WITHIN }).await;
    std::fs::remove_file(&config.host.admin).ok();
    tracing::info!("everything is stopped");
    Ok(())
}

/// Everything that the daemon listens on, bound before anything is started: a port that is taken is an error.
struct Listeners {
    data: Vec<Listener>,
    status: Option<TcpListener>,
    metrics: Option<TcpListener>,
    admin: admin::Listeners,
}

impl Listeners {
    fn bind(config: &Config) -> anyhow::Result<Listeners> {
        let host = &config.host;
        let users = config.services.values().filter_map(|service| service.isolation.user.as_deref());
        Ok(Listeners {
            data: std::iter::once(Ok(bind(host.listen, "[host] listen")?.into()))
                .chain(host.tls.as_ref().map(tls))
                .collect::<anyhow::Result<_>>()?,
            status: host.status_listen.map(|address| bind(address, "[host] status_listen")).transpose()?,
            metrics: host.metrics.map(|address| bind(address, "[host] metrics")).transpose()?,
            admin: admin::bind(host, users)?,
        })
    }
}

/// The data listener behind which TLS is spoken.
fn tls(tls: &HostTls) -> anyhow::Result<Listener> {
    let identity = TlsIdentity::read(tls.certificate.as_std_path(), tls.key.as_std_path())?;
    Ok(Listener { socket: bind(tls.listen, "[host] tls_listen")?, tls: Some(identity) })
}

/// The data plane, and beside it the plane of the status endpoints when they have a listener of their own:
/// then the data listener has none.
struct Planes {
    data: Arc<Plane>,
    status: Option<Plane>,
}

impl Planes {
    fn start(
        config: &Config,
        faults: Faults,
        clock: Clock,
        stamp: HostStamp,
        data: Vec<Listener>,
        status: Option<TcpListener>,
        board: &Arc<Board>,
    ) -> anyhow::Result<Planes> {
        let (budget, allow) = (&config.timing, PeerRanges(config.host.status_allow.clone()));
        let no_hold = faults.has(Fault::RetireFirst);
        let settings = PlaneConfig {
            workers: config.host.threads,
            trusted: PeerRanges(config.host.trusted_proxies.clone()),
            proxy_protocol: PeerRanges(config.host.proxy_protocol.clone()),
            limits: config.limits.clone(),
            hold: if no_hold {
                HoldBounds { time: Duration::ZERO, requests: 0, bytes: 0 }
            } else {
                HoldBounds { time: budget.hold, requests: budget.hold_requests as usize, bytes: budget.hold_bytes }
            },
            retry: !no_hold,
            ..PlaneConfig::new(stamp.clone(), clock)
        };
        let endpoints: Arc<dyn LocalEndpoints> = Arc::new(Endpoints::new(board.clone(), clock, allow));
        for identity in data.iter().filter_map(|listener| listener.tls.clone()) {
            tokio::spawn(identity.follow());
        }
        let start =
            |settings, listeners, table, endpoints| Plane::start(settings, listeners, Arc::new(table), endpoints);
        let (pending, none) = (RouteTable::pending(), RouteTable::default());
        Ok(match status {
            None => Planes { data: Arc::new(start(settings, data, pending, endpoints)?), status: None },
            Some(status) => Planes {
                data: Arc::new(start(settings, data, pending, Arc::new(NoLocalEndpoints))?),
                status: Some(start(
                    PlaneConfig { workers: 1, ..PlaneConfig::new(stamp, clock) },
                    vec![status.into()],
                    none,
                    endpoints,
                )?),
            },
        })
    }

    /// The status goes last.
    async fn shutdown(self, within: Duration) {
        self.data.shutdown(within).await;
        if let Some(status) = self.status {
            status.shutdown(CLOSE_FORCED).await;
        }
    }
}

/// Ends what a dead predecessor left and strikes it off, before anything else.
async fn swept(ledger: Ledger, mut state: LedgerState) -> anyhow::Result<(Recorder, LedgerState)> {
    let recorder = Recorder::new(ledger, state.clone());
    if !state.generations.is_empty() {
        let targets: Vec<sweep::Target> = state.generations.iter().map(Into::into).collect();
        let report = match tokio::task::spawn_blocking(move || sweep(&targets, SWEEP_WITHIN)).await? {
            Ok(report) => report,
            Err(error @ SweepError::Proc(_)) => return Err(error.into()),
            // One process that a driver holds on to must not keep the whole host down. Its ports and its data
            // directory are the kernel's to guard, and the next start looks for it again.
            Err(error @ (SweepError::Kill { .. } | SweepError::StillThere { .. })) => {
                tracing::error!(error = chain(&error), "what a dead predecessor left is not all gone");
                return Ok((recorder, state));
            }
        };
        for swept in &report.killed {
            tracing::warn!(pid = swept.pid, "killed what a dead predecessor left");
        }
        recorder.record(|state| state.generations.clear()).await?;
        state.generations.clear();
    }
    Ok((recorder, state))
}

/// What a plan's program goes through before its first start, where plans are followed.
fn pre_upgrade(config: &Config, catalog: &watch::Receiver<CatalogView>) -> Option<PreUpgrade> {
    let state_dir = config.host.state_dir.as_std_path();
    match config.catalog.source {
        CatalogSource::Cosmovisor(_) => Some(PreUpgrade::new(catalog.clone(), &config.catalog, state_dir)),
        CatalogSource::File(_) | CatalogSource::Http(_) | CatalogSource::Nowhere => None,
    }
}

fn unread(config: &Config) -> CatalogStatus {
    CatalogStatus { source: config.catalog.source.to_string(), revision: None, read_ms_ago: None, reason: None }
}
