//! One question to an admin API: the socket of a versiond, or the port of a router.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use camino::Utf8Path;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

const WITHIN: Duration = Duration::from_secs(5);

/// Asks a socket and reads the JSON answer.
pub async fn get<T: DeserializeOwned>(socket: &Utf8Path, path: &str) -> anyhow::Result<T> {
    let connected = async { UnixStream::connect(socket).await.with_context(|| format!("cannot connect to {socket}")) };
    asked(connected, path).await
}

/// Asks a port and reads the JSON answer.
pub async fn get_at<T: DeserializeOwned>(address: SocketAddr, path: &str) -> anyhow::Result<T> {
    let connected = async { TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}")) };
    asked(connected, path).await
}

async fn asked<T, S>(connected: impl Future<Output = anyhow::Result<S>>, path: &str) -> anyhow::Result<T>
where
    T: DeserializeOwned,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let body = tokio::time::timeout(WITHIN, async { bytes(connected.await?, path).await }).await;
    let body = body.with_context(|| format!("{path}: no answer within {WITHIN:?}"))??;
    serde_json::from_slice(&body).with_context(|| format!("{path}: not the shape of this version"))
}

async fn bytes<S>(stream: S, path: &str) -> anyhow::Result<Bytes>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    let request = Request::get(path).header(http::header::HOST, "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "{path}: {}", response.status());
    Ok(response.into_body().collect().await?.to_bytes())
}
