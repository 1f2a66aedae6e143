//! Talking to a child: its admin socket and its serving path, each call with a timeout.
//!
//! Must not live here: what an answer means for the generation.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use supervisor_protocol::contract::{DrainStatus, Ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The largest body that a child may answer on its admin socket, in bytes.
const BODY_MAX: usize = 64 << 10;

/// Why a child did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    #[error("no connection to {place}")]
    Connect { place: String, source: std::io::Error },
    #[error("no answer from {place} within {within:?}")]
    Timeout { place: String, within: Duration },
    #[error("{place} broke off")]
    Broke { place: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{place} answered {status}")]
    Status { place: String, status: StatusCode },
    #[error("{place} answered something else than the contract says")]
    Body { place: String, source: serde_json::Error },
}

/// One child's admin socket and serving port.
#[derive(Debug, Clone)]
pub(crate) struct ChildLink {
    pub(crate) admin: PathBuf,
    pub(crate) port: u16,
}

impl ChildLink {
    /// `GET /ready`, whatever its status.
    pub(crate) async fn ready(&self, within: Duration) -> Result<Ready, ChildError> {
        let (place, _, body) = self.admin(Method::GET, "/ready", within).await?;
        parse(place, &body)
    }

    /// `GET /healthz` on the serving port: any 2xx.
    pub(crate) async fn serves(&self, within: Duration) -> Result<(), ChildError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let place = format!("http://{address}/healthz");
        let exchange = async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|source| ChildError::Connect { place: place.clone(), source })?;
            exchange(stream, Method::GET, "/healthz", &place).await
        };
        let (status, _) = timed(exchange, &place, within).await?;
        if status.is_success() { Ok(()) } else { Err(ChildError::Status { place, status }) }
    }

    /// `POST /drain`: nothing new is admitted from now on.
    pub(crate) async fn drain(&self, within: Duration) -> Result<(), ChildError> {
        let (place, status, _) = self.admin(Method::POST, "/drain", within).await?;
        if status.is_success() { Ok(()) } else { Err(ChildError::Status { place, status }) }
    }

    /// `DELETE /drain`: the pause or drain is over.
    pub(crate) async fn resume(&self, within: Duration) -> Result<(), ChildError> {
        let (place, status, _) = self.admin(Method::DELETE, "/drain", within).await?;
        if status.is_success() { Ok(()) } else { Err(ChildError::Status { place, status }) }
    }

    /// `GET /drain/status`.
    pub(crate) async fn drain_status(&self, within: Duration) -> Result<DrainStatus, ChildError> {
        let (place, status, body) = self.admin(Method::GET, "/drain/status", within).await?;
        if status.is_success() { parse(place, &body) } else { Err(ChildError::Status { place, status }) }
    }

    async fn admin(
        &self,
        method: Method,
        path: &str,
        within: Duration,
    ) -> Result<(String, StatusCode, Bytes), ChildError> {
        let place = format!("{method} {path} on the admin socket");
        let exchange = async {
            let stream =
                connect(&self.admin).await.map_err(|source| ChildError::Connect { place: place.clone(), source })?;
            exchange(stream, method.clone(), path, &place).await
        };
        let (status, body) = timed(exchange, &place, within).await?;
        Ok((place, status, body))
    }
}

/// The text of an error with everything that caused it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

async fn connect(path: &Path) -> std::io::Result<UnixStream> {
    UnixStream::connect(path).await
}

async fn timed<T>(
    exchange: impl Future<Output = Result<T, ChildError>>,
    place: &str,
    within: Duration,
) -> Result<T, ChildError> {
    tokio::time::timeout(within, exchange)
        .await
        .unwrap_or_else(|_| Err(ChildError::Timeout { place: place.to_owned(), within }))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method,
    path: &str,
    place: &str,
) -> Result<(StatusCode, Bytes), ChildError> {
    fn broke(place: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ChildError {
        ChildError::Broke { place: place.to_owned(), source: source.into() }
    }
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|source| broke(place, source))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, "supervisor")
        .header(http::header::CONNECTION, "close")
        .body(Full::<Bytes>::default())
        .map_err(|source| broke(place, source))?;
    let conversation = async {
        let response = sender.send_request(request).await.map_err(|source| broke(place, source))?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), BODY_MAX).collect().await.map_err(|source| broke(place, source))?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(connection);
    tokio::pin!(conversation);
    tokio::select! {
        answer = &mut conversation => answer,
        ended = &mut connection => match ended {
            Ok(()) => conversation.await,
            Err(source) => Err(broke(place, source)),
        },
    }
}

fn parse<T: DeserializeOwned>(place: String, body: &[u8]) -> Result<T, ChildError> {
    serde_json::from_slice(body).map_err(|source| ChildError::Body { place, source })
}
