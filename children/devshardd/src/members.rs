//! The other members of a session's group, over HTTP: they are told what this host has signed, asked whether they have
//! an inference, and read from where this host is behind.
//!
//! Must not live here: what is made of their answers. Nothing of them is believed that is not signed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use devshard_core::auth::{self, recover_message};
use devshard_core::diffs::Diff;
use devshard_core::group::{self, PayloadRequest, Signed};
use devshard_core::ids::{EscrowId, InferenceId, Nonce};
use devshard_core::request::{Payload, Request};
use devshard_core::session::State;
use devshard_core::wire::{StateWords, Tx};
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use children_kit::log::chain;

use crate::escrows::Escrows;
use crate::ledger::Ledger;
use crate::storage::Session;

/// How long one question may take.
const WITHIN: Duration = Duration::from_secs(10);
/// What an answer may have, in bytes.
const ANSWER: usize = 64 << 20;
/// Words that are on their way to others at once; one more is not said. Whoever lacks it asks.
const AT_ONCE: usize = 64;

/// The others. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    inner: Arc<Inner>,
}

struct Inner {
    client: reqwest::Client,
    ledger: Ledger,
    escrows: Arc<Escrows>,
    at_once: Arc<Semaphore>,
    /// Sessions that are being read from others.
    catching_up: Mutex<BTreeSet<EscrowId>>,
}

/// What an executor says was asked and answered.
#[derive(Debug)]
pub struct Answered {
    pub prompt: Vec<u8>,
    /// An event stream.
    pub response: Vec<u8>,
    pub signature: String,
}

/// Why a member gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("it is not reached")]
    Http(#[from] reqwest::Error),
    #[error("it says {0}")]
    Status(reqwest::StatusCode),
    #[error("its answer is longer than {ANSWER} bytes")]
    TooLong,
    #[error("its answer is not understood")]
    Json(#[from] serde_json::Error),
    #[error("its answer lacks {0}")]
    Lacks(&'static str),
}

/// Whether a state was signed by the member that it is said to be from.
#[must_use]
pub fn is_signed_state(state: &State, signed: &Signed) -> bool {
    let words = StateWords {
        state_root: signed.root.to_vec(),
        escrow_id: state.binding().escrow.to_string(),
        nonce: signed.nonce.0,
    };
    recover_message(&words.encode_to_vec(), &signed.signature)
        .is_some_and(|signer| state.speaks_for(&signer, signed.slot))
}

impl Members {
    pub fn new(ledger: Ledger, escrows: Arc<Escrows>) -> Result<Members, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build()?;
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let inner = Inner { client, ledger, escrows, at_once, catching_up: Mutex::default() };
        Ok(Members { inner: Arc::new(inner) })
    }

    /// Tells the others what this host has signed. Nobody waits for it.
    pub fn tell(&self, state: &Arc<State>) {
        let ledger = &self.inner.ledger;
        let Some(slot) = ledger.mine(state).first().copied() else { return };
        let escrow = &state.binding().escrow;
        let others: BTreeSet<String> = state
            .binding()
            .group
            .slots()
            .filter(|other| !state.speaks_for(ledger.me(), *other))
            .filter_map(|other| self.inner.escrows.url(escrow, other).map(str::to_owned))
            .collect();
        if others.is_empty() {
            return;
        }
        let body = json!({
            "nonce": state.latest(),
            "state_hash": STANDARD.encode(state.root()),
            "state_sig": STANDARD.encode(ledger.sign(state)),
            "slot_id": slot,
        });
        for url in others {
            let Ok(place) = Arc::clone(&self.inner.at_once).try_acquire_owned() else { return };
            let (members, escrow, body) = (self.clone(), escrow.clone(), body.clone());
            tokio::spawn(async move {
                if let Err(error) = members.post(&url, &escrow, "gossip/nonce", &body).await {
                    tracing::debug!(url, error = %chain(&error), "a member does not hear");
                }
                drop(place);
            });
        }
    }

    /// Shows an executor an inference, and asks what it has to say of it. Whoever is not reached says nothing.
    pub async fn challenge(
        &self,
        url: &str,
        escrow: &EscrowId,
        id: InferenceId,
        payload: Option<&Payload>,
    ) -> Vec<Tx> {
        let body = json!({"inference_id": id, "payload": payload.map(written), "diffs": []});
        let read = |answer: Value| {
            let txs = json!({"txs": answer.get("mempool").cloned().unwrap_or_else(|| json!([]))});
            group::read_txs(txs.to_string().as_bytes()).unwrap_or_default()
        };
        match self.post(url, escrow, "challenge-receipt", &body).await {
            Ok(answer) => serde_json::from_slice(&answer).map(read).unwrap_or_default(),
            Err(error) => {
                tracing::info!(url, error = %chain(&error), "an executor does not answer");
                Vec::new()
            }
        }
    }

    /// What was asked and answered in an inference; `None`: its executor has it no more.
    pub async fn payloads(
        &self,
        url: &str,
        session: &Session,
        id: InferenceId,
    ) -> Result<Option<Answered>, NoAnswer> {
        let ledger = &self.inner.ledger;
        let at_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let (inference, at_ns) = (id.to_string(), i64::try_from(at_ns).unwrap_or(i64::MAX));
        let epoch = session.epoch.0;
        let request = PayloadRequest { inference: &inference, validator: ledger.me().as_str(), at_ns, epoch };
        let asking = self
            .inner
            .client
            .get(format!("{url}/sessions/{}/payloads?inference_id={inference}", session.escrow()))
            .header(group::VALIDATOR, ledger.me().as_str())
            .header(group::AT, at_ns.to_string())
            .header(group::EPOCH, epoch.to_string())
            .header("authorization", request.sign(ledger.key()));
        let answer: Value = match read(asking.send().await?).await {
            Err(NoAnswer::Status(reqwest::StatusCode::NOT_FOUND)) => return Ok(None),
            answer => serde_json::from_slice(&answer?)?,
        };
        let bytes = |name: &'static str| {
            let text = answer.get(name).and_then(Value::as_str);
            text.and_then(|text| STANDARD.decode(text).ok()).ok_or(NoAnswer::Lacks(name))
        };
        let signature = answer.get("executor_signature").and_then(Value::as_str);
        Ok(Some(Answered {
            prompt: bytes("prompt_payload")?,
            response: bytes("response_payload")?,
            signature: signature.ok_or(NoAnswer::Lacks("executor_signature"))?.to_owned(),
        }))
    }

    /// Reads from the member that has signed a later state what this host lacks. Nobody waits for it, and a session is
    /// read once at a time.
    pub fn catch_up(&self, session: &Session, state: &Arc<State>, signed: &Signed) {
        let Some(url) = self.inner.escrows.url(session.escrow(), signed.slot).map(str::to_owned) else { return };
        if !self.inner.catching_up.lock().insert(session.escrow().clone()) {
            return;
        }
        let (members, session, from, to) = (self.clone(), session.clone(), state.latest(), signed.nonce);
        tokio::spawn(async move {
            if let Err(error) = members.read_steps(&url, &session, from, to).await {
                tracing::info!(session = %session.escrow(), url, error = %error, "what is lacking is not read");
            }
            members.inner.catching_up.lock().remove(session.escrow());
        });
    }

    async fn read_steps(&self, url: &str, session: &Session, from: Nonce, to: Nonce) -> Result<(), String> {
        let mut latest = from;
        while latest < to {
            let (escrow, next) = (session.escrow(), latest.0 + 1);
            let asking = self.inner.client.get(format!("{url}/sessions/{escrow}/diffs?from={next}&to={to}"));
            let page = async { read(asking.send().await?).await };
            let page = page.await.map_err(|error| chain(&error))?;
            let diffs = read_page(&page)?;
            if diffs.is_empty() {
                return Err("it has none of them".to_owned());
            }
            let taken = self.inner.ledger.take(session, &diffs).await.map_err(|error| chain(&error))?;
            latest = taken.0.latest();
        }
        Ok(())
    }

    async fn post(&self, url: &str, escrow: &EscrowId, route: &str, body: &Value) -> Result<Vec<u8>, NoAnswer> {
        let (body, now) = (body.to_string(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let signed = self.inner.ledger.key().sign_request(escrow, body.as_bytes(), now.as_secs());
        let (signature, timestamp) = signed.ok_or(NoAnswer::Lacks("a signature of ours"))?;
        let asking = self
            .inner
            .client
            .post(format!("{url}/sessions/{escrow}/{route}"))
            .header(auth::SIGNATURE, signature)
            .header(auth::TIMESTAMP, timestamp)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        read(asking.send().await?).await
    }
}

async fn read(mut answer: reqwest::Response) -> Result<Vec<u8>, NoAnswer> {
    if !answer.status().is_success() {
        return Err(NoAnswer::Status(answer.status()));
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        body.extend(piece);
        if body.len() > ANSWER {
            return Err(NoAnswer::TooLong);
        }
    }
    Ok(body)
}

/// A page of `GET …/diffs`: it is read as the diffs of a request are.
fn read_page(page: &[u8]) -> Result<Vec<Diff>, String> {
    let page: Vec<Value> = serde_json::from_slice(page).map_err(|error| error.to_string())?;
    let diffs: Vec<&Value> = page.iter().filter_map(|entry| entry.get("diff")).collect();
    let request = json!({"nonce": 1, "diffs": diffs});
    Request::read(request.to_string().as_bytes()).map(|request| request.diffs).map_err(|error| chain(&error))
}

fn written(payload: &Payload) -> Value {
    json!({
        "prompt": STANDARD.encode(&payload.prompt),
        "model": payload.model,
        "input_length": payload.input_length,
        "max_tokens": payload.max_tokens,
        "started_at": payload.started_at,
        "session_id": payload.session_id,
    })
}
