//! The admin API: what an operator, a load balancer and a scraper may ask, and the drain of a host that cannot
//! say it itself.
//!
//! It has a thread and a runtime of its own, so that it answers whatever the rest is busy with. Must not live
//! here: anything that a request of the data plane needs.

mod events;
mod page;
mod routes;
mod shown;

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use daemon_kit::{TokenHash, bearer};
use router_core::drain::NotDrained;
use router_core::members::MemberId;
use serde::Deserialize;
use supervisor_protocol::SCHEMA;
use supervisor_protocol::admin::ApiError;
use supervisor_protocol::router::{Hosts, Pools, RouterDrain, RouterReady};
use supervisor_protocol::time::parse_duration;
use tokio::sync::{Semaphore, oneshot};

use crate::config::AdminConfig;
use crate::keeper::Event;
use crate::metrics::Elsewhere;
use crate::run::Router;

/// How often a drain that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest that an answer may be waited for.
const WAIT_MAX: Duration = Duration::from_secs(60);

struct Admin {
    router: Arc<Router>,
    token: Option<TokenHash>,
    /// Places for those who read events.
    readers: Arc<Semaphore>,
}

/// Serves the API on a thread of its own.
pub(crate) fn serve(router: Arc<Router>, listener: TcpListener, config: &AdminConfig) -> anyhow::Result<()> {
    let token = match &config.token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("[router] admin_token_file = {path}"))?;
            anyhow::ensure!(!text.trim().is_empty(), "[router] admin_token_file: {path} is empty");
            Some(TokenHash::of(&text))
        }
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let admin = Arc::new(Admin { router, token, readers: Arc::new(Semaphore::new(daemon_kit::READERS)) });
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async {
            let served = async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, routes::api(admin)).await
            };
            if let Err(error) = served.await {
                tracing::error!(%error, "the admin listener cannot be used");
            }
        });
    })?;
    Ok(())
}

/// A token is asked for wherever there is one. No page of a browser may change anything.
async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if request.method() != Method::GET && headers.contains_key(header::ORIGIN) {
        return refuse(StatusCode::FORBIDDEN, "origin", "a page of a browser may not change anything here");
    }
    match &admin.token {
        Some(token) if bearer(headers).map(TokenHash::of).as_ref() != Some(token) => {
            refuse(StatusCode::UNAUTHORIZED, "token", "this needs `Authorization: Bearer` with the admin token")
        }
        // Where nobody has to show a token, a page whose name was made to lead here must not read either.
        None if !is_of_this_machine(headers) => {
            refuse(StatusCode::FORBIDDEN, "host", "without a token this answers to addresses and localhost alone")
        }
        Some(_) | None => next.run(request).await,
    }
}

/// Whether whoever asks calls this router by an address, or `localhost`.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = host.parse::<Authority>().map(|authority| authority.host().to_owned()).unwrap_or_default();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.is_ok() || name.eq_ignore_ascii_case("localhost")
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(ApiError { code: code.to_owned(), message: message.to_owned() })).into_response()
}

async fn livez() -> &'static str {
    "alive\n"
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let ready = admin.router.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(RouterReady { ready })).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let router = &admin.router;
    let pools = shown::pools(router).await;
    let elsewhere = Elsewhere {
        ready: router.is_ready(),
        requests: pools.iter().map(|pool| (pool.name.clone(), pool.requests)).collect(),
        hosts: pools.into_iter().flat_map(|pool| pool.hosts).collect(),
        plane: router.plane.counters(),
    };
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], router.metrics.text(elsewhere)).into_response()
}

async fn pools(State(admin): State<Arc<Admin>>) -> Response {
    Json(Pools { schema: SCHEMA, pools: shown::pools(&admin.router).await }).into_response()
}

async fn hosts(State(admin): State<Arc<Admin>>) -> Response {
    let pools = shown::pools(&admin.router).await;
    Json(Hosts { schema: SCHEMA, hosts: pools.into_iter().flat_map(|pool| pool.hosts).collect() }).into_response()
}

#[derive(Deserialize)]
struct Asked {
    path: String,
}

async fn lookup(State(admin): State<Arc<Admin>>, Query(Asked { path }): Query<Asked>) -> Response {
    if !path.starts_with('/') {
        return refuse(StatusCode::BAD_REQUEST, "bad_path", "path begins with /");
    }
    Json(shown::lookup(&admin.router, &path)).into_response()
}

/// In every pool that has it. A host that speaks for itself in one of them is asked itself.
async fn drain(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Response {
    let Ok(id) = MemberId::new(&id) else { return unknown(&id) };
    let (mut is_drained, mut refused) = (false, None);
    for keeper in keepers(&admin) {
        let (answer, answered) = oneshot::channel();
        keeper.tell.send(Event::Drain(id.clone(), answer)).await.ok();
        match answered.await {
            Ok(Ok(())) => is_drained = true,
            Ok(Err(why @ NotDrained::HasAWord(_))) => refused = Some(why),
            // The pool does not have it, or is gone.
            Ok(Err(NotDrained::NoMember(_))) | Err(_) => {}
        }
    }
    match refused {
        Some(why) => refuse(StatusCode::CONFLICT, why.code(), &why.to_string()),
        None if is_drained => hosts(State(admin)).await,
        None => unknown(id.as_str()),
    }
}

async fn undrain(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Response {
    let Ok(id) = MemberId::new(&id) else { return unknown(&id) };
    let mut was_drained = false;
    for keeper in keepers(&admin) {
        let (answer, answered) = oneshot::channel();
        keeper.tell.send(Event::Undrain(id.clone(), answer)).await.ok();
        was_drained |= answered.await.unwrap_or_default();
    }
    if was_drained {
        return hosts(State(admin)).await;
    }
    let pools = shown::pools(&admin.router).await;
    if !pools.iter().flat_map(|pool| &pool.hosts).any(|host| host.id.as_deref() == Some(id.as_str())) {
        return unknown(id.as_str());
    }
    refuse(StatusCode::CONFLICT, "not_drained_here", "this router does not drain it; a host takes its own drain back")
}

fn keepers(admin: &Admin) -> Vec<Arc<crate::keeper::Keeper>> {
    admin.router.pools.read().values().cloned().collect()
}

fn unknown(id: &str) -> Response {
    refuse(StatusCode::NOT_FOUND, "unknown_host", &format!("no pool has a host called {id:?}"))
}

#[derive(Deserialize)]
struct Waited {
    wait: Option<String>,
}

/// Answers at once, or with `wait` when every draining host is empty, at the latest after that time.
async fn drain_status(State(admin): State<Arc<Admin>>, Query(Waited { wait }): Query<Waited>) -> Response {
    let wait = match wait.as_deref().map(parse_duration) {
        None => Duration::ZERO,
        Some(Ok(wait)) => wait.min(WAIT_MAX),
        Some(Err(error)) => return refuse(StatusCode::BAD_REQUEST, "bad_wait", &error.to_string()),
    };
    let until = tokio::time::Instant::now() + wait;
    loop {
        let pools = shown::pools(&admin.router).await;
        let hosts: Vec<_> = pools.into_iter().flat_map(|pool| pool.hosts).filter(|host| host.drain.is_some()).collect();
        let drained = hosts.iter().all(|host| host.inflight == 0);
        if drained || tokio::time::Instant::now() >= until {
            return Json(RouterDrain { schema: SCHEMA, hosts, drained }).into_response();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
