//! The routes of a session host, as the upstream has them.
//!
//! `completions` has inferences, `group` what members of a session's group and its owner ask beside them, `reads` what
//! anybody may look at.
//!
//! Must not live here: how an inference is run, and how anything is stored.

mod completions;
mod group;
mod reads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use devshard_core::auth::{self, Address};
use devshard_core::diffs::Diff;
use devshard_core::ids::{Epoch, EscrowId, Nonce};
use devshard_core::session::{State as SessionState, Trust};
use serde_json::json;
use supervisor_sdk::axum::Router;
use supervisor_sdk::axum::body::{Body, to_bytes};
use supervisor_sdk::axum::extract::{FromRequest, FromRequestParts, Path, Request as AxumRequest, State};
use supervisor_sdk::axum::http::request::Parts;
use supervisor_sdk::axum::http::{HeaderMap, Response};
use supervisor_sdk::axum::middleware::map_response_with_state;
use supervisor_sdk::axum::response::{IntoResponse as _, Json};
use supervisor_sdk::axum::routing::{get, post};
use supervisor_sdk::{Context, DrainMode};

use crate::checks::Checks;
use crate::escrows::Escrows;
use crate::held::Held;
use crate::host::Host;
use crate::ledger::{Known, Ledger, LedgerError};
use crate::members::Members;
use crate::metrics::Counters;
use crate::peers::{MISMATCH, Peers};
use crate::refusal::{Code, Refusal};
use crate::storage::{AppendError, Session, Storage};

/// The body of a request, in bytes, at most.
const BODY: usize = 10 << 20;
/// Whoever has been refused everywhere must be served.
const LAST_RESORT: &str = "versiond-last-resort";

/// What every route needs.
pub struct App {
    pub context: Context,
    pub storage: Storage,
    pub ledger: Ledger,
    pub host: Host,
    pub escrows: Arc<Escrows>,
    pub members: Members,
    pub checks: Checks,
    pub version: String,
    pub within: Duration,
    pub counters: Counters,
    pub held: Held,
    pub peers: Peers,
    /// Sessions of earlier epochs do not begin any more.
    pub kept_from: Option<Epoch>,
}

/// A router says by it that it has several hosts for a session.
const HIGHLY_AVAILABLE: &str = "devshard-ha";
const NOT_SHARED: &str = "storage_not_shared";

type Shared = State<Arc<App>>;
/// What a question names behind its `?`.
type Named = BTreeMap<String, String>;

/// What is said to a request.
type Answer = Result<Response<Body>, Refusal>;

/// A request that somebody has signed.
struct Signed {
    escrow: EscrowId,
    signer: Address,
    headers: HeaderMap,
    body: Bytes,
}

/// A request whose steps may be stored here: the place of record is the one that all hosts have.
struct Sound;

/// A request that is to be served here, too, and not by another host.
struct Here;

impl FromRequest<Arc<App>> for Signed {
    type Rejection = Refusal;

    async fn from_request(request: AxumRequest, app: &Arc<App>) -> Result<Signed, Refusal> {
        let (mut parts, body) = request.into_parts();
        let escrow = escrow(&mut parts, app).await?;
        let headers = parts.headers;
        let (signature, at) = (header(&headers, auth::SIGNATURE), header(&headers, auth::TIMESTAMP));
        // Of what nobody can have signed the body is not waited for.
        auth::is_signed(signature, at, now_s())?;
        let body = read(body).await?;
        let signer = auth::signer(&escrow, &body, signature, at, now_s())?;
        Ok(Signed { escrow, signer, headers, body })
    }
}

impl FromRequestParts<Arc<App>> for Sound {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Sound, Response<Body>> {
        app.not_sound(&parts.headers).map_or(Ok(Sound), Err)
    }
}

impl FromRequestParts<Arc<App>> for Here {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Here, Response<Body>> {
        let escrow = escrow(parts, app).await.map_err(Refusal::into_response)?;
        app.not_here(&escrow, &parts.headers).map_or(Ok(Here), Err)
    }
}

/// The session that the path names.
async fn escrow(parts: &mut Parts, app: &Arc<App>) -> Result<EscrowId, Refusal> {
    let path = Path::<String>::from_request_parts(parts, app).await;
    path.map_err(|_| Refusal::NoRoute)?.parse().map_err(Refusal::Escrow)
}

/// Counts what is refused.
async fn count(State(app): Shared, response: Response<Body>) -> Response<Body> {
    if let Some(Code(code)) = response.extensions().get() {
        app.counters.refused(code);
    }
    response
}

/// The routes.
pub fn router(app: App) -> Router {
    let app = Arc::new(app);
    Router::new()
        .route("/sessions/{id}/chat/completions", post(completions::completions))
        .route("/sessions/{id}/verify-timeout", post(group::verify_timeout))
        .route("/sessions/{id}/challenge-receipt", post(group::challenge_receipt))
        .route("/sessions/{id}/gossip/nonce", post(group::gossip_nonce))
        .route("/sessions/{id}/gossip/txs", post(group::gossip_txs))
        .route("/sessions/{id}/payloads", get(group::payloads))
        .route("/sessions/{id}/diffs", get(reads::diffs))
        .route("/sessions/{id}/mempool", get(reads::mempool))
        .route("/sessions/{id}/signatures", get(reads::signatures))
        .route("/sessions/{id}/encrypted/chat/completions", post(completions::sealed))
        .route("/clock", get(async || Json(json!({"now": now_s()}))))
        .route("/internal/storage-identity", get(reads::identity))
        .fallback(async || Refusal::NoRoute)
        .layer(map_response_with_state(Arc::clone(&app), count))
        .with_state(app)
}

impl App {
    /// The refusal of everything while this host's database is not that of the others, or is a file of its own where
    /// others serve too.
    fn not_sound(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        let reason = if let Some(mismatch) = self.peers.mismatch() {
            tracing::warn!(%mismatch, "a request is not taken");
            MISMATCH
        } else if header(headers, HIGHLY_AVAILABLE) == Some("true") && !self.storage.is_shared() {
            // A router that has several hosts says so: a file of one of them would be one of several histories.
            NOT_SHARED
        } else {
            return None;
        };
        self.counters.refused(reason);
        Some(self.context.not_admitted(reason))
    }

    /// That, and the refusal of a session that is not held while this host is drained session by session.
    fn not_here(&self, escrow: &EscrowId, headers: &HeaderMap) -> Option<Response<Body>> {
        if let Some(refused) = self.not_sound(headers) {
            return Some(refused);
        }
        let is_last = header(headers, LAST_RESORT) == Some("1");
        match self.context.draining() {
            Some(DrainMode::Sessions) if !is_last && !self.held.has(escrow) => {
                self.counters.refused("session_not_held");
                Some(self.context.not_admitted("session_not_held"))
            }
            Some(DrainMode::Sessions | DrainMode::All) | None => None,
        }
    }

    /// The session, which begins with the first request that its owner has signed, or with the first step of its owner
    /// that a member of its group brings.
    async fn session(&self, escrow: &EscrowId, signer: &Address, first: Option<&Diff>) -> Result<Session, Refusal> {
        if let Some(session) = self.storage.session(escrow).await? {
            return self.is_ours(session);
        }
        let found = self.escrows.find(escrow, signer, self.ledger.me()).ok_or(Refusal::UnknownEscrow)?;
        if self.kept_from.is_some_and(|from| found.epoch < from) {
            return Err(Refusal::EpochOver(found.epoch.0));
        }
        if found.binding.creator != *signer {
            let first = first.ok_or(Refusal::NotOwner)?;
            let begun = SessionState::begin(found.binding.clone());
            if !begun.is_member(signer) {
                return Err(Refusal::NotMember);
            }
            begun.after(first, Trust::Nobody).map_err(Refusal::Step)?;
        }
        self.is_ours(self.storage.bind(found.epoch, &self.version, &found.binding).await?)
    }

    /// A session is bound to one version of this program and to one epoch.
    fn is_ours(&self, session: Session) -> Result<Session, Refusal> {
        if session.version != self.version {
            return Err(Refusal::OtherVersion { bound: session.version, here: self.version.clone() });
        }
        match self.escrows.epoch(session.escrow()) {
            Some(epoch) if epoch != session.epoch => {
                Err(Refusal::OtherEpoch { bound: session.epoch.0, escrow: epoch.0 })
            }
            Some(_) | None => Ok(session),
        }
    }

    /// A session that has begun, to be brought on.
    async fn bound(&self, escrow: &EscrowId) -> Result<Session, Refusal> {
        self.is_ours(self.known(escrow).await?)
    }

    /// Takes the steps that came with a request, and does what follows: of new ones the group is told, and what is to be
    /// checked is.
    async fn take(&self, session: &Session, diffs: &[Diff]) -> Result<Arc<Known>, Refusal> {
        match self.ledger.take(session, diffs).await {
            Ok((state, is_new)) => {
                if is_new {
                    self.members.tell(&state);
                }
                self.checks.look(session, &state);
                Ok(state)
            }
            Err(error) => {
                if let LedgerError::Append(AppendError::Fork(fork)) = &error {
                    self.counters.forked();
                    tracing::error!(session = %session.escrow(), %fork, "two histories were told for one session");
                }
                Err(error.into())
            }
        }
    }

    /// A session that is only looked at: it is not begun by that.
    async fn known(&self, escrow: &EscrowId) -> Result<Session, Refusal> {
        self.storage.session(escrow).await?.ok_or(Refusal::UnknownSession)
    }

    /// The same, by its name.
    async fn named(&self, id: &str) -> Result<Session, Refusal> {
        self.known(&id.parse().map_err(Refusal::Escrow)?).await
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn number(named: &Named, name: &'static str) -> Result<u64, Refusal> {
    named.get(name).and_then(|text| text.parse().ok()).ok_or(Refusal::Parameter(name))
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    use std::error::Error as _;
    to_bytes(body, BODY).await.map_err(|error| {
        let is_long = error.source().is_some_and(|source| source.to_string().contains("length limit"));
        if is_long { Refusal::BodyTooLarge(BODY) } else { Refusal::BodyBrokenOff }
    })
}

/// A step that a request speaks of must have come.
fn is_there(state: &SessionState, nonce: Nonce) -> Result<(), Refusal> {
    if nonce <= state.latest() { Ok(()) } else { Err(Refusal::NoStep(nonce)) }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn now_s() -> u64 {
    since_1970().as_secs()
}
