//! Inferences of other members are checked by those who have drawn them: the prompt is asked once more, and the answer
//! must be the same (failure mode S20).
//!
//! Of all processes of one member the one with the lease checks. A result is stored before it is said, and said until a
//! step holds it: what a process had not stored when it died another does again, once its lease has ended.
//!
//! Must not live here: who draws what, and what a result is worth.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use devshard_core::events::answer_text;
use devshard_core::group::are_signed_payloads;
use devshard_core::ids::{EscrowId, ExecutionKey, InferenceId};
use devshard_core::request::prompt_hash;
use devshard_core::session::Inference;
use devshard_core::session::duty::Seed;
use devshard_core::validation::Acquire;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc};

use children_kit::log::chain;

use crate::config::Validation;
use crate::engine::{Engine, EngineError, Job, Purpose};
use crate::escrows::Escrows;
use crate::ledger::{Known, Ledger};
use crate::members::{Members, NoAnswer};
use crate::metrics::{Counters, Verdict};
use crate::storage::{Session, Storage, StorageError, Validation as Step};

/// Checks at once. The others wait.
const AT_ONCE: usize = 4;
/// Checks that run or wait, at most: the next look finds what was not taken.
const KNOWN: usize = 4_096;
/// Before a check that came to nothing is made again.
const REST: Duration = Duration::from_secs(60);
/// Payloads that a model may be ahead of the comparison.
const AHEAD: usize = 64;

/// The checks of this process. Cheap to clone.
#[derive(Clone)]
pub struct Checks {
    inner: Arc<Inner>,
}

/// What checks need.
pub struct Tools {
    pub mode: Validation,
    /// How long a check is believed to be under way.
    pub ttl: Duration,
    /// The model answers within this.
    pub within: Duration,
    pub storage: Storage,
    pub ledger: Ledger,
    pub members: Members,
    pub escrows: Arc<Escrows>,
    pub engine: Engine,
    pub counters: Counters,
}

struct Inner {
    tools: Tools,
    at_once: Semaphore,
    under_way: Mutex<BTreeSet<(EscrowId, InferenceId)>>,
}

/// Why a check comes to no result. It is made again.
#[derive(Debug, thiserror::Error)]
enum NoVerdict {
    #[error("nobody knows where slot {0} is reached")]
    NoUrl(u32),
    #[error("its executor gives no answer")]
    Executor(#[from] NoAnswer),
    #[error("what its executor says it has not signed")]
    NotSigned,
    #[error("the model gives no answer")]
    Model(#[from] EngineError),
    #[error("the answer of the model is not understood")]
    Text,
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Step(#[from] Step),
}

impl Checks {
    #[must_use]
    pub fn new(tools: Tools) -> Checks {
        Checks { inner: Arc::new(Inner { tools, at_once: Semaphore::new(AT_ONCE), under_way: Mutex::default() }) }
    }

    /// Begins what is to be checked in a session, and is not under way. Nobody waits for it.
    pub fn look(&self, session: &Session, state: &Arc<Known>) {
        if self.inner.tools.mode == Validation::Off {
            return;
        }
        let ledger = &self.inner.tools.ledger;
        let (mine, seed) = (ledger.mine(state), Seed::of(ledger.key(), session.escrow()));
        let is_reached =
            |inference: &Inference| self.inner.tools.escrows.url(session.escrow(), inference.executor).is_some();
        for id in state.to_check(&mine, seed) {
            // Of an executor whom nobody here can ask nothing is found out.
            let Some(inference) = state.inference(id).filter(|inference| is_reached(inference)) else { continue };
            let name = (session.escrow().clone(), id);
            let mut under_way = self.inner.under_way.lock();
            if under_way.len() >= KNOWN || !under_way.insert(name) {
                continue;
            }
            drop(under_way);
            tokio::spawn(self.clone().check(session.clone(), id, inference.clone()));
        }
    }

    /// Looks at every session that is remembered, for ever: what a process left lying when it died is found, although
    /// its session is silent.
    pub async fn follow(self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            for escrow in self.inner.tools.ledger.remembered() {
                if let Err(error) = self.look_again(&escrow).await {
                    tracing::warn!(session = %escrow, error, "is not looked at");
                }
            }
        }
    }

    async fn look_again(&self, escrow: &EscrowId) -> Result<(), String> {
        let session = self.inner.tools.storage.session(escrow).await.map_err(|error| chain(&error))?;
        let Some(session) = session else { return Ok(()) };
        let state = self.inner.tools.ledger.state_of(&session).await.map_err(|error| chain(&error))?;
        self.look(&session, &state);
        Ok(())
    }

    async fn check(self, session: Session, id: InferenceId, inference: Inference) {
        // It is never closed.
        let place = self.inner.at_once.acquire().await;
        let key = session.key(id);
        let checked = self.leased(&session, &key, &inference).await;
        drop(place);
        let is_done = matches!(checked, Ok(Some(_)));
        match checked {
            Ok(None) => {}
            Ok(Some(verdict)) => {
                self.inner.tools.counters.checked(verdict);
                tracing::info!(inference = %key.idempotency_key(), verdict = verdict.name(), "checked");
            }
            Err(error) => {
                self.inner.tools.counters.checked(Verdict::None);
                tracing::warn!(inference = %key.idempotency_key(), error = %chain(&error), "not checked");
            }
        }
        if !is_done {
            // An owner may ask often, and nothing will be different in a moment.
            tokio::time::sleep(REST).await;
        }
        self.inner.under_way.lock().remove(&(session.escrow().clone(), id));
    }

    /// One check under its lease; `None`: it is another's, done, or of nothing that is there any more.
    async fn leased(
        &self,
        session: &Session,
        key: &ExecutionKey,
        inference: &Inference,
    ) -> Result<Option<Verdict>, NoVerdict> {
        let Tools { storage, ttl, .. } = &self.inner.tools;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        // Nobody here knows which epoch runs: that of the session.
        match storage.acquire_validation(key, session.epoch, ttl_ms).await? {
            Acquire::Insert | Acquire::TakeOver | Acquire::Mine => {}
            Acquire::Held | Acquire::Done | Acquire::Skip => return Ok(None),
        }
        match self.verdict(session, key, inference).await {
            Ok(Some(verdict)) => {
                storage.submit_validation(key, verdict == Verdict::Valid).await?;
                Ok(Some(verdict))
            }
            nothing => {
                storage.release_validation(key).await?;
                nothing
            }
        }
    }

    async fn verdict(
        &self,
        session: &Session,
        key: &ExecutionKey,
        inference: &Inference,
    ) -> Result<Option<Verdict>, NoVerdict> {
        let tools = &self.inner.tools;
        let url = tools.escrows.url(session.escrow(), inference.executor);
        let url = url.ok_or(NoVerdict::NoUrl(inference.executor.0))?;
        let Some(said) = tools.members.payloads(url, session, key.inference).await? else { return Ok(None) };
        let member = session.binding.group.member(inference.executor).ok_or(NoVerdict::NotSigned)?;
        let number = key.inference.to_string();
        let is_signed = [Some(&member.address), member.warm_key.as_ref()]
            .into_iter()
            .flatten()
            .any(|executor| are_signed_payloads(executor, &number, &said.prompt, &said.response, &said.signature));
        if !is_signed {
            return Err(NoVerdict::NotSigned);
        }
        // It has signed something else than what it has committed to.
        let response_hash = Sha256::digest(&said.response);
        if prompt_hash(&said.prompt)[..] != inference.prompt_hash[..]
            || response_hash[..] != inference.response_hash[..]
        {
            return Ok(Some(Verdict::Invalid));
        }
        let Some(answer) = answer_text(&said.response) else { return Ok(Some(Verdict::Invalid)) };
        let again = self.again(key, inference, said.prompt).await?;
        Ok(Some(if again == answer { Verdict::Valid } else { Verdict::Invalid }))
    }

    /// What the model says to the same.
    async fn again(&self, key: &ExecutionKey, inference: &Inference, prompt: Vec<u8>) -> Result<String, NoVerdict> {
        let job = Job {
            key: key.clone(),
            model: inference.model.clone(),
            prompt: Bytes::from(prompt),
            max_tokens: u32::try_from(inference.max_tokens).unwrap_or(u32::MAX),
            stream: true,
            within: self.inner.tools.within,
            purpose: Purpose::Check,
        };
        let (sender, mut payloads) = mpsc::channel::<Bytes>(AHEAD);
        let gathering = async {
            let mut body = Vec::new();
            while let Some(payload) = payloads.recv().await {
                body.extend_from_slice(b"data: ");
                body.extend_from_slice(&payload);
                body.extend_from_slice(b"\n\n");
            }
            body
        };
        let (ran, body) = tokio::join!(self.inner.tools.engine.run(&job, sender), gathering);
        ran?;
        answer_text(&body).ok_or(NoVerdict::Text)
    }
}
