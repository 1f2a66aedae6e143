//! The admin API on its Unix socket, and the metrics on their own listener. It runs on a runtime of its
//! own, so that it answers whatever the data plane is doing.
//!
//! Lives here: routes, bodies, errors. Must not live here: what they show (that is the board).

mod catalog;
mod logs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use router_dataplane::{Clock, Plane};
use serde::Deserialize;
use supervisor_protocol::admin::{ApiError, DrainRequest, Verb, VerbRefused};
use supervisor_protocol::host::HostDrain;
use supervisor_protocol::{ServiceName, SlotId, VersionName};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use versiond_core::host::{Cordon, CordonError};

use crate::board::Board;
use crate::catalog::CatalogHandle;
use crate::host::{Wait, long_poll};
use crate::metrics::Metrics;
use crate::process::Logs;
use crate::supervisor::{Commands, Recorder, chain};

/// What the API works with.
pub(crate) struct Admin {
    pub(crate) board: Arc<Board>,
    pub(crate) plane: Arc<Plane>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) commands: Commands,
    pub(crate) catalog: CatalogHandle,
    pub(crate) waiters: Semaphore,
    pub(crate) logs: Arc<Logs>,
    pub(crate) log_readers: Arc<Semaphore>,
}

/// The places of those who read logs.
pub(crate) fn log_readers() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(logs::READERS))
}

/// Why the admin listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("{path}: another process answers on this admin socket")]
    InUse { path: PathBuf },
    #[error("{path}: cannot be opened as the admin socket")]
    Bind { path: PathBuf, source: std::io::Error },
}

/// Binds the admin socket, readable by its owner alone. A socket that nobody answers on is replaced.
pub fn bind(path: &Path) -> Result<std::os::unix::net::UnixListener, AdminError> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |source| AdminError::Bind { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(AdminError::InUse { path: path.to_owned() });
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Serves the API for as long as the process lives, on a thread of its own.
pub(crate) fn serve(
    admin: Admin,
    listener: std::os::unix::net::UnixListener,
    metrics: Option<std::net::TcpListener>,
) -> std::io::Result<()> {
    let admin = Arc::new(admin);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("admin".to_owned());
    thread.spawn(move || runtime.block_on(run(admin, listener, metrics)))?;
    Ok(())
}

async fn run(admin: Arc<Admin>, listener: std::os::unix::net::UnixListener, metrics: Option<std::net::TcpListener>) {
    if let Some(listener) = metrics {
        let metrics = axum::Router::new().route("/metrics", get(render)).with_state(admin.clone());
        tokio::spawn(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => ended("metrics", axum::serve(listener, metrics).await),
                Err(error) => ended("metrics", Err(error)),
            }
        });
    }
    let api = axum::Router::new()
        .route("/v1/status", get(status))
        .route("/v1/why", get(why))
        .route("/v1/catalog", get(catalog::report))
        .route("/v1/catalog/accept", post(catalog::accept))
        .route("/v1/catalog/check", post(catalog::check))
        .route("/v1/drain", get(drain_status).post(drain).delete(undrain))
        .route("/v1/services/{service}/versions/{version}/logs", get(logs::logs))
        .route("/v1/services/{service}/versions/{version}/{verb}", post(order))
        .route("/drain/status", get(drain_status))
        .route("/metrics", get(render))
        .fallback(unknown)
        .with_state(admin);
    match UnixListener::from_std(listener) {
        Ok(listener) => ended("admin", axum::serve(listener, api).await),
        Err(error) => ended("admin", Err(error)),
    }
}

fn ended(what: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "the {what} listener ended");
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    Json(admin.board.status(admin.clock.now())).into_response()
}

#[derive(Deserialize)]
struct WhyQuery {
    slot: Option<String>,
}

async fn why(State(admin): State<Arc<Admin>>, Query(query): Query<WhyQuery>) -> Response {
    let only = match query.slot.as_deref().map(parse_slot).transpose() {
        Ok(only) => only,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, "bad_slot", message),
    };
    let why = admin.board.why(only.as_ref(), admin.clock.now());
    match only {
        Some(slot) if why.slots.is_empty() => {
            let known: Vec<String> = admin.board.slots().iter().map(|(id, _)| id.to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            refuse(StatusCode::NOT_FOUND, "unknown_slot", format!("there is no slot {slot}; known: {known}"))
        }
        Some(_) | None => Json(why).into_response(),
    }
}

async fn drain_status(State(admin): State<Arc<Admin>>, Query(wait): Query<Wait>) -> Response {
    match long_poll(&admin.board, &admin.waiters, &wait).await {
        Ok(()) => Json(report(&admin)).into_response(),
        Err(message) => refuse(StatusCode::BAD_REQUEST, "bad_wait", message),
    }
}

/// The cordon is on the disk before it is in force, so that a restart keeps it.
async fn drain(State(admin): State<Arc<Admin>>, body: axum::body::Bytes) -> Response {
    let request = if body.is_empty() {
        DrainRequest::default()
    } else {
        match serde_json::from_slice::<DrainRequest>(&body) {
            Ok(request) => request,
            Err(error) => return refuse(StatusCode::BAD_REQUEST, "bad_body", error.to_string()),
        }
    };
    if let Some(refused) = refuse_when_leaving(&admin) {
        return refused;
    }
    if let Err(error) = admin.recorder.record(|state| state.cordon = Some(request.mode)).await {
        return refuse(StatusCode::INSUFFICIENT_STORAGE, "ledger_unwritable", chain(&error));
    }
    let now = admin.clock.now();
    changed(&admin, admin.board.host(|host| (host.set_cordon(request.mode, now), true)), "cordoned by an operator")
}

async fn undrain(State(admin): State<Arc<Admin>>) -> Response {
    if let Some(refused) = refuse_when_leaving(&admin) {
        return refused;
    }
    if let Err(error) = admin.recorder.record(|state| state.cordon = None).await {
        return refuse(StatusCode::INSUFFICIENT_STORAGE, "ledger_unwritable", chain(&error));
    }
    changed(&admin, admin.board.host(|host| (host.clear_cordon(), true)), "the cordon is taken back")
}

/// An operator's order to one slot. The body holds the verb's options, if it has any.
async fn order(
    State(admin): State<Arc<Admin>>,
    axum::extract::Path((service, version, verb)): axum::extract::Path<(String, String, String)>,
    body: axum::body::Bytes,
) -> Response {
    let slot = match parse_slot(&format!("{service}/{version}")) {
        Ok(slot) => slot,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, "bad_slot", message),
    };
    let options = if body.is_empty() { Ok(serde_json::Map::new()) } else { serde_json::from_slice(&body) };
    let verb = options.and_then(|mut options: serde_json::Map<String, serde_json::Value>| {
        options.insert("verb".to_owned(), verb.into());
        serde_json::from_value::<Verb>(options.into())
    });
    let verb = match verb {
        Ok(verb) => verb,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "bad_verb", error.to_string()),
    };
    match admin.commands.give(slot, verb).await {
        Ok(()) => Json(admin.board.status(admin.clock.now())).into_response(),
        Err(refused) => {
            let status = match refused {
                VerbRefused::UnknownSlot => StatusCode::NOT_FOUND,
                VerbRefused::LedgerUnwritable { .. } => StatusCode::INSUFFICIENT_STORAGE,
                VerbRefused::HostLeaving
                | VerbRefused::NothingToDo { .. }
                | VerbRefused::RollbackUnsafe { .. }
                | VerbRefused::UnknownArtifact { .. } => StatusCode::CONFLICT,
            };
            refuse(status, refused.code(), refused.to_string())
        }
    }
}

/// What is refused must not be on the disk either.
fn refuse_when_leaving(admin: &Admin) -> Option<Response> {
    let leaving = admin.board.host(|host| (host.leaving_since().is_some(), false));
    leaving.then(|| refuse(StatusCode::CONFLICT, "host_leaving", CordonError::Leaving.to_string()))
}

fn changed(admin: &Admin, result: Result<(), CordonError>, what: &str) -> Response {
    match result {
        Ok(()) => {
            tracing::info!(state = admin.board.host_state().as_str(), "{what}");
            Json(report(admin)).into_response()
        }
        Err(error) => refuse(StatusCode::CONFLICT, "host_leaving", error.to_string()),
    }
}

async fn render(State(admin): State<Arc<Admin>>) -> Response {
    let text = admin.metrics.render(&admin.board, &admin.plane.counters(), admin.clock.now());
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

async fn unknown(uri: Uri) -> Response {
    refuse(StatusCode::NOT_FOUND, "unknown_path", format!("there is nothing at {}", uri.path()))
}

fn report(admin: &Admin) -> HostDrain {
    admin.board.drain(admin.clock.now())
}

fn refuse(status: StatusCode, code: &str, message: String) -> Response {
    (status, Json(ApiError { code: code.to_owned(), message })).into_response()
}

fn parse_slot(text: &str) -> Result<SlotId, String> {
    let (service, name) = text.split_once('/').ok_or_else(|| format!("{text:?}: expected SERVICE/VERSION"))?;
    Ok(SlotId {
        service: ServiceName::new(service).map_err(|error| format!("{text:?}: {error}"))?,
        name: VersionName::new(name).map_err(|error| format!("{text:?}: {error}"))?,
    })
}

/// The cordon that a ledger remembers, as the host's machine takes it.
pub(crate) fn remembered(
    mode: Option<supervisor_protocol::contract::DrainMode>,
    now: supervisor_protocol::Tick,
) -> Option<Cordon> {
    mode.map(|mode| Cordon { mode, since: now })
}
