//! A complete child: short requests, a stream, a job, a WebSocket. Try it:
//! `cargo run --example child -- --port 8080 --admin /tmp/child.sock`

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::stream;
use supervisor_sdk::axum::body::Body;
use supervisor_sdk::axum::extract::{Path, WebSocketUpgrade, ws::WebSocket};
use supervisor_sdk::axum::response::{IntoResponse, Response, Sse, sse::Event};
use supervisor_sdk::axum::routing::{any, get, post};
use supervisor_sdk::axum::{Extension, Router};
use supervisor_sdk::{Child, Context, StateKind, StreamClass, describe};

fn main() -> ExitCode {
    let mut about = describe("example-child", env!("CARGO_PKG_VERSION"), StateKind::None);
    about.streams = StreamClass::ALL.to_vec();
    Child::new(about).serve(async |_: Context| {
        Ok::<_, Infallible>(
            Router::new()
                .route("/hello", get(async || "hello"))
                .route("/ticks/{count}", get(ticks))
                .route("/jobs/{ms}", post(job))
                .route("/echo", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo))),
        )
    })
}

async fn ticks(Path(count): Path<u64>) -> impl IntoResponse {
    Sse::new(stream::unfold(0, move |n| async move {
        tokio::time::sleep(Duration::from_millis(if n == 0 { 0 } else { 20 })).await;
        (n < count).then(|| (Ok::<_, Infallible>(Event::default().id(n.to_string()).data("tick")), n + 1))
    }))
}

/// Its head is sent at once; from then on it counts as a job until its body ends.
async fn job(Path(ms): Path<u64>) -> Response {
    let done = stream::once(async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok::<_, Infallible>("done")
    });
    (Extension(StreamClass::Job), Body::from_stream(done)).into_response()
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}
