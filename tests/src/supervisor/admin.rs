//! One question to the admin socket.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use camino::Utf8Path;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

const WITHIN: Duration = Duration::from_secs(5);

/// Asks and reads the JSON answer.
pub async fn get<T: DeserializeOwned>(socket: &Utf8Path, path: &str) -> anyhow::Result<T> {
    let body = tokio::time::timeout(WITHIN, bytes(socket, path)).await;
    let body = body.with_context(|| format!("{path}: no answer within {WITHIN:?}"))??;
    serde_json::from_slice(&body).with_context(|| format!("{path}: not the shape of this version"))
}

async fn bytes(socket: &Utf8Path, path: &str) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await.with_context(|| format!("cannot connect to {socket}"))?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    let request = Request::get(path).header(http::header::HOST, "versiond").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "{path}: {}", response.status());
    Ok(response.into_body().collect().await?.to_bytes())
}
