//! The other members of a session's group, over HTTP: they are told what this host has signed, asked whether they have
//! an inference, and read from where this host is behind.
//!
//! Must not live here: what is made of their answers. Nothing of them is believed that is not signed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
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
use crate::ledger::{Known, Ledger};
use crate::metrics::Counters;
use crate::storage::{Session, Signature, Storage, StorageError};

/// How long one question may take.
const WITHIN: Duration = Duration::from_secs(10);
/// What an answer may have, in bytes.
const ANSWER: usize = 64 << 20;
/// Words that are on their way to others at once; one more is not said. Whoever lacks it asks.
const AT_ONCE: usize = 64;

/// Words about a session that this host is behind with, at most.
const WORDS: usize = 1_024;

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
    storage: Storage,
    counters: Counters,
    /// Sessions that are being read from others, with the words that are judged behind that.
    behind: Mutex<BTreeMap<EscrowId, Vec<Signed>>>,
}

/// What came of a state that a member has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Kept,
    /// This host has not come so far.
    Ahead,
    /// Here it is another.
    Other {
        said: String,
        here: String,
    },
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
    pub fn new(
        ledger: Ledger,
        escrows: Arc<Escrows>,
        storage: Storage,
        counters: Counters,
    ) -> Result<Members, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build()?;
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let inner = Inner { client, ledger, escrows, at_once, storage, counters, behind: Mutex::default() };
        Ok(Members { inner: Arc::new(inner) })
    }

    /// Tells the others what this host has signed. Nobody waits for it.
    pub fn tell(&self, state: &Arc<Known>) {
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

    /// Shows an executor an inference with the steps that it may lack, and asks what it has to say of it. Whoever is not
    /// reached says nothing.
    pub async fn challenge(
        &self,
        url: &str,
        escrow: &EscrowId,
        id: InferenceId,
        payload: Option<&Payload>,
        steps: &[Diff],
    ) -> Vec<Tx> {
        let steps: Vec<Value> = steps.iter().map(written_step).collect();
        let body = json!({"inference_id": id, "payload": payload.map(written), "diffs": steps});
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
    pub async fn payloads(&self, url: &str, session: &Session, id: InferenceId) -> Result<Option<Answered>, NoAnswer> {
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

    /// Judges a state that a member has signed: its signature is kept where this host has the same. Where others are
    /// ahead, what this host lacks is read from them, and their words are judged then; `then` is handed the state.
    pub async fn hear(
        &self,
        session: &Session,
        state: &Arc<Known>,
        signed: Signed,
        then: impl FnOnce(&Session, &Arc<Known>) + Send + 'static,
    ) -> Result<Heard, StorageError> {
        let heard = self.judge(session, state, &signed).await?;
        if heard == Heard::Ahead {
            self.catch_up(session, state, signed, then);
        }
        Ok(heard)
    }

    async fn judge(&self, session: &Session, state: &State, signed: &Signed) -> Result<Heard, StorageError> {
        let storage = &self.inner.storage;
        match storage.diffs(session, signed.nonce, signed.nonce).await?.first() {
            None => Ok(Heard::Ahead),
            Some((_, here)) if here[..] != signed.root => {
                self.inner.counters.diverged();
                let Signed { nonce, slot, .. } = signed;
                let (said, here) = (hex(&signed.root), hex(here));
                tracing::error!(session = %session.escrow(), %nonce, slot = slot.0, said, here, "another state is signed");
                Ok(Heard::Other { said, here })
            }
            Some(_) => {
                let beside = state.binding().group.slots_beside(signed.slot);
                let signature = |slot| Signature { nonce: signed.nonce, slot, bytes: signed.signature.clone() };
                storage.keep_signatures(session, &beside.map(signature).collect::<Vec<_>>()).await?;
                Ok(Heard::Kept)
            }
        }
    }

    /// Nobody waits for it, and a session is read once at a time: words that come meanwhile are judged with the first.
    fn catch_up(
        &self,
        session: &Session,
        state: &Arc<Known>,
        signed: Signed,
        then: impl FnOnce(&Session, &Arc<Known>) + Send + 'static,
    ) {
        let Some(url) = self.inner.escrows.url(session.escrow(), signed.slot).map(str::to_owned) else { return };
        let to = signed.nonce;
        match self.inner.behind.lock().entry(session.escrow().clone()) {
            Entry::Occupied(mut words) => {
                if words.get().len() < WORDS {
                    words.get_mut().push(signed);
                }
                return;
            }
            Entry::Vacant(words) => {
                words.insert(vec![signed]);
            }
        }
        let (members, session, state) = (self.clone(), session.clone(), Arc::clone(state));
        tokio::spawn(async move {
            let read = members.read_steps(&url, &session, state, to).await;
            let words = members.inner.behind.lock().remove(session.escrow()).unwrap_or_default();
            match read {
                Ok(state) => {
                    for signed in words {
                        if let Err(error) = members.judge(&session, &state, &signed).await {
                            tracing::warn!(session = %session.escrow(), error = %chain(&error), "not kept");
                        }
                    }
                    then(&session, &state);
                }
                Err(error) => {
                    tracing::info!(session = %session.escrow(), url, error, "what is lacking is not read");
                }
            }
        });
    }

    async fn read_steps(
        &self,
        url: &str,
        session: &Session,
        mut state: Arc<Known>,
        to: Nonce,
    ) -> Result<Arc<Known>, String> {
        while state.latest() < to {
            let (escrow, next) = (session.escrow(), state.latest().0 + 1);
            let asking = self.inner.client.get(format!("{url}/sessions/{escrow}/diffs?from={next}&to={to}"));
            let page = async { read(asking.send().await?).await };
            let page = page.await.map_err(|error| chain(&error))?;
            let diffs = read_page(&page)?;
            if diffs.is_empty() {
                return Err("it has none of them".to_owned());
            }
            let next = self.inner.ledger.take(session, &diffs).await.map_err(|error| chain(&error))?.0;
            if next.latest() <= state.latest() {
                return Err("it sends nothing that is new".to_owned());
            }
            state = next;
        }
        Ok(state)
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

/// A step as it is sent.
#[must_use]
pub fn written_step(diff: &Diff) -> Value {
    json!({
        "nonce": diff.nonce,
        "txs": STANDARD.encode(&diff.txs),
        "user_sig": STANDARD.encode(&diff.user_sig),
        "post_state_root": STANDARD.encode(&diff.post_state_root),
    })
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
