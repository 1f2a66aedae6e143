//! The place of record, as several hosts use it: by the same checks in a file and in Postgres.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use children_kit::database::Options;
use devshard_core::auth::Address;
use devshard_core::claim::Refused;
use devshard_core::diffs::{Diff, DiffError, Head};
use devshard_core::events::Record;
use devshard_core::ids::{Epoch, EscrowId, ExecutionKey, Fence, InferenceId, Nonce, OwnerId};
use devshard_core::validation::{self, Acquire};
use devshardd::storage::{
    AppendError, Binding, Claimed, Edge, Fault, NotTaken, Session, Storage, StorageError, Validation,
};
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
        let options = Options {
            url: self.url.clone(),
            connections: 4,
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

fn diff(nonce: u64, text: &str) -> Diff {
    let bytes = text.as_bytes().to_vec();
    Diff { nonce: Nonce(nonce), txs: bytes.clone(), user_sig: bytes.clone(), post_state_root: bytes }
}

/// Every check, each in a place of its own.
async fn checks(mut place: impl FnMut(&str) -> Place) {
    an_inference_is_one_hosts(&place("one")).await;
    what_a_dead_host_leaves(&place("dead")).await;
    every_inference_is_taken_once(&place("many")).await;
    a_history_does_not_fork(&place("history")).await;
    one_checks_an_inference(&place("validation")).await;
    an_epoch_is_forgotten(&place("epochs")).await;
    a_mark_is_read_where_it_was_written(&place("marks"), &place("clone")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_s03_a_file_keeps_its_promises() {
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
    old.bind(&escrow("e"), &binding("v1")).await.unwrap();
    postgres.sql("newer", "UPDATE devshard_format SET readers_from = 2").unwrap();
    assert!(matches!(place.open("too-old").await, Err(StorageError::TooNew { found: 2 })));
}

async fn an_inference_is_one_hosts(place: &Place) {
    let (a, b) = (place.host("a").await, place.host("b").await);
    let Claimed::Taken(holder) = a.claim(&key(1)).await.unwrap() else { panic!("a new inference is free") };
    assert_eq!(b.claim(&key(1)).await.unwrap(), Claimed::Wait(owner("a")));
    let early = a.step(&key(1), &holder, Edge::Complete(&record("x"))).await;
    assert!(matches!(early, Err(NotTaken::Refused(Refused::NotDispatched))));
    a.step(&key(1), &holder, Edge::Dispatch).await.unwrap();
    a.step(&key(1), &holder, Edge::Complete(&record("whole"))).await.unwrap();
    for host in [&a, &b] {
        assert_eq!(host.claim(&key(1)).await.unwrap(), Claimed::Done(record("whole")));
    }
    let twice = a.step(&key(1), &holder, Edge::Complete(&record("other"))).await;
    assert!(matches!(twice, Err(NotTaken::Refused(Refused::AlreadyCompleted))));
}

async fn what_a_dead_host_leaves(place: &Place) {
    let (a, b) = (place.host("a").await, place.host("b").await);
    let take = async |host: &Storage, inference| match host.claim(&key(inference)).await.unwrap() {
        Claimed::Taken(holder) => holder,
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
    a.step(&key(2), &dispatched, Edge::Complete(&record("late"))).await.unwrap();
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

fn binding(version: &str) -> Binding {
    Binding { epoch: Epoch(7), version: version.to_owned(), creator: Address::stored("gonka1me".to_owned()) }
}

async fn a_history_does_not_fork(place: &Place) {
    let (a, b) = (place.host("a").await, place.host("b").await);
    let id = escrow("e-1");
    assert_eq!(a.session(&id).await.unwrap(), None);
    let session = a.bind(&id, &binding("v1")).await.unwrap();
    // Whoever comes second gets what is there.
    assert_eq!(b.bind(&id, &binding("v2")).await.unwrap(), session);
    let diffs = [diff(1, "a"), diff(2, "b")];
    let together = tokio::join!(a.append(&session, &diffs), b.append(&session, &diffs));
    assert_eq!(together.0.unwrap(), together.1.unwrap());
    let is = async |host: &Storage, session: &Session, diff: Diff| match host.append(session, &[diff]).await {
        Ok(head) => Ok(head.nonce.0),
        Err(AppendError::Diff(error)) => Err(error),
        Err(AppendError::Storage(error)) => panic!("{error:?}"),
    };
    assert_eq!(is(&b, &session, diff(3, "c")).await, Ok(3));
    assert_eq!(is(&a, &session, diff(2, "b")).await, Ok(3), "a stale host replays what is stored");
    assert_eq!(is(&a, &session, diff(2, "x")).await, Err(DiffError::Fork(Nonce(2))));
    assert_eq!(is(&a, &session, diff(5, "e")).await, Err(DiffError::Gap { latest: Nonce(3), got: Nonce(5) }));
    // All or none.
    let mixed = a.append(&session, &[diff(4, "d"), diff(6, "f")]).await;
    assert!(matches!(mixed, Err(AppendError::Diff(DiffError::Gap { .. }))));
    let stored: Vec<_> =
        a.diffs(&session, Nonce(2), Nonce(9)).await.unwrap().into_iter().map(|(diff, _)| diff).collect();
    assert_eq!(stored, vec![diff(2, "b"), diff(3, "c")]);
    assert_eq!(b.session(&id).await.unwrap().unwrap().latest, Nonce(3));
    let empty = b.bind(&escrow("e-2"), &binding("v1")).await.unwrap();
    assert_eq!(b.append(&empty, &[]).await.unwrap(), Head::START);
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
    let stolen = other.submit_validation(&key(1)).await;
    assert!(matches!(stolen, Err(Validation::Refused(validation::Refused::NotYours))));
    // What was left lying is taken over, and its first holder is too late.
    assert_eq!(ask(other, 7, 0).await, Acquire::TakeOver);
    let late = holder.submit_validation(&key(1)).await;
    assert!(matches!(late, Err(Validation::Refused(validation::Refused::NotYours))));
    other.submit_validation(&key(1)).await.unwrap();
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
        let binding = Binding { epoch: Epoch(epoch), ..binding("v1") };
        let session = host.bind(&escrow(name), &binding).await.unwrap();
        host.append(&session, &[diff(1, name)]).await.unwrap();
    }
    assert!(host.prune(Epoch(4)).await.unwrap() > 0);
    assert_eq!(host.session(&escrow("old")).await.unwrap(), None);
    let kept = host.session(&escrow("new")).await.unwrap().unwrap();
    assert_eq!(host.diffs(&kept, Nonce(0), Nonce(9)).await.unwrap().len(), 1);
    // An epoch that comes again has its tables again.
    let again = Binding { epoch: Epoch(3), ..binding("v1") };
    host.bind(&escrow("old"), &again).await.unwrap();
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
