//! The routes of a session host, as the upstream has them.
//!
//! Must not live here: how an inference is run, and how anything is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use devshard_core::auth::{self, Address, Key};
use devshard_core::diffs::{DiffError, Head};
use devshard_core::events::{Cursor, Receipt};
use devshard_core::ids::{EscrowId, ExecutionKey, Nonce};
use devshard_core::request::Request;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use supervisor_sdk::axum::Router;
use supervisor_sdk::axum::body::{Body, to_bytes};
use supervisor_sdk::axum::extract::{Path, Query, State};
use supervisor_sdk::axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use supervisor_sdk::axum::http::{HeaderMap, HeaderValue, Response};
use supervisor_sdk::axum::response::{IntoResponse as _, Json};
use supervisor_sdk::axum::routing::{get, post};
use supervisor_sdk::{Context, DrainMode};

use crate::config::Escrows;
use crate::engine::Job;
use crate::held::Held;
use crate::host::Host;
use crate::metrics::Counters;
use crate::peers::Identity;
use crate::refusal::Refusal;
use crate::storage::{Binding, Session, Storage};

/// The body of a request, in bytes, at most.
const BODY: usize = 10 << 20;
/// Whoever has been refused everywhere must be served.
const LAST_RESORT: &str = "versiond-last-resort";

/// What every route needs.
pub struct App {
    pub context: Context,
    pub storage: Storage,
    pub host: Host,
    pub escrows: Escrows,
    pub key: Key,
    pub version: String,
    pub within: Duration,
    pub counters: Counters,
    pub held: Held,
}

type Shared = State<Arc<App>>;

/// The routes.
pub fn router(app: App) -> Router {
    let not_rebuilt = || post(async || Refusal::NotRebuilt);
    Router::new()
        .route("/sessions/{id}/chat/completions", post(completions))
        .route("/sessions/{id}/diffs", get(diffs))
        .route("/sessions/{id}/mempool", get(mempool))
        .route("/sessions/{id}/signatures", get(signatures))
        .route("/sessions/{id}/verify-timeout", not_rebuilt())
        .route("/sessions/{id}/challenge-receipt", not_rebuilt())
        .route("/sessions/{id}/gossip/nonce", not_rebuilt())
        .route("/sessions/{id}/gossip/txs", not_rebuilt())
        .route("/sessions/{id}/encrypted/chat/completions", not_rebuilt())
        .route("/sessions/{id}/payloads", get(async || Refusal::NotRebuilt))
        .route("/clock", get(async || Json(json!({"now": now_s()}))))
        .route("/internal/storage-identity", get(identity))
        .fallback(async || Refusal::NoRoute)
        .with_state(Arc::new(app))
}

async fn completions(State(app): Shared, Path(id): Path<String>, headers: HeaderMap, body: Body) -> Response<Body> {
    match app.complete(&id, &headers, body).await {
        Ok(response) => response,
        Err(refusal) => app.refused(refusal),
    }
}

impl App {
    async fn complete(&self, id: &str, headers: &HeaderMap, body: Body) -> Result<Response<Body>, Refusal> {
        let escrow: EscrowId = id.parse().map_err(Refusal::Escrow)?;
        if let Some(refused) = self.not_held(&escrow, headers) {
            return Ok(refused);
        }
        let body = read(body).await?;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let signer = auth::signer(&escrow, &body, header(auth::SIGNATURE), header(auth::TIMESTAMP), now_s())?;
        let request = Request::read(&body)?;
        let from = resumed_from(header("last-event-id"), &request)?;
        let session = self.session(&escrow, &signer).await?;
        self.held.touch(&escrow);
        let head = self.append(&session, &request).await?;
        if request.nonce > head.nonce {
            return Err(Refusal::Diff(DiffError::Gap { latest: head.nonce, got: request.nonce }));
        }

        let key = ExecutionKey { epoch: session.binding.epoch, escrow, inference: request.inference() };
        let job = Job {
            key,
            model: request.payload.model,
            prompt: Bytes::from(request.payload.prompt),
            max_tokens: request.payload.max_tokens,
            stream: request.stream,
            within: self.within,
        };
        let flight = self.host.open(job, || self.receipt(&session.escrow, request.nonce, head));
        let mut response = Response::new(Body::from_stream(flight.follow(from)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// The refusal of a session that another host is to have, while this one is drained session by session.
    fn not_held(&self, escrow: &EscrowId, headers: &HeaderMap) -> Option<Response<Body>> {
        let is_last = headers.get(LAST_RESORT).is_some_and(|value| value == "1");
        match self.context.draining() {
            Some(DrainMode::Sessions) if !is_last && !self.held.has(escrow) => {
                self.counters.refused("session_not_held");
                Some(self.context.not_admitted("session_not_held"))
            }
            Some(DrainMode::Sessions | DrainMode::All) | None => None,
        }
    }

    /// The session, which begins with its first request.
    async fn session(&self, escrow: &EscrowId, signer: &Address) -> Result<Session, Refusal> {
        let session = match self.storage.session(escrow).await? {
            Some(session) => session,
            None => {
                let (creator, epoch) = self.escrows.find(escrow, signer).ok_or(Refusal::UnknownEscrow)?;
                if creator != *signer {
                    return Err(Refusal::NotOwner);
                }
                self.storage.bind(escrow, &Binding { epoch, version: self.version.clone(), creator }).await?
            }
        };
        if session.binding.creator != *signer {
            return Err(Refusal::NotOwner);
        }
        if session.binding.version != self.version {
            return Err(Refusal::OtherVersion { bound: session.binding.version, here: self.version.clone() });
        }
        match self.escrows.find(escrow, signer) {
            Some((_, epoch)) if epoch != session.binding.epoch && matches!(self.escrows, Escrows::Listed(_)) => {
                Err(Refusal::OtherEpoch { bound: session.binding.epoch.0, escrow: epoch.0 })
            }
            Some(_) | None => Ok(session),
        }
    }

    async fn append(&self, session: &Session, request: &Request) -> Result<Head, Refusal> {
        self.storage.append(session, &request.diffs).await.map_err(|error| {
            if error.is_fork() {
                self.counters.forked();
                tracing::error!(session = %session.escrow, %error, "two histories were told for one session");
            }
            Refusal::from(error)
        })
    }

    /// What this host says before the model is asked: it has this state, and owes this inference.
    fn receipt(&self, escrow: &EscrowId, nonce: Nonce, head: Head) -> Vec<u8> {
        let confirmed_at = now_s();
        let mut owed = Sha256::new();
        owed.update(escrow.as_str());
        owed.update(nonce.0.to_be_bytes());
        owed.update(head.state_hash);
        owed.update(confirmed_at.to_be_bytes());
        let signed = |digest: [u8; 32]| self.key.sign(&digest).map(|bytes| STANDARD.encode(bytes)).unwrap_or_default();
        let receipt = Receipt {
            state_sig: signed(head.state_hash),
            state_hash: STANDARD.encode(head.state_hash),
            nonce,
            receipt: signed(owed.finalize().into()),
            confirmed_at,
        };
        receipt.payload()
    }

    /// A session that is only looked at: it is not begun by that.
    async fn known(&self, id: &str) -> Result<Session, Refusal> {
        let escrow: EscrowId = id.parse().map_err(Refusal::Escrow)?;
        self.storage.session(&escrow).await?.ok_or(Refusal::UnknownSession)
    }

    fn refused(&self, refusal: Refusal) -> Response<Body> {
        self.counters.refused(refusal.code());
        refusal.into_response()
    }
}

/// What a question names behind its `?`.
type Named = BTreeMap<String, String>;

fn number(named: &Named, name: &'static str) -> Result<u64, Refusal> {
    named.get(name).and_then(|text| text.parse().ok()).ok_or(Refusal::Parameter(name))
}

/// `?from=&to=`, both included: at most a page of them.
async fn diffs(State(app): Shared, Path(id): Path<String>, Query(named): Query<Named>) -> Response<Body> {
    let read = async {
        let (from, to) = (Nonce(number(&named, "from")?), Nonce(number(&named, "to")?));
        let session = app.known(&id).await?;
        let diffs = app.storage.diffs(&session, from, to).await?;
        let coded = |bytes: &[u8]| STANDARD.encode(bytes);
        let diffs: Vec<_> = diffs
            .iter()
            .map(|(diff, state_hash)| {
                let root = coded(&diff.post_state_root);
                let (txs, signature) = (coded(&diff.txs), coded(&diff.user_sig));
                let diff = json!({"nonce": diff.nonce, "txs": txs, "user_sig": signature, "post_state_root": root});
                json!({"diff": diff, "state_hash": coded(state_hash)})
            })
            .collect();
        Ok(Json(diffs).into_response())
    };
    read.await.unwrap_or_else(|refusal| app.refused(refusal))
}

/// What is not on the chain yet. Nothing is gathered here: what a session owes goes out by its diffs.
async fn mempool(State(app): Shared, Path(id): Path<String>) -> Response<Body> {
    match app.known(&id).await {
        Ok(_) => Json(json!({"txs": []})).into_response(),
        Err(refusal) => app.refused(refusal),
    }
}

/// `?nonce=`: by slot of the group. This host knows of no group, and has none.
async fn signatures(State(app): Shared, Path(id): Path<String>, Query(named): Query<Named>) -> Response<Body> {
    let read = async {
        number(&named, "nonce")?;
        app.known(&id).await?;
        Ok(Json(json!({"signatures": {}})).into_response())
    };
    read.await.unwrap_or_else(|refusal| app.refused(refusal))
}

#[derive(serde::Deserialize)]
struct Asked {
    #[serde(default)]
    owner: String,
}

/// What another host proves by that it uses the same database.
async fn identity(State(app): Shared, Query(asked): Query<Asked>) -> Response<Body> {
    let read = async {
        let (uuid, mark) = (app.storage.uuid().await?, app.storage.mark_of(&asked.owner).await?);
        let owner = app.storage.me().to_string();
        Ok::<_, Refusal>(Json(Identity { uuid, owner, mark }).into_response())
    };
    read.await.unwrap_or_else(|refusal| app.refused(refusal))
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    use std::error::Error as _;
    to_bytes(body, BODY).await.map_err(|error| {
        let is_long = error.source().is_some_and(|source| source.to_string().contains("length limit"));
        if is_long { Refusal::BodyTooLarge(BODY) } else { Refusal::BodyBrokenOff }
    })
}

/// The first event that the client has not.
fn resumed_from(cursor: Option<&str>, request: &Request) -> Result<u32, Refusal> {
    let Some(cursor) = cursor else { return Ok(0) };
    let cursor: Cursor = cursor.parse().map_err(Refusal::Cursor)?;
    if cursor.inference != request.inference() {
        return Err(Refusal::OtherInference { got: cursor.inference.0, asked: request.nonce.0 });
    }
    Ok(cursor.n.saturating_add(1))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
