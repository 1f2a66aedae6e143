//! `versiond run`: puts the parts together, in the order that makes a crash at any point harmless, and
//! takes them apart again.
//!
//! 1. the ledger's lock, so that no second versiond touches anything;
//! 2. the sweep of what a dead predecessor left, before a port or a folder is used again;
//! 3. the listeners, then the parts, then READY.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use router_dataplane::{Clock, HoldBounds, PeerRanges, Plane, PlaneConfig, RouteTable};
use supervisor_protocol::admin::CatalogStatus;
use supervisor_protocol::headers::HostStamp;
use supervisor_protocol::{BootNonce, Tick};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use versiond_core::host::{Host, HostTimings};

pub use crate::supervisor::chain;

use crate::admin::{self, Admin};
use crate::board::{Board, Identity};
use crate::catalog;
use crate::config::Config;
use crate::faults::{Fault, Faults};
use crate::host::{Endpoints, Lifecycle, Signals};
use crate::ledger::{Ledger, LedgerState};
use crate::metrics::Metrics;
use crate::process::sweep::{self, sweep};
use crate::process::{PortAllocator, Spawner, oneshot};
use crate::store::Store;
use crate::supervisor::{Manager, Order, ProbeTimings, Recorder, ServiceSpec, Shared};

/// How long what a dead predecessor left may take to die.
const SWEEP_WITHIN: Duration = Duration::from_secs(30);
/// How long client connections may take to close once every request is over.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long a probe, or a call to a child's admin socket, may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a draining child is asked for its count.
const DRAIN_POLL: Duration = Duration::from_millis(100);

/// Logs to standard error; `RUST_LOG` chooses what.
pub fn init_logging() {
    use std::io::IsTerminal as _;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Runs the daemon until a signal has emptied it.
///
/// # Errors
/// It cannot start: the text says what is missing and where. After the start nothing is an error.
pub fn run(config: Config, faults: Faults) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(supervise(config, faults));
    // Nothing that a stuck mount holds up may hold up the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn supervise(config: Config, faults: Faults) -> anyhow::Result<()> {
    let signals = Signals::catch()?;
    catalog::install_tls();
    let state_dir = config.host.state_dir.clone().into_std_path_buf();
    let (ledger, state) = Ledger::open(&state_dir)?;
    let (recorder, state) = swept(ledger, state).await?;
    let run_dir = state_dir.join("run");
    clear(&run_dir).with_context(|| format!("{}", run_dir.display()))?;

    let listener = bind(config.host.listen, "[host] listen")?;
    let metrics_listener = config.host.metrics.map(|address| bind(address, "[host] metrics")).transpose()?;
    let admin_listener = admin::bind(config.host.admin.as_std_path())?;

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
    let board = Board::new(identity, host, unread(&config));
    let metrics = Arc::new(Metrics::new());
    let spawner = Spawner::start("/proc/self/exe".into()).context("the thread that forks")?;
    let store = Store::open(&state_dir.join("store"), !faults.has(Fault::NoHash), config.catalog.allow_http)?;
    let catalog = catalog::start(&config, clock)?;

    let allow = PeerRanges(config.host.status_allow.clone());
    let plane = PlaneConfig {
        workers: config.host.threads,
        trusted: allow.clone(),
        hold: if faults.has(Fault::RetireFirst) {
            HoldBounds { time: Duration::ZERO, requests: 0 }
        } else {
            HoldBounds { time: budget.hold, requests: budget.hold_requests as usize }
        },
        retry: !faults.has(Fault::RetireFirst),
        ..PlaneConfig::new(HostStamp { id: config.host.id.clone(), boot }, clock)
    };
    let endpoints = Arc::new(Endpoints::new(board.clone(), clock, allow));
    let plane = Plane::start(plane, vec![listener], Arc::new(RouteTable::default()), endpoints)?;
    let plane = Arc::new(plane);

    let tail = TaskTracker::new();
    let shared = Arc::new(Shared {
        board: board.clone(),
        store: Arc::new(store),
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
        state_dir,
        tail: tail.clone(),
    });
    let (orders, order) = watch::channel(Order::Follow);
    let manager = Manager::new(shared, services(&config), patterns(&config), plane.clone(), state.next_generation);
    let manager = tokio::spawn(manager.run(catalog, order));

    let admin =
        Admin { board: board.clone(), plane: plane.clone(), metrics, recorder, clock, waiters: Semaphore::new(64) };
    admin::serve(admin, admin_listener, metrics_listener)?;
    tracing::info!(listen = %config.host.listen, admin = %config.host.admin, id = %config.host.id, "versiond runs");
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();

    let lifecycle = Lifecycle { board, plane: plane.clone(), spawner, clock, orders };
    lifecycle
        .run(signals, async {
            if let Err(error) = manager.await {
                tracing::error!(%error, "the manager failed");
            }
        })
        .await;
    tail.close();
    tail.wait().await;
    plane.shutdown(CLOSE_WITHIN).await;
    std::fs::remove_file(&config.host.admin).ok();
    tracing::info!("everything is stopped");
    Ok(())
}

/// Ends what a dead predecessor left and strikes it off, before anything else.
async fn swept(ledger: Ledger, mut state: LedgerState) -> anyhow::Result<(Recorder, LedgerState)> {
    let recorder = Recorder::new(ledger, state.clone());
    if !state.generations.is_empty() {
        let targets: Vec<sweep::Target> = state.generations.iter().map(Into::into).collect();
        let report = tokio::task::spawn_blocking(move || sweep(&targets, SWEEP_WITHIN)).await??;
        for swept in &report.killed {
            tracing::warn!(pid = swept.pid, "killed what a dead predecessor left");
        }
        recorder.record(|state| state.generations.clear()).await?;
        state.generations.clear();
    }
    Ok((recorder, state))
}

/// The folder of the children's admin sockets, empty.
fn clear(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_dir_all(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

fn bind(address: std::net::SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("{what} = \"{address}\""))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn unread(config: &Config) -> CatalogStatus {
    CatalogStatus { source: config.catalog.source.to_string(), revision: None, read_ms_ago: None, reason: None }
}

fn services(config: &Config) -> std::collections::BTreeMap<supervisor_protocol::ServiceName, Arc<ServiceSpec>> {
    let spec = |service: &crate::config::ServiceConfig| {
        Arc::new(ServiceSpec {
            args: service.args.clone(),
            env: service.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            entry: service.entry.clone(),
        })
    };
    config.services.iter().map(|(name, service)| (name.clone(), spec(service))).collect()
}

fn patterns(config: &Config) -> Vec<(router_core::route::RoutePattern, supervisor_protocol::ServiceName)> {
    let services = config.services.iter();
    services.flat_map(|(name, service)| service.routes().map(|pattern| (pattern.clone(), name.clone()))).collect()
}
