//! Runs inferences, each to its end, whatever becomes of the clients that asked for them (failure modes S01, S02, S20).
//!
//! ```text
//!  request ──► Host::open ──► one flight for each inference ◄── request
//!                                  │ a task of its own
//!              claim ─ taken ─► dispatch ─► engine ─► store ─► whole
//!                │
//!                ├ another runs it ─► asked again until it is done
//!                ├ done ─► the stored result
//!                └ uncertain ─► a typed end
//! ```
//!
//! Must not live here: HTTP, and what a session is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use children_kit::log::chain;
use devshard_core::claim::{Holder, Refused};
use devshard_core::events::{EndCode, Executor, Receipt, Record, meta};
use devshard_core::ids::ExecutionKey;
use devshard_core::session::owed::{Executed, Outcome as Committed};
use devshard_core::wire::Tx;
use parking_lot::Mutex;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use supervisor_sdk::{Context, Lease, StreamClass};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::engine::{Engine, EngineError, Job, Purpose};
use crate::flight::Flight;
use crate::ledger::{Known, Ledger};
use crate::metrics::{Counters, Outcome};
use crate::storage::{Claimed, Edge, NotTaken, Session, Storage, Taken, Whole};

/// Between two questions whether another process is done.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// For so long a database that fails is asked again before a client is told.
const STORAGE_PATIENCE: Duration = Duration::from_secs(5);
/// A whole result is not given up as long as this process may live.
const STORE_PATIENCE: Duration = Duration::from_secs(600);
/// Between two attempts at the database.
const RETRY: Duration = Duration::from_millis(250);
/// Payloads that an engine may be ahead of what is written down.
const AHEAD: usize = 64;

/// Runs inferences. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    context: Context,
    storage: Storage,
    ledger: Ledger,
    engine: Engine,
    counters: Counters,
    flights: Mutex<BTreeMap<ExecutionKey, Arc<Flight>>>,
}

impl Host {
    #[must_use]
    pub fn new(context: Context, storage: Storage, ledger: Ledger, engine: Engine, counters: Counters) -> Host {
        Host { inner: Arc::new(Inner { context, storage, ledger, engine, counters, flights: Mutex::default() }) }
    }

    /// The flight of this inference: the one that is under way, or a new one, of the session in this state.
    pub fn open(&self, job: Job, session: Session, state: Arc<Known>) -> Arc<Flight> {
        let flight = match self.inner.flights.lock().entry(job.key.clone()) {
            Entry::Occupied(found) => return Arc::clone(found.get()),
            Entry::Vacant(place) => Arc::clone(place.insert(Flight::new(job.key.inference))),
        };
        let lease = self.inner.context.owed(StreamClass::Stream);
        let run = Run { inner: Arc::clone(&self.inner), flight: Arc::clone(&flight), job, session, state };
        tokio::spawn(run.fly(lease));
        flight
    }

    /// Whether a model may be behind it that can open what is sealed.
    #[must_use]
    pub fn takes_sealed(&self) -> bool {
        self.inner.engine.takes_sealed()
    }

    /// Inferences that are under way here.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.inner.flights.lock().len()
    }

    /// Once this process is to stop and nothing is under way here any more, it says that it is gone.
    pub async fn leave(self, life: tokio::task::JoinHandle<()>) {
        self.inner.context.stopping().await;
        while self.under_way() > 0 {
            tokio::time::sleep(RETRY).await;
        }
        life.abort();
        if let Err(error) = self.inner.storage.resign().await {
            tracing::warn!(error = %chain(&error), "the lease of this process ends by itself");
        }
    }
}

/// The task of one flight.
struct Run {
    inner: Arc<Inner>,
    flight: Arc<Flight>,
    job: Job,
    session: Session,
    state: Arc<Known>,
}

impl Run {
    /// To its end, which is always told.
    async fn fly(self, _lease: Lease) {
        let landing = Landing { run: &self, outcome: None };
        let outcome = self.run().await;
        landing.with(outcome);
    }

    async fn run(&self) -> Outcome {
        let until = Instant::now() + self.job.within;
        let mut broken_since = None;
        loop {
            match self.inner.storage.claim(&self.job.key).await {
                Ok(Claimed::Taken(taken)) => return self.execute(&taken).await,
                Ok(Claimed::Done(record)) => {
                    self.flight.whole(record);
                    return Outcome::Replayed;
                }
                Ok(Claimed::Uncertain) => {
                    return self.early(EndCode::OutcomeUncertain, "the model was called by a host that is gone");
                }
                Ok(Claimed::Wait(owner)) => {
                    broken_since = None;
                    if Instant::now() >= until {
                        return self.early(EndCode::StillRunning, &format!("{owner} runs it"));
                    }
                    tokio::time::sleep(ASK_EVERY).await;
                }
                Err(error) => {
                    let since = *broken_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= STORAGE_PATIENCE {
                        return self.early(EndCode::StorageUnavailable, &chain(&error));
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn execute(&self, taken: &Taken) -> Outcome {
        let holder = &taken.holder;
        self.flight.push(&receipt(&self.inner.ledger, &self.state, Some((&self.job.key, taken.confirmed_at))));
        match self.step(holder, Edge::Dispatch, STORAGE_PATIENCE).await {
            Ok(()) => {}
            Err(NotTaken::Refused(refused)) => {
                return self.early(EndCode::StillRunning, &format!("its claim is lost: {refused}"));
            }
            Err(NotTaken::Storage(error)) => {
                // Whether it was written is not known; that the model was not called is.
                self.abandon(holder).await;
                return self.early(EndCode::StorageUnavailable, &chain(&error));
            }
        }
        self.inner.counters.dispatched();
        match self.ask().await {
            Ok(()) => self.store(taken).await,
            Err(error) if error.has_not_run() => {
                self.abandon(holder).await;
                self.early(EndCode::ModelUnavailable, &chain(&error))
            }
            Err(error) => {
                let given_up = self.step(holder, Edge::GiveUp, STORAGE_PATIENCE).await;
                self.told("give_up", given_up);
                let code = match error {
                    EngineError::TooSlow(_) => EndCode::ModelTimeout,
                    EngineError::BrokenOff(_)
                    | EngineError::Cancelled
                    | EngineError::NotReached(_)
                    | EngineError::Refused { .. } => EndCode::ModelFailed,
                };
                self.early(code, &chain(&error))
            }
        }
    }

    /// Has the engine say what it says, event by event.
    async fn ask(&self) -> Result<(), EngineError> {
        let (sender, mut payloads) = mpsc::channel::<Bytes>(AHEAD);
        let writing = async {
            while let Some(payload) = payloads.recv().await {
                if !self.flight.push(&payload) {
                    return;
                }
            }
        };
        let (ran, ()) = tokio::join!(self.inner.engine.run(&self.job, sender), writing);
        ran
    }

    /// The meta event is told once everything is stored: whoever has it has a result that stays.
    async fn store(&self, taken: &Taken) -> Outcome {
        let mut record = self.flight.so_far();
        let outcome = self.committed(&record);
        record.push(&meta(&self.owed(taken, &outcome).await));
        let prompt = match self.job.purpose {
            Purpose::Answer | Purpose::Check => Some(&self.job.prompt[..]),
            Purpose::Sealed => None,
        };
        let whole = Whole { record: &record, prompt, outcome: &outcome };
        match self.step(&taken.holder, Edge::Complete(whole), STORE_PATIENCE).await {
            Ok(()) => {
                self.flight.whole(record);
                Outcome::Completed
            }
            Err(NotTaken::Refused(Refused::AlreadyCompleted)) => self.first_stored().await,
            Err(NotTaken::Refused(refused)) => {
                self.early(EndCode::OutcomeUncertain, &format!("the result was not stored: {refused}"))
            }
            Err(NotTaken::Storage(error)) => self.early(EndCode::StorageUnavailable, &chain(&error)),
        }
    }

    /// What this host commits to by its name.
    fn committed(&self, record: &Record) -> Committed {
        let inference = self.state.inference(self.job.key.inference);
        let (input_tokens, output_tokens) = record.tokens(inference.map_or(0, |inference| inference.input_length));
        Committed { response_hash: Sha256::digest(record.body()).into(), input_tokens, output_tokens }
    }

    /// What the owner is to put into its next step: what this host has to say, of this inference at least.
    async fn owed(&self, taken: &Taken, outcome: &Committed) -> Vec<String> {
        let ledger = &self.inner.ledger;
        let ended =
            Executed { id: self.job.key.inference, confirmed_at: taken.confirmed_at, outcome: Some(outcome.clone()) };
        let owed = ledger.owed(&self.session, &self.state, Some(&ended)).await.unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "of the rest of what is owed nothing is told");
            self.state.owed_of(ledger.key(), &ended)
        });
        coded(&owed)
    }

    /// Another result was stored first: that is the result.
    async fn first_stored(&self) -> Outcome {
        match self.inner.storage.claim(&self.job.key).await {
            Ok(Claimed::Done(record)) => {
                self.flight.whole(record);
                Outcome::Replayed
            }
            Ok(Claimed::Taken(_) | Claimed::Wait(_) | Claimed::Uncertain) => {
                self.early(EndCode::OutcomeUncertain, "a result was stored, and is gone")
            }
            Err(error) => self.early(EndCode::StorageUnavailable, &chain(&error)),
        }
    }

    async fn abandon(&self, holder: &Holder) {
        let abandoned = self.step(holder, Edge::Abandon, STORAGE_PATIENCE).await;
        self.told("abandon", abandoned);
    }

    /// A step that is tried again while the database fails. One that had been taken, with the answer lost, is taken.
    async fn step(&self, holder: &Holder, edge: Edge<'_>, patience: Duration) -> Result<(), NotTaken> {
        let begun = Instant::now();
        let mut is_first = true;
        loop {
            match self.inner.storage.step(&self.job.key, holder, edge).await {
                Err(NotTaken::Storage(error)) if begun.elapsed() < patience => {
                    tracing::warn!(inference = %self.job.key.idempotency_key(), error = %chain(&error), "tried again");
                    tokio::time::sleep(RETRY).await;
                }
                Err(NotTaken::Refused(refused)) if !is_first && was_taken(edge, refused) => return Ok(()),
                stepped => return stepped,
            }
            is_first = false;
        }
    }

    fn told(&self, step: &str, stepped: Result<(), NotTaken>) {
        if let Err(error) = stepped {
            // The row tells others less than is known here; its owner's lease ends, and they take it for uncertain.
            tracing::warn!(inference = %self.job.key.idempotency_key(), step, error = %chain(&error), "not written");
        }
    }

    fn early(&self, code: EndCode, message: &str) -> Outcome {
        tracing::warn!(inference = %self.job.key.idempotency_key(), code = code.code(), message, "ended early");
        self.flight.early(code, message.to_owned());
        Outcome::Early(code)
    }
}

/// The end of a flight, also of one that panics: whoever follows it hears of an end, and whoever asks from here on
/// finds what is stored.
struct Landing<'a> {
    run: &'a Run,
    outcome: Option<Outcome>,
}

impl Landing<'_> {
    fn with(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let code = EndCode::OutcomeUncertain;
        // Where an end was told, it stays.
        self.run.flight.early(code, "the host has failed".to_owned());
        self.run.inner.counters.ended(self.outcome.unwrap_or(Outcome::Early(code)));
        self.run.inner.flights.lock().remove(&self.run.job.key);
    }
}

/// Event 0: the state of a session, signed, and of an inference with the time at which it was claimed its receipt.
#[must_use]
pub fn receipt(ledger: &Ledger, state: &Known, claimed: Option<(&ExecutionKey, i64)>) -> Vec<u8> {
    let executor = claimed.and_then(|(key, confirmed_at)| {
        let signature = state.receipt(ledger.key(), key.inference, confirmed_at)?;
        Some(Executor { receipt: STANDARD.encode(signature), confirmed_at })
    });
    Receipt {
        state_sig: STANDARD.encode(ledger.sign(state)),
        state_hash: STANDARD.encode(state.root()),
        nonce: state.latest(),
        executor,
    }
    .payload()
}

/// Transactions as they are sent: each in base64.
#[must_use]
pub fn coded(txs: &[Tx]) -> Vec<String> {
    txs.iter().map(|tx| STANDARD.encode(tx.encode_to_vec())).collect()
}

/// Whether this refusal says that the step was taken before.
const fn was_taken(edge: Edge<'_>, refused: Refused) -> bool {
    match (edge, refused) {
        (Edge::Dispatch, Refused::Dispatched)
        | (Edge::Complete(_), Refused::AlreadyCompleted)
        | (Edge::GiveUp, Refused::GivenUp) => true,
        (Edge::Dispatch | Edge::Complete(_) | Edge::GiveUp | Edge::Abandon, _) => false,
    }
}

/// Keeps the lease that this process has for as long as it lives, and says when it cannot.
pub async fn stay_alive(storage: Storage) {
    let every = crate::storage::LEASE / 3;
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = storage.renew().await {
            tracing::warn!(error = %chain(&error), "the lease of this process is not renewed");
        }
    }
}
