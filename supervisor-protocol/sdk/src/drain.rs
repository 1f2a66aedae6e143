//! `--drain [--wait]`: the client that tells the child running here to drain, and waits until it has.
//! It is what `preStop` runs in a pod.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use supervisor_protocol::contract::{DrainState, DrainStatus};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use crate::exit;
use crate::settings::Drain;

/// The child counts; it does not push. So often is it asked.
const POLL: Duration = Duration::from_millis(200);
/// Its answers come from memory.
const ANSWER: Duration = Duration::from_secs(10);

/// Why a drain was not begun or not awaited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    #[error("nobody answers on {}", .0.display())]
    Unreachable(PathBuf, #[source] io::Error),
    #[error("the exchange on {} broke", .0.display())]
    Broken(PathBuf, #[source] hyper::Error),
    #[error("no answer on {} within {} s", .0.display(), ANSWER.as_secs())]
    Silent(PathBuf),
    #[error("the child refused ({status}): {body}")]
    Refused { status: StatusCode, body: String },
    #[error("the answer to {path} is not what the contract says")]
    Malformed { path: &'static str, source: serde_json::Error },
    #[error("{inflight} still in flight at the timeout")]
    TimedOut { inflight: u64 },
}

impl DrainError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            DrainError::Unreachable(..) => exit::UNREACHABLE,
            DrainError::Refused { .. } => exit::REFUSED,
            DrainError::TimedOut { .. } => exit::TIMED_OUT,
            DrainError::Broken(..) | DrainError::Silent(_) | DrainError::Malformed { .. } => exit::FAILED,
        }
    }
}

/// Begins the drain and, if asked to, waits for its end. `progress` is told of every change of the count.
pub(crate) async fn drain(command: &Drain, mut progress: impl FnMut(&DrainStatus)) -> Result<(), DrainError> {
    let deadline = command.timeout.map(|timeout| Instant::now() + timeout);
    let mut status = ask(&command.admin, Method::POST, "/drain").await?;
    progress(&status);
    while command.wait && status.state != DrainState::Drained {
        let pause = tokio::time::sleep(POLL);
        if within(deadline, pause).await.is_none() {
            return Err(DrainError::TimedOut { inflight: status.inflight });
        }
        let before = status.inflight;
        status = ask(&command.admin, Method::GET, "/drain/status").await?;
        if status.inflight != before {
            progress(&status);
        }
    }
    Ok(())
}

async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

async fn ask(socket: &Path, method: Method, path: &'static str) -> Result<DrainStatus, DrainError> {
    let exchange = async {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| DrainError::Unreachable(socket.to_path_buf(), source))?;
        let broken = |source| DrainError::Broken(socket.to_path_buf(), source);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Its error is also the request's.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let mut request = Request::new(Full::<Bytes>::default());
        *request.method_mut() = method;
        *request.uri_mut() = http::Uri::from_static(path);
        request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("child"));
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        if !head.status.is_success() {
            let body = String::from_utf8_lossy(&body).into_owned();
            return Err(DrainError::Refused { status: head.status, body });
        }
        serde_json::from_slice(&body).map_err(|source| DrainError::Malformed { path, source })
    };
    match tokio::time::timeout(ANSWER, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(DrainError::Silent(socket.to_path_buf())),
    }
}
