//! The admin listener (a Unix socket, for the supervisor and for `--drain`) and the probe listener
//! (`PROBE_ADDR`, for a cluster's probes), on a thread of their own.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use supervisor_protocol::StreamClass;
use supervisor_protocol::contract::{DrainCommand, Role};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::life::{AlreadyStopping, Refused};
use crate::shared::Shared;

/// Why the admin or probe listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("another process answers on {}", .0.display())]
    Taken(PathBuf),
    #[error("cannot listen on {}", .0.display())]
    Socket(PathBuf, #[source] io::Error),
    #[error("cannot listen on PROBE_ADDR {0}")]
    Probe(std::net::SocketAddr, #[source] io::Error),
    #[error("cannot start the admin thread")]
    Thread(#[source] io::Error),
}

/// The running listeners; [`Admin::end`] closes them and removes the socket.
pub(crate) struct Admin {
    thread: JoinHandle<()>,
    stop: CancellationToken,
    socket: Option<PathBuf>,
}

impl Admin {
    /// Opens what is configured. Both sockets are bound when this returns.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        socket: Option<&Path>,
        probe: Option<std::net::SocketAddr>,
    ) -> Result<Self, AdminError> {
        let unix = socket.map(bind_unix).transpose()?;
        let tcp = probe.map(|at| bind_tcp(at).map_err(|source| AdminError::Probe(at, source))).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AdminError::Thread)?;
        let (stop, shared) = (CancellationToken::new(), Arc::clone(shared));
        let stopped = stop.clone();
        let serve = move || {
            runtime.block_on(async move {
                if let Some(listener) = unix.and_then(|unix| UnixListener::from_std(unix).ok()) {
                    let router = probes().merge(commands()).with_state(Arc::clone(&shared));
                    tokio::spawn(async move { axum::serve(listener, router).await });
                }
                if let Some(listener) = tcp.and_then(|tcp| TcpListener::from_std(tcp).ok()) {
                    let router = probes().with_state(shared);
                    tokio::spawn(async move { axum::serve(listener, router).await });
                }
                stopped.cancelled().await;
            });
        };
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(serve).map_err(AdminError::Thread)?;
        Ok(Self { thread, stop, socket: socket.map(Path::to_path_buf) })
    }

    pub(crate) fn end(self) {
        self.stop.cancel();
        // It panics only if a handler's runtime does; the process ends either way.
        let _ = self.thread.join();
        if let Some(socket) = self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}

fn bind_tcp(at: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A socket that nobody answers on is what a dead predecessor left, and is replaced.
fn bind_unix(path: &Path) -> Result<StdUnixListener, AdminError> {
    let failed = |source| AdminError::Socket(path.to_path_buf(), source);
    if StdUnixStream::connect(path).is_ok() {
        return Err(AdminError::Taken(path.to_path_buf()));
    }
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = StdUnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

type Life = State<Arc<Shared>>;

/// What anybody may look at.
fn probes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/drain/status", get(status))
        .route("/metrics", get(metrics))
}

/// What only the machine's own may do.
fn commands() -> Router<Arc<Shared>> {
    Router::new().route("/drain", axum::routing::post(drain).delete(undrain))
}

async fn ready(State(shared): Life) -> Response {
    let (status, body) = shared.read(|life| {
        let (body, detail) = life.ready(shared.identity.nonce.clone());
        let mut json = json!(body);
        if let Some(detail) = detail {
            json["detail"] = json!(detail);
        }
        (body.status(), json)
    });
    (StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE), Json(body)).into_response()
}

async fn status(State(shared): Life) -> Response {
    told(&shared)
}

async fn drain(State(shared): Life, body: Bytes) -> Response {
    let command = if body.is_empty() { Ok(DrainCommand::default()) } else { serde_json::from_slice(&body) };
    let mode = match command {
        Ok(DrainCommand { mode }) => mode,
        Err(error) => return refused(StatusCode::BAD_REQUEST, "bad_body", &error.to_string()),
    };
    if !shared.describe.drain_modes.contains(&mode) {
        return refused(StatusCode::BAD_REQUEST, "unsupported_mode", "this child does not offer that drain mode");
    }
    match shared.change(|life| life.drain(mode)) {
        Ok(()) => told(&shared),
        Err(AlreadyStopping) => refused(StatusCode::CONFLICT, "stopping", &AlreadyStopping.to_string()),
    }
}

async fn undrain(State(shared): Life) -> Response {
    // A worker is published by it, whatever it says of taking a drain back.
    if !shared.describe.undrain && shared.describe.role == Role::Server {
        return refused(StatusCode::CONFLICT, "no_undrain", "this child does not take a drain back");
    }
    match shared.change(crate::life::Life::undrain) {
        Ok(()) => told(&shared),
        Err(AlreadyStopping) => refused(StatusCode::CONFLICT, "stopping", &AlreadyStopping.to_string()),
    }
}

fn told(shared: &Shared) -> Response {
    Json(shared.read(|life| life.drain_status(shared.now()))).into_response()
}

fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"code": code, "message": message}))).into_response()
}

async fn metrics(State(shared): Life) -> Response {
    let mut text = String::new();
    shared.read(|life| {
        let (ready, _) = life.ready(None);
        let status = life.drain_status(shared.now());
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let plain = |value: f64| [(String::new(), value)];
        #[expect(clippy::cast_precision_loss, reason = "a metric is a float; counts stay far below 2^53")]
        let count = |value: u64| value as f64;
        let by_class: Vec<(String, f64)> = StreamClass::ALL
            .into_iter()
            .map(|class| (format!("{{class=\"{class}\"}}"), count(*status.by_class.get(class))))
            .collect();
        let refusals: Vec<(String, f64)> = Refused::ALL
            .into_iter()
            .map(|why| (format!("{{reason=\"{}\"}}", why.code()), count(life.refused(why))))
            .collect();
        family("child_ready", "gauge", "Whether the child could serve.", &plain(f64::from(u8::from(ready.ready))));
        family("child_draining", "gauge", "Whether it refuses new work.", &plain(f64::from(u8::from(ready.draining))));
        family("child_inflight", "gauge", "Admitted work that has not ended, by class.", &by_class);
        let oldest = plain(count(status.oldest_ms) / 1_000.0);
        family("child_oldest_seconds", "gauge", "Age of the oldest admitted work.", &oldest);
        family("child_admitted_total", "counter", "Requests admitted.", &plain(count(life.admitted())));
        family("child_refused_total", "counter", "Requests refused before any work.", &refusals);
    });
    if let Some(more) = &shared.metrics {
        text.push_str(&more());
    }
    ([("content-type", "text/plain; version=0.0.4")], text).into_response()
}
