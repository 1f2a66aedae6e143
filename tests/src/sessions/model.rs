//! A model that costs nothing: it says so many tokens, as fast as they are taken or at a rate, in the process of the
//! bench.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What it says to what is sealed.
pub const SEALED: &str = r#"{"version":1,"ciphertext":"c2VhbGVk"}"#;

/// Serves until the runtime ends; a pause lies between two tokens.
pub async fn serve(pause: Duration) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("a model cannot listen")?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            tokio::spawn(async move {
                let service = service_fn(|request| async move { answer(request, pause).await });
                // A connection that breaks is the asker's to notice.
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    Ok(address)
}

async fn answer(
    request: Request<Incoming>,
    pause: Duration,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    let is_sealed = request.uri().path().contains("encrypted");
    let body = request.into_body().collect().await?.to_bytes();
    let asked: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let tokens = asked["max_tokens"].as_u64().unwrap_or(1);
    let tokens = futures_util::stream::unfold(0, move |number| async move {
        if number > 0 && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let text = match number {
            0 if is_sealed => SEALED.to_owned(),
            _ if is_sealed => return None,
            number if number < tokens => format!(
                "data: {{\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":\
                 {{\"content\":\"word {number} \"}}}}]}}\n\n"
            ),
            number if number == tokens => "data: [DONE]\n\n".to_owned(),
            _ => return None,
        };
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), number + 1))
    });
    let mut response = Response::new(StreamBody::new(tokens));
    let kind = if is_sealed { "application/json" } else { "text/event-stream" };
    let kind = http::HeaderValue::from_static(kind);
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}
