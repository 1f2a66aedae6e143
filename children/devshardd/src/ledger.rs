//! Where the sessions are that this host serves, and what it owes of them (failure mode S03).
//!
//! A state is read from the steps that are stored, remembered, and brought on by those that come. What is remembered is
//! never ahead of what is stored: several hosts append to one session, and whoever was overtaken reads what the others
//! have stored and judges again.
//!
//! Must not live here: HTTP, and how an inference is run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use devshard_core::auth::{Address, Key};
use devshard_core::diffs::Diff;
use devshard_core::ids::{EscrowId, InferenceId, Nonce};
use devshard_core::session::owed::Executed;
use devshard_core::session::plan::plan;
use devshard_core::session::{Slot, State, StepError, Trust};
use devshard_core::wire::{Kind, StateWords, Tx};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::Instant;

use crate::storage::{AppendError, Appended, PAGE, Session, Signature, Storage, StorageError};

/// A session that nobody has asked of for so long is read again when somebody does.
const IDLE: Duration = Duration::from_secs(3_600);
/// From how many on those that are idle are looked for.
const SWEEP_FROM: usize = 1_024;

/// Inferences of which is told at once what is owed, the oldest first, at most: of an owner that takes nothing into its
/// steps more and more is owed.
const TOLD: usize = 64;

/// Why a session does not move, or cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("step {nonce} is stored, and cannot be taken again")]
    Replay {
        nonce: Nonce,
        #[source]
        source: StepError,
    },
    #[error("step {0} is stored with another state than it leads to")]
    OtherState(Nonce),
}

/// The states, and the key of this host. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Storage,
    key: Key,
    me: Address,
    remembered: Mutex<Remembered>,
}

/// A state that is stored, with its root and this host's signature of it.
pub struct Known {
    state: State,
    root: [u8; 32],
    /// Made when it is asked for: of most states that are read again nobody wants one.
    signature: OnceLock<[u8; 65]>,
    /// What this host has to say of inferences whose rows it has read, by whether they have ended: anybody may ask for
    /// it, and it is signed once.
    words: Mutex<BTreeMap<(InferenceId, bool), Vec<Tx>>>,
}

impl Known {
    fn new(state: State) -> Known {
        Known { root: state.root(), state, signature: OnceLock::new(), words: Mutex::default() }
    }

    #[must_use]
    pub const fn root(&self) -> [u8; 32] {
        self.root
    }
}

impl Deref for Known {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

/// A session's state; `None` until it is read. Whoever brings it on holds it.
type Place = Arc<tokio::sync::Mutex<Option<Arc<Known>>>>;

#[derive(Default)]
struct Remembered {
    places: BTreeMap<EscrowId, (Place, Instant)>,
    sweep_at: usize,
}

impl Ledger {
    /// `None` never happens for a key that signs.
    #[must_use]
    pub fn new(storage: Storage, key: Key) -> Option<Ledger> {
        let me = key.address()?;
        Some(Ledger { inner: Arc::new(Inner { storage, key, me, remembered: Mutex::default() }) })
    }

    /// Who this host is for the group.
    #[must_use]
    pub fn me(&self) -> &Address {
        &self.inner.me
    }

    #[must_use]
    pub fn key(&self) -> &Key {
        &self.inner.key
    }

    /// The slots of this host.
    #[must_use]
    pub fn mine(&self, state: &State) -> Vec<Slot> {
        state.slots_of(&self.inner.me)
    }

    /// The sessions that are remembered.
    #[must_use]
    pub fn remembered(&self) -> Vec<EscrowId> {
        self.inner.remembered.lock().places.keys().cloned().collect()
    }

    /// The state behind everything that is stored of a session.
    pub async fn state(&self, session: &Session) -> Result<Arc<Known>, LedgerError> {
        self.touch(session.escrow());
        self.state_of(session).await
    }

    /// The same, of a session of which nobody has asked.
    pub async fn state_of(&self, session: &Session) -> Result<Arc<Known>, LedgerError> {
        let place = self.place(session.escrow());
        let mut remembered = place.lock().await;
        self.caught_up(&mut remembered, session, session.latest).await
    }

    /// Takes the steps that came: they are checked, stored, and the state behind them is signed. All of them, or none.
    /// Returns that state, and whether there is anything new in it.
    pub async fn take(&self, session: &Session, diffs: &[Diff]) -> Result<(Arc<Known>, bool), LedgerError> {
        self.touch(session.escrow());
        let place = self.place(session.escrow());
        let mut remembered = place.lock().await;
        let mut stored = session.latest;
        loop {
            let state = self.caught_up(&mut remembered, session, stored).await?;
            if diffs.is_empty() {
                return Ok((state, false));
            }
            let planned = plan(&state, diffs)?;
            let (known, steps) = (planned.known, &planned.steps);
            let next = Known::new(planned.next);
            let signatures = if steps.is_empty() { Vec::new() } else { self.signatures(&next) };
            match self.inner.storage.append(session, state.latest(), known, steps, &signatures).await? {
                Appended::Stored if steps.is_empty() => return Ok((state, false)),
                Appended::Stored => {
                    let next = Arc::new(next);
                    *remembered = Some(Arc::clone(&next));
                    return Ok((next, true));
                }
                Appended::Moved(latest) => stored = latest,
            }
        }
    }

    /// This host's signature of a state.
    #[must_use]
    pub fn sign(&self, known: &Known) -> [u8; 65] {
        *known.signature.get_or_init(|| {
            let words = StateWords {
                state_root: known.root.to_vec(),
                escrow_id: known.binding().escrow.to_string(),
                nonce: known.latest().0,
            };
            self.inner.key.sign_message(&words.encode_to_vec())
        })
    }

    /// What this host has to say of a session, and what it has heard of other members, that no step says yet.
    pub async fn mempool(&self, session: &Session) -> Result<Vec<Tx>, LedgerError> {
        let state = self.state(session).await?;
        self.owed(session, &state, None).await.map_err(LedgerError::Storage)
    }

    /// The same behind this state; `ended` is an inference whose end is not stored yet.
    pub async fn owed(
        &self,
        session: &Session,
        state: &Known,
        ended: Option<&Executed>,
    ) -> Result<Vec<Tx>, StorageError> {
        let (storage, key) = (&self.inner.storage, &self.inner.key);
        let mine = self.mine(state);
        let open: BTreeSet<InferenceId> = state.unfinished(&mine).collect();
        let mut executed = match (open.first(), open.last()) {
            (Some(first), Some(last)) => storage.executed(session, *first, *last).await?,
            _ => Vec::new(),
        };
        executed.retain(|one| open.contains(&one.id) && ended.is_none_or(|ended| one.id != ended.id));
        executed.truncate(TOLD);
        let mut owed: Vec<Tx> = executed.iter().flat_map(|one| self.words(state, one)).collect();
        // What is not stored may be stored otherwise: it is not remembered.
        owed.extend(ended.into_iter().flat_map(|ended| state.owed_of(key, ended)));
        // Who is alone checks nobody, and hears of nobody.
        if let Some(slot) = mine.first()
            && state.binding().group.len() > mine.len()
        {
            let first = state.live().next().map_or(InferenceId(state.latest().0), |(id, _)| id);
            let checked = storage.checked(session, first).await?;
            owed.extend(checked.into_iter().filter_map(|one| state.owed_of_check(key, *slot, one)));
            owed.extend(storage.kept_txs(session, |tx| state.is_open(tx)).await?);
        }
        Ok(owed)
    }

    /// The same of one inference alone, whatever else is owed.
    pub async fn owed_of(&self, session: &Session, known: &Known, id: InferenceId) -> Result<Vec<Tx>, StorageError> {
        let executed = self.inner.storage.executed(session, id, id).await?;
        let mine = self.mine(known).contains(&known.binding().group.executor(id));
        let mut owed: Vec<Tx> = executed.iter().filter(|_| mine).flat_map(|one| self.words(known, one)).collect();
        let kept = self.inner.storage.kept_txs(session, |tx| known.is_open(tx)).await?;
        owed.extend(kept.into_iter().filter(|tx| is_of_execution(tx, id)));
        Ok(owed)
    }

    fn words(&self, known: &Known, executed: &Executed) -> Vec<Tx> {
        let name = (executed.id, executed.outcome.is_some());
        if let Some(words) = known.words.lock().get(&name) {
            return words.clone();
        }
        let words = known.owed_of(&self.inner.key, executed);
        known.words.lock().insert(name, words.clone());
        words
    }

    fn signatures(&self, state: &Known) -> Vec<Signature> {
        let bytes = self.sign(state).to_vec();
        let slots = self.mine(state).into_iter();
        slots.map(|slot| Signature { nonce: state.latest(), slot, bytes: bytes.clone() }).collect()
    }

    fn place(&self, escrow: &EscrowId) -> Place {
        let (now, mut remembered) = (Instant::now(), self.inner.remembered.lock());
        if remembered.places.len() >= remembered.sweep_at.max(SWEEP_FROM) {
            remembered.places.retain(|_, (_, last)| now.duration_since(*last) < IDLE);
            // Twice what is left: a sweep is paid for by as many sessions as it looks at.
            remembered.sweep_at = remembered.places.len() * 2;
        }
        Arc::clone(&remembered.places.entry(escrow.clone()).or_insert_with(|| (Place::default(), now)).0)
    }

    /// Somebody has asked of this session.
    fn touch(&self, escrow: &EscrowId) {
        if let Some((_, last)) = self.inner.remembered.lock().places.get_mut(escrow) {
            *last = Instant::now();
        }
    }

    /// Brings what is remembered to this step at least, by what is stored.
    async fn caught_up(
        &self,
        remembered: &mut Option<Arc<Known>>,
        session: &Session,
        latest: Nonce,
    ) -> Result<Arc<Known>, LedgerError> {
        let begun = || Arc::new(Known::new(State::begin(session.binding.clone())));
        let mut state = remembered.clone().unwrap_or_else(begun);
        while state.latest() < latest {
            let (from, to) = (Nonce(state.latest().0 + 1), latest);
            let page = self.inner.storage.diffs(session, from, to).await?;
            let Some((_, root)) = page.last() else { return Err(LedgerError::OtherState(from)) };
            let mut next = state.state.clone();
            for (diff, _) in &page {
                let replayed = next.after(diff, Trust::Stored);
                next = replayed.map_err(|source| LedgerError::Replay { nonce: diff.nonce, source })?;
            }
            let next = Known::new(next);
            if next.root[..] != root[..] {
                return Err(LedgerError::OtherState(next.latest()));
            }
            state = Arc::new(next);
            // Whoever asked for it may hang up: what has been read stays.
            *remembered = Some(Arc::clone(&state));
            tracing::debug!(session = %session.escrow(), step = %state.latest(), page = PAGE, "read from what is stored");
        }
        *remembered = Some(Arc::clone(&state));
        Ok(state)
    }
}

/// Whether this is what an executor says of an inference.
fn is_of_execution(tx: &Tx, id: InferenceId) -> bool {
    match &tx.kind {
        Some(Kind::Confirm(confirm)) => confirm.inference_id == id.0,
        Some(Kind::Finish(finish)) => finish.inference_id == id.0,
        Some(
            Kind::Start(_)
            | Kind::Timeout(_)
            | Kind::Validation(_)
            | Kind::Vote(_)
            | Kind::RevealSeed(_)
            | Kind::Finalize(_),
        )
        | None => false,
    }
}
