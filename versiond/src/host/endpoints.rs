//! What the host offers on the data listener: `/healthz`, `/readyz` and `/drain/status`, to those who
//! may know. Routers never forward these paths.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, Uri, header};
use http_body_util::Full;
use router_dataplane::{BoxFuture, Clock, LocalEndpoints, LocalRequest, PeerRanges};
use serde::{Deserialize, Serialize};
use supervisor_protocol::time::parse_duration;
use tokio::sync::Semaphore;

use crate::board::Board;

/// Answers on hold at once; one more is answered immediately.
const WAITERS: usize = 64;
/// The longest wait that is granted.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The status endpoints of the data listener.
pub(crate) struct Endpoints {
    board: Arc<Board>,
    clock: Clock,
    allow: PeerRanges,
    waiters: Arc<Semaphore>,
}

impl Endpoints {
    /// Answers `allow`; everybody else meets a 404.
    #[must_use]
    pub(crate) fn new(board: Arc<Board>, clock: Clock, allow: PeerRanges) -> Endpoints {
        Endpoints { board, clock, allow, waiters: Arc::new(Semaphore::new(WAITERS)) }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReadyQuery {
    version: Option<String>,
    service: Option<String>,
    all: Option<String>,
    #[serde(flatten)]
    wait: Wait,
}

/// `since=SEQ&wait=2s`: answer once the sequence differs from `since`, or after the wait.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Wait {
    since: Option<String>,
    wait: Option<String>,
}

impl LocalEndpoints for Endpoints {
    fn answer(&self, request: LocalRequest) -> BoxFuture<'static, Option<Response<Full<Bytes>>>> {
        if !self.allow.contains(request.peer.ip()) {
            return Box::pin(std::future::ready(None));
        }
        let (board, clock, waiters) = (self.board.clone(), self.clock, self.waiters.clone());
        Box::pin(async move { answer(&board, clock, &waiters, &request).await })
    }
}

async fn answer(
    board: &Board,
    clock: Clock,
    waiters: &Semaphore,
    request: &LocalRequest,
) -> Option<Response<Full<Bytes>>> {
    if !matches!(request.path.as_str(), "/healthz" | "/readyz" | "/drain/status") {
        return None;
    }
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Some(json(StatusCode::METHOD_NOT_ALLOWED, &"only GET is answered here"));
    }
    let uri: Uri = format!("/?{}", request.query.as_deref().unwrap_or_default()).parse().ok()?;
    let query = match axum::extract::Query::<ReadyQuery>::try_from_uri(&uri) {
        Ok(query) => query.0,
        Err(error) => return Some(json(StatusCode::BAD_REQUEST, &error.to_string())),
    };
    Some(match request.path.as_str() {
        "/healthz" => json(StatusCode::OK, &board.healthz()),
        "/readyz" if query.all.is_some() => match long_poll(board, waiters, &query.wait).await {
            Ok(()) => json(StatusCode::OK, &board.ready_all()),
            Err(error) => json(StatusCode::BAD_REQUEST, &error),
        },
        "/readyz" => {
            let ready = board.is_ready(query.service.as_deref(), query.version.as_deref());
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            json(status, &serde_json::json!({ "ready": ready, "state": board.host_state() }))
        }
        _ => match long_poll(board, waiters, &query.wait).await {
            Ok(()) => json(StatusCode::OK, &board.drain(clock.now())),
            Err(error) => json(StatusCode::BAD_REQUEST, &error),
        },
    })
}

/// Returns once the board's sequence differs from the one that the caller knows, or after its wait.
pub(crate) async fn long_poll(board: &Board, waiters: &Semaphore, wait: &Wait) -> Result<(), String> {
    let Some(since) = &wait.since else { return Ok(()) };
    let since: u64 = since.parse().map_err(|_| format!("since={since:?}: a sequence number is expected"))?;
    let pause = match &wait.wait {
        Some(text) => parse_duration(text).map_err(|error| format!("wait={text:?}: {error}"))?,
        None => return Ok(()),
    };
    let Ok(_permit) = waiters.try_acquire() else { return Ok(()) };
    let mut changes = board.changes();
    let changed = changes.wait_for(|seq| *seq != since);
    tokio::time::timeout(pause.min(WAIT_MAX), changed).await.ok();
    Ok(())
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
