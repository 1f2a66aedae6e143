//! What the demo child answers. Paths are the ones that remain when the route's prefix is stripped.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket};
use axum::extract::{Query, State, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response, Sse, sse::Event};
use axum::routing::{any, get, post};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use supervisor_protocol::VersionName;
use supervisor_sdk::Context;
use supervisor_sdk::axum::{self, Router};
use tokio::time::Instant;

use crate::acts::Database;
use crate::behaviour::{Behaviour, Crash};

/// The environment variable with the name of the host, by which every answer is then signed too.
const HOST: &str = "DEMO_HOST";
/// In the data directory: the ids of what was executed, one a line.
const EXECUTIONS: &str = "executions";

/// Who answers, and what it has done so far.
struct Demo {
    build: String,
    /// What [`HOST`] says.
    host: Option<String>,
    /// Where executions are noted that have an id.
    data_dir: Option<PathBuf>,
    crashes: bool,
    errors_percent: u64,
    work: Duration,
    /// Requests for work, answered well or not.
    works: AtomicU64,
    _database: Database,
    /// The slot's version name.
    version: Option<String>,
    generation: Option<u64>,
    /// Short requests answered.
    hellos: AtomicU64,
    /// POST streams begun and uploads read to their end.
    executions: AtomicU64,
}

impl Demo {
    /// `fields`, signed by the build and generation that answer.
    fn signed(&self, mut fields: Value) -> Value {
        fields["build"] = json!(self.build);
        fields["generation"] = json!(self.generation);
        if let Some(host) = &self.host {
            fields["host"] = json!(host);
        }
        fields
    }

    /// Counts an execution. One with an id is a line of the data directory's `executions`, which outlives this process:
    /// what several hosts have executed can be added up afterwards, whichever of them was killed.
    fn executed(&self, id: Option<&str>) -> io::Result<()> {
        self.executions.fetch_add(1, Ordering::Relaxed);
        let (Some(id), Some(folder)) = (id, &self.data_dir) else { return Ok(()) };
        // One write of one line: other generations may append to the same file.
        let mut file = File::options().create(true).append(true).open(folder.join(EXECUTIONS))?;
        file.write_all(format!("{id}\n").as_bytes())
    }
}

type Shared = State<Arc<Demo>>;

/// Every endpoint.
pub(crate) fn router(behaviour: &Behaviour, context: &Context, database: Database) -> Router {
    let identity = context.identity();
    let demo = Demo {
        build: behaviour.build.clone(),
        host: std::env::var(HOST).ok(),
        data_dir: context.data_dir().map(Path::to_owned),
        crashes: behaviour.crash == Some(Crash::FirstRequest),
        errors_percent: behaviour.errors_percent.into(),
        work: Duration::from_millis(behaviour.work_ms),
        works: AtomicU64::new(0),
        _database: database,
        version: identity.version.as_ref().map(VersionName::to_string),
        generation: identity.generation.map(|generation| generation.0),
        hellos: AtomicU64::new(0),
        executions: AtomicU64::new(0),
    };
    Router::new()
        .route("/hello", get(hello))
        .route("/sessions/{id}/stream", get(stream_events).post(execute_stream))
        .route("/upload", post(upload).put(upload))
        .route("/ws", any(numbered_echo))
        .route("/executions", get(executions))
        .route("/work", any(work))
        .with_state(Arc::new(demo))
}

async fn hello(State(demo): Shared) -> Json<Value> {
    if demo.crashes {
        std::process::abort();
    }
    let seq = demo.hellos.fetch_add(1, Ordering::Relaxed) + 1;
    Json(demo.signed(json!({"version": demo.version, "pid": std::process::id(), "seq": seq})))
}

/// Takes the time that the build needs for it, and fails as often as it does.
async fn work(State(demo): Shared) -> Response {
    if demo.crashes {
        std::process::abort();
    }
    tokio::time::sleep(demo.work).await;
    let n = demo.works.fetch_add(1, Ordering::Relaxed);
    // Spread evenly over each hundred.
    if (n * demo.errors_percent) % 100 + demo.errors_percent >= 100 {
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(demo.signed(json!({"n": n})))).into_response();
    }
    Json(demo.signed(json!({"n": n}))).into_response()
}

async fn executions(State(demo): Shared) -> Json<Value> {
    Json(demo.signed(json!({"executions": demo.executions.load(Ordering::Relaxed)})))
}

#[derive(Deserialize)]
struct Pace {
    /// How long the whole stream takes, in milliseconds.
    #[serde(default = "a_second")]
    ms: u64,
    #[serde(default = "ten")]
    events: u32,
    /// What is executed, where that matters.
    id: Option<String>,
}

fn a_second() -> u64 {
    1_000
}

fn ten() -> u32 {
    10
}

async fn execute_stream(demo: Shared, pace: Query<Pace>, body: Bytes) -> Response {
    // Read to its end and not looked at: the prompt of a real model.
    drop(body);
    if let Err(error) = demo.executed(pace.id.as_deref()) {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("the execution cannot be noted: {error}\n"))
            .into_response();
    }
    stream_events(demo, pace).await
}

/// One event every `ms / events`, the first at once, then `event: done`.
async fn stream_events(State(demo): Shared, Query(Pace { ms, events, .. }): Query<Pace>) -> Response {
    if events == 0 {
        return (StatusCode::BAD_REQUEST, "`events` is at least 1\n").into_response();
    }
    let (began, total) = (Instant::now(), Duration::from_millis(ms));
    let numbered = stream::iter(0..=events).then(move |n| {
        let demo = Arc::clone(&demo);
        async move {
            // From the beginning, so that late wake-ups do not add up.
            tokio::time::sleep_until(began + total * n / events).await;
            let event = if n < events {
                Event::default().id(n.to_string()).data(demo.signed(json!({"n": n})).to_string())
            } else {
                Event::default().event("done").data(demo.signed(json!({"events": events})).to_string())
            };
            Ok::<_, Infallible>(event)
        }
    });
    Sse::new(numbered).into_response()
}

async fn upload(State(demo): Shared, body: Body) -> Response {
    let (mut hash, mut bytes, mut body) = (Sha256::new(), 0u64, body.into_data_stream());
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => {
                hash.update(&chunk);
                bytes = bytes.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            }
            Err(error) => return (StatusCode::BAD_REQUEST, format!("the body broke off: {error}\n")).into_response(),
        }
    }
    demo.executions.fetch_add(1, Ordering::Relaxed);
    let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Json(demo.signed(json!({"bytes": bytes, "sha256": sha256}))).into_response()
}

async fn numbered_echo(State(demo): Shared, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |socket| number(&demo, socket).await)
}

/// Each text message is answered with its number until the client closes.
async fn number(demo: &Demo, mut socket: WebSocket) {
    let mut n = 0u64;
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(text) = message {
            n += 1;
            let answer = demo.signed(json!({"n": n, "text": text.as_str()})).to_string();
            if socket.send(Message::Text(answer.into())).await.is_err() {
                return;
            }
        }
    }
}
