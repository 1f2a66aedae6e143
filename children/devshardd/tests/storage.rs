//! The place of record, as several hosts use it: by the same checks in a file and in Postgres.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use children_kit::database::Options;
use devshard_core::auth::Key;
use devshard_core::claim::Refused;
use devshard_core::diffs::{Diff, Fork};
use devshard_core::events::Record;
use devshard_core::ids::{Epoch, EscrowId, ExecutionKey, Fence, InferenceId, Nonce, OwnerId};
use devshard_core::session::owed::{Checked, Executed, Outcome};
use devshard_core::session::{Binding, Group, Member, Slot, StepError, Terms};
use devshard_core::validation::{self, Acquire};
use devshard_core::wire::{Content, Finish, Kind, RevealSeed, Tx, Validation as Word};
use devshardd::ledger::{Ledger, LedgerError};
use devshardd::storage::{
    AppendError, Claimed, Edge, Fault, NotTaken, Session, Signature, Storage, StorageError, Taken, Validation, Whole,
};
use prost::Message as _;
use test_postgres::Postgres;

/// Where one check is made.
struct Place {
    url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    /// One of several processes that use it.
    async fn host(&self, name: &str) -> Storage {
        let storage = self.open(name).await.unwrap();
        storage.renew().await.unwrap();
        storage
    }

    async fn open(&self, name: &str) -> Result<Storage, StorageError> {
        self.open_with(name, 4).await
    }

    async fn open_with(&self, name: &str, connections: u32) -> Result<Storage, StorageError> {
        let options = Options {
            url: self.url.clone(),
            connections,
            within: Duration::from_secs(20),
            patience: Duration::from_secs(5),
        };
        Storage::open(&options, owner(name), Fault::None, |_| {}).await
    }
}

fn owner(name: &str) -> OwnerId {
    name.parse().unwrap()
}

fn key(inference: u64) -> ExecutionKey {
    ExecutionKey { epoch: Epoch(7), escrow: escrow("e-1"), inference: InferenceId(inference) }
}

fn escrow(name: &str) -> EscrowId {
    name.parse().unwrap()
}

fn record(text: &str) -> Record {
    let mut record = Record::default();
    assert!(record.push(text.as_bytes()));
    record
}

const OUTCOME: Outcome = Outcome { response_hash: [7; 32], input_tokens: 80, output_tokens: 40 };

fn whole(record: &Record) -> Edge<'_> {
    Edge::Complete(Whole { record, prompt: Some(b"{}"), outcome: &OUTCOME })
}

fn secret(number: u8) -> Key {
    Key::from_hex(&format!("{number:064x}")).unwrap()
}

/// A step of a session that nothing follows from; with another number it has other bytes.
fn diff(escrow: &EscrowId, nonce: u64, number: u32) -> Diff {
    let seed = Kind::RevealSeed(RevealSeed { slot_id: number, ..RevealSeed::default() });
    let bare = Content { nonce, txs: vec![Tx::of(seed)], ..Content::default() };
    let signed = Content { escrow_id: escrow.to_string(), ..bare.clone() }.encode_to_vec();
    let user_sig = secret(9).sign_message(&signed).to_vec();
    Diff { nonce: Nonce(nonce), txs: bare.encode_to_vec(), user_sig, post_state_root: vec![] }
}

/// Every check, each in a place of its own.
async fn checks(mut place: impl FnMut(&str) -> Place) {
    an_inference_is_one_hosts(&place("one")).await;
    what_a_dead_host_leaves(&place("dead")).await;
    every_inference_is_taken_once(&place("many")).await;
    a_history_does_not_fork(&place("history")).await;
    what_members_say_is_kept(&place("words")).await;
    one_checks_an_inference(&place("validation")).await;
    an_epoch_is_forgotten(&place("epochs")).await;
    a_mark_is_read_where_it_was_written(&place("marks"), &place("clone")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_s03_s04_a_file_keeps_its_promises() {
    checks(|_| {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}?mode=rwc", folder.path().join("devshard.db").display());
        Place { url, _folder: Some(folder) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_s03_s17_s18_postgres_keeps_its_promises() {
    let postgres = Postgres::start().unwrap();
    checks(|name| Place { url: postgres.create(&format!("check_{name}")).unwrap(), _folder: None }).await;
    hosts_begin_at_once(&Place { url: postgres.create("boot").unwrap(), _folder: None }).await;
    // What a newer build has added is passed over; a format that needs newer readers is refused by name.
    let url = postgres.create("newer").unwrap();
    let place = Place { url, _folder: None };
    place.host("old").await;
    postgres.sql("newer", "ALTER TABLE devshard_sessions ADD COLUMN later TEXT").unwrap();
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'later', true, ''::bytea, 0)";
    postgres.sql("newer", later).unwrap();
    let old = place.host("old-again").await;
    old.bind(Epoch(7), "v1", &binding("e")).await.unwrap();
    postgres.sql("newer", "UPDATE devshard_format SET readers_from = 2").unwrap();
    assert!(matches!(place.open("too-old").await, Err(StorageError::TooNew { found: 2 })));
}

async fn an_inference_is_one_hosts(place: &Place) {
    let (a, b) = (place.host("a").await, place.host("b").await);
    let Claimed::Taken(Taken { holder, confirmed_at }) = a.claim(&key(1)).await.unwrap() else {
        panic!("a new inference is free")
    };
    assert!(confirmed_at > 1_700_000_000, "{confirmed_at}");
    assert_eq!(b.claim(&key(1)).await.unwrap(), Claimed::Wait(owner("a")));
    let early = a.step(&key(1), &holder, whole(&record("x"))).await;
    assert!(matches!(early, Err(NotTaken::Refused(Refused::NotDispatched))));
    a.step(&key(1), &holder, Edge::Dispatch).await.unwrap();
    a.step(&key(1), &holder, whole(&record("whole"))).await.unwrap();
    for host in [&a, &b] {
        assert_eq!(host.claim(&key(1)).await.unwrap(), Claimed::Done(record("whole")));
    }
    let twice = a.step(&key(1), &holder, whole(&record("other"))).await;
    assert!(matches!(twice, Err(NotTaken::Refused(Refused::AlreadyCompleted))));
}

async fn what_a_dead_host_leaves(place: &Place) {
    let (a, b) = (place.host("a").await, place.host("b").await);
    let take = async |host: &Storage, inference| match host.claim(&key(inference)).await.unwrap() {
        Claimed::Taken(taken) => taken.holder,
        other @ (Claimed::Wait(_) | Claimed::Done(_) | Claimed::Uncertain) => panic!("{other:?}"),
    };
    let claimed = take(&a, 1).await;
    let dispatched = take(&a, 2).await;
    a.step(&key(2), &dispatched, Edge::Dispatch).await.unwrap();
    let abandoned = take(&a, 3).await;
    a.step(&key(3), &abandoned, Edge::Abandon).await.unwrap();
    // Its lease ends.
    a.resign().await.unwrap();
    assert_eq!(take(&b, 1).await.fence, Fence(2), "what was only claimed is free");
    assert_eq!(b.claim(&key(2)).await.unwrap(), Claimed::Uncertain, "the model may have run");
    assert_eq!(take(&b, 3).await.fence, Fence(2), "what was abandoned is free");
    // It was not dead after all: what it claimed is not its own any more, what it ran is stored.
    let late = a.step(&key(1), &claimed, Edge::Dispatch).await;
    assert!(matches!(late, Err(NotTaken::Refused(Refused::Stale))));
    a.step(&key(2), &dispatched, whole(&record("late"))).await.unwrap();
    assert_eq!(b.claim(&key(2)).await.unwrap(), Claimed::Done(record("late")));
}

/// Hosts that ask for the same inferences at the same moment.
async fn every_inference_is_taken_once(place: &Place) {
    let mut asking = tokio::task::JoinSet::new();
    for host in 0..4 {
        let storage = place.host(&format!("h{host}")).await;
        for inference in 0..25 {
            let storage = storage.clone();
            asking.spawn(async move { (inference, storage.claim(&key(inference)).await.unwrap()) });
        }
    }
    let mut taken = vec![0; 25];
    while let Some(asked) = asking.join_next().await {
        let (inference, claimed) = asked.unwrap();
        taken[usize::try_from(inference).unwrap()] += u32::from(matches!(claimed, Claimed::Taken(_)));
    }
    assert_eq!(taken, vec![1; 25]);
}

/// Two members, of whom this host is the first; the owner has the key 9.
fn binding(name: &str) -> Binding {
    let member = |number| Member { address: secret(number).address().unwrap(), warm_key: None };
    let group = Group::new(vec![member(1), member(2)]).unwrap();
    Binding::new(escrow(name), secret(9).address().unwrap(), 0, Terms::free(), group).unwrap()
}

/// What a host says of steps.
async fn takes(ledger: &Ledger, session: &Session, diffs: &[Diff]) -> Result<u64, LedgerError> {
    ledger.take(session, diffs).await.map(|(state, _)| state.latest().0)
}

async fn a_history_does_not_fork(place: &Place) {
    let (a, b) = (place.host("a").await, place.host("b").await);
    let (first, second) = (Ledger::new(a.clone(), secret(1)).unwrap(), Ledger::new(b.clone(), secret(1)).unwrap());
    let id = escrow("e-1");
    let of = |nonce, number| diff(&id, nonce, number);
    assert_eq!(a.session(&id).await.unwrap(), None);
    let session = a.bind(Epoch(7), "v1", &binding("e-1")).await.unwrap();
    // Whoever comes second gets what is there.
    let other = Binding { amount: 5, ..binding("e-1") };
    assert_eq!(b.bind(Epoch(8), "v2", &other).await.unwrap(), session);
    let diffs = [of(1, 0), of(2, 0)];
    let together = tokio::join!(takes(&first, &session, &diffs), takes(&second, &session, &diffs));
    assert_eq!((together.0.unwrap(), together.1.unwrap()), (2, 2));
    // Both believe that the next is theirs: one is stored, and the other is told.
    let (mine, theirs) = ([of(3, 1)], [of(3, 2)]);
    let together = tokio::join!(takes(&first, &session, &mine), takes(&second, &session, &theirs));
    let (stored, forked) = match together {
        (Ok(3), Err(error)) => (&mine, error),
        (Err(error), Ok(3)) => (&theirs, error),
        unexpected => panic!("{unexpected:?}"),
    };
    let is_fork = |error| matches!(error, LedgerError::Append(AppendError::Fork(Fork(Nonce(_)))));
    assert!(is_fork(forked));
    for (ledger, storage) in [(&first, &a), (&second, &b)] {
        // A stale host replays what is stored, and is where the other is.
        assert_eq!(takes(ledger, &session, stored).await.unwrap(), 3);
        assert_eq!(takes(ledger, &session, &[of(2, 0), stored[0].clone()]).await.unwrap(), 3);
        assert!(is_fork(takes(ledger, &session, &[of(2, 7)]).await.unwrap_err()));
        assert!(is_fork(takes(ledger, &session, &[of(2, 7), of(3, 7), of(4, 0)]).await.unwrap_err()), "all or none");
        let gap = takes(ledger, &session, &[of(5, 0)]).await.unwrap_err();
        let latest = Nonce(3);
        assert!(
            matches!(gap, LedgerError::Step(StepError::NotNext { latest: found, got: Nonce(5) }) if found == latest)
        );
        let mixed = takes(ledger, &session, &[of(4, 0), of(6, 0)]).await.unwrap_err();
        assert!(matches!(mixed, LedgerError::Step(StepError::NotNext { .. })), "all or none");
        assert_eq!(storage.session(&id).await.unwrap().unwrap().latest, latest);
    }
    let page = a.diffs(&session, Nonce(2), Nonce(u64::MAX)).await.unwrap();
    let expected = vec![of(2, 0), stored[0].clone()];
    assert_eq!(page.iter().map(|(diff, _)| diff.clone()).collect::<Vec<_>>(), expected);
    // A host that has never seen the session reads it to the same state, which this member has signed.
    let third = Ledger::new(place.open_with("c", 1).await.unwrap(), secret(1)).unwrap();
    let session = a.session(&id).await.unwrap().unwrap();
    let state = third.state(&session).await.unwrap();
    assert_eq!(state.root()[..], page[1].1[..]);
    let signed = a.signatures(&session, Nonce(3)).await.unwrap();
    assert_eq!(signed.into_iter().collect::<Vec<_>>(), [(Slot(0), third.sign(&state).to_vec())]);
    // One connection is enough, for what is known and what is new at once.
    assert_eq!(takes(&third, &session, &[stored[0].clone(), of(4, 0)]).await.unwrap(), 4);
    let empty = b.bind(Epoch(7), "v1", &binding("e-2")).await.unwrap();
    assert_eq!(takes(&second, &empty, &[]).await.unwrap(), 0);
}

/// What is owed is read from what is stored, by every process of a member.
async fn what_members_say_is_kept(place: &Place) {
    let (a, b) = (place.host("a").await, place.host("b").await);
    let session = a.bind(Epoch(7), "v1", &binding("e-1")).await.unwrap();
    // An execution is owed from its claim on, at the time of its first claim.
    let Claimed::Taken(taken) = a.claim(&key(2)).await.unwrap() else { panic!("a new inference is free") };
    let executed = |outcome| Executed { id: InferenceId(2), confirmed_at: taken.confirmed_at, outcome };
    assert_eq!(b.executed(&session, InferenceId(0), InferenceId(9)).await.unwrap(), [executed(None)]);
    a.step(&key(2), &taken.holder, Edge::Dispatch).await.unwrap();
    assert_eq!(b.said(&key(2)).await.unwrap(), None);
    a.step(&key(2), &taken.holder, whole(&record("x"))).await.unwrap();
    assert_eq!(b.executed(&session, InferenceId(2), InferenceId(9)).await.unwrap(), [executed(Some(OUTCOME))]);
    assert_eq!(b.executed(&session, InferenceId(3), InferenceId(9)).await.unwrap(), []);
    let said = b.said(&key(2)).await.unwrap().unwrap();
    assert_eq!((&said.prompt[..], said.record), (&b"{}"[..], record("x")));
    // So is a check, once it is submitted.
    assert_eq!(a.acquire_validation(&key(3), Epoch(7), 60_000).await.unwrap(), Acquire::Insert);
    assert_eq!(b.checked(&session, InferenceId(0)).await.unwrap(), []);
    a.submit_validation(&key(3), false).await.unwrap();
    let expected = [Checked { id: InferenceId(3), is_valid: false }];
    assert_eq!(b.checked(&session, InferenceId(0)).await.unwrap(), expected);
    // What others say is kept once, and forgotten once it is owed no more.
    let finish = Tx::of(Kind::Finish(Finish { inference_id: 5, ..Finish::default() }));
    let word = Tx::of(Kind::Validation(Word { inference_id: 6, ..Word::default() }));
    a.keep_txs(&session, &[finish.clone(), word.clone(), finish.clone()]).await.unwrap();
    assert_eq!(b.kept_txs(&session, |_| true).await.unwrap().len(), 2);
    assert_eq!(b.kept_txs(&session, |tx| *tx == word).await.unwrap(), std::slice::from_ref(&word));
    assert_eq!(a.kept_txs(&session, |_| true).await.unwrap(), [word]);
    // Two of two have signed: the step is final.
    let signature = |slot| Signature { nonce: Nonce(4), slot: Slot(slot), bytes: vec![1; 65] };
    a.keep_signatures(&session, &[signature(0)]).await.unwrap();
    assert_eq!(b.last_finalized(&session).await.unwrap(), Nonce(0));
    b.keep_signatures(&session, &[signature(1), signature(1)]).await.unwrap();
    assert_eq!(a.last_finalized(&session).await.unwrap(), Nonce(4));
}

async fn one_checks_an_inference(place: &Place) {
    let (a, b) = (place.host("a").await, place.host("b").await);
    let ask =
        async |host: &Storage, chain, ttl_ms| host.acquire_validation(&key(1), Epoch(chain), ttl_ms).await.unwrap();
    let both = tokio::join!(ask(&a, 7, 60_000), ask(&b, 7, 60_000));
    let (holder, other) = match both {
        (Acquire::Insert, Acquire::Held) => (&a, &b),
        (Acquire::Held, Acquire::Insert) => (&b, &a),
        unexpected => panic!("{unexpected:?}"),
    };
    assert_eq!(ask(holder, 7, 60_000).await, Acquire::Mine);
    let stolen = other.submit_validation(&key(1), true).await;
    assert!(matches!(stolen, Err(Validation::Refused(validation::Refused::NotYours))));
    // What was left lying is taken over, and its first holder is too late.
    assert_eq!(ask(other, 7, 0).await, Acquire::TakeOver);
    let late = holder.submit_validation(&key(1), true).await;
    assert!(matches!(late, Err(Validation::Refused(validation::Refused::NotYours))));
    other.submit_validation(&key(1), true).await.unwrap();
    assert_eq!(ask(holder, 7, 0).await, Acquire::Done);
    // A check that is given back is free at once; one of an epoch that is over is passed over for good.
    let next = key(2);
    assert_eq!(a.acquire_validation(&next, Epoch(7), 60_000).await.unwrap(), Acquire::Insert);
    a.release_validation(&next).await.unwrap();
    assert_eq!(b.acquire_validation(&next, Epoch(8), 60_000).await.unwrap(), Acquire::Skip);
    assert_eq!(a.acquire_validation(&next, Epoch(8), 60_000).await.unwrap(), Acquire::Done);
}

/// S18: hosts that find an empty database at the same moment.
async fn hosts_begin_at_once(place: &Place) {
    let names: Vec<_> = (0..4).map(|host| format!("h{host}")).collect();
    let begun = futures_util::future::join_all(names.iter().map(|name| place.open(name))).await;
    for storage in begun {
        storage.unwrap().renew().await.unwrap();
    }
}

async fn an_epoch_is_forgotten(place: &Place) {
    let host = place.host("a").await;
    for (name, epoch) in [("old", 3), ("new", 4)] {
        let session = host.bind(Epoch(epoch), "v1", &binding(name)).await.unwrap();
        let ledger = Ledger::new(host.clone(), secret(1)).unwrap();
        assert_eq!(takes(&ledger, &session, &[diff(&escrow(name), 1, 0)]).await.unwrap(), 1);
    }
    assert!(host.prune(Epoch(4)).await.unwrap() > 0);
    assert_eq!(host.session(&escrow("old")).await.unwrap(), None);
    let kept = host.session(&escrow("new")).await.unwrap().unwrap();
    assert_eq!(host.diffs(&kept, Nonce(0), Nonce(9)).await.unwrap().len(), 1);
    // An epoch that comes again has its tables again.
    host.bind(Epoch(3), "v1", &binding("old")).await.unwrap();
}

/// S17: the proof that hosts give each other.
async fn a_mark_is_read_where_it_was_written(place: &Place, other: &Place) {
    let (a, b, elsewhere) = (place.host("a").await, place.host("b").await, other.host("c").await);
    assert_eq!(a.uuid().await.unwrap(), b.uuid().await.unwrap());
    assert_ne!(a.uuid().await.unwrap(), elsewhere.uuid().await.unwrap());
    a.mark("fresh").await.unwrap();
    assert_eq!(b.mark_of("a").await.unwrap().as_deref(), Some("fresh"));
    assert_eq!(elsewhere.mark_of("a").await.unwrap(), None);
}
