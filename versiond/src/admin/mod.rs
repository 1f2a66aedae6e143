//! The admin API on its Unix socket and, where that is configured, on a loopback port; and the metrics on
//! their own listener. It runs on a runtime of its own, so that it answers whatever the data plane is doing.
//!
//! [`routes`] lists every route, [`peer`] says who may ask for what, the other files answer. Must not live
//! here: what they show (that is the board).

mod answer;
mod artifacts;
mod catalog;
mod deny;
mod drain;
mod events;
mod guard;
mod logs;
mod metrics;
pub(crate) mod peer;
mod recording;
mod reload;
mod routes;
mod socket;
mod status;
mod verbs;

use std::path::PathBuf;
use std::sync::Arc;

use router_dataplane::{Clock, Plane};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use versiond_core::host::Cordon;

pub(crate) use self::answer::parse_slot;
use self::peer::{Origin, Policy};
pub use self::socket::AdminError;
pub(crate) use self::socket::{Listeners, bind};
use crate::board::Board;
use crate::catalog::CatalogHandle;
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::process::Logs;
use crate::reload::Reload;
use crate::supervisor::{Commands, Recorder};

/// What the API works with.
pub(crate) struct Admin {
    board: Arc<Board>,
    plane: Arc<Plane>,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    clock: Clock,
    commands: Commands,
    policy: Policy,
    /// Answers on hold at once.
    waiters: Semaphore,
    /// Readers of the event stream at once.
    readers: Arc<Semaphore>,
    catalog: CatalogHandle,
    keeper: Arc<Keeper>,
    reload: Reload,
    logs: Arc<Logs>,
    state_dir: PathBuf,
    log_readers: Arc<Semaphore>,
}

/// What the API is given.
pub(crate) struct Parts {
    pub(crate) board: Arc<Board>,
    pub(crate) plane: Arc<Plane>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) commands: Commands,
    pub(crate) catalog: CatalogHandle,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) reload: Reload,
    pub(crate) logs: Arc<Logs>,
    pub(crate) state_dir: PathBuf,
}

/// Serves the API for as long as the process lives, on a thread of its own.
pub(crate) fn serve(
    Parts { board, plane, metrics, recorder, clock, commands, catalog, keeper, reload, logs, state_dir }: Parts,
    listeners: Listeners,
    metrics_listener: Option<std::net::TcpListener>,
) -> std::io::Result<()> {
    let Listeners { socket, tcp, policy } = listeners;
    let admin = Arc::new(Admin {
        board,
        plane,
        metrics,
        recorder,
        clock,
        commands,
        policy,
        waiters: Semaphore::new(64),
        readers: Arc::new(Semaphore::new(daemon_kit::READERS)),
        catalog,
        keeper,
        reload,
        logs,
        state_dir,
        log_readers: Arc::new(Semaphore::new(logs::READERS)),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("admin".to_owned());
    thread.spawn(move || runtime.block_on(run(admin, socket, tcp, metrics_listener)))?;
    Ok(())
}

async fn run(
    admin: Arc<Admin>,
    socket: std::os::unix::net::UnixListener,
    tcp: Option<std::net::TcpListener>,
    metrics: Option<std::net::TcpListener>,
) {
    if let Some(listener) = metrics {
        let router = routes::metrics_alone(admin.clone());
        tokio::spawn(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => ended("metrics", axum::serve(listener, router).await),
                Err(error) => ended("metrics", Err(error)),
            }
        });
    }
    let api = routes::router(admin);
    if let Some(listener) = tcp {
        let api = api.clone().into_make_service_with_connect_info::<Origin>();
        tokio::spawn(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => ended("admin_tcp", axum::serve(listener, api).await),
                Err(error) => ended("admin_tcp", Err(error)),
            }
        });
    }
    let api = api.into_make_service_with_connect_info::<Origin>();
    match UnixListener::from_std(socket) {
        Ok(listener) => ended("admin", axum::serve(listener, api).await),
        Err(error) => ended("admin", Err(error)),
    }
}

fn ended(what: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "the {what} listener ended");
    }
}

/// The cordon that a ledger remembers, as the host's machine takes it.
pub(crate) fn remembered(
    mode: Option<supervisor_protocol::contract::DrainMode>,
    now: supervisor_protocol::Tick,
) -> Option<Cordon> {
    mode.map(|mode| Cordon { mode, since: now })
}
