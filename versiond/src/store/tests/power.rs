//! Power lost between any two operations of the store, with everything that a disk may make of what was not
//! synchronised: the operations of a run are recorded, and every state that they may have left is built and
//! gone on from.

use std::collections::BTreeSet;
use std::fs;

use bytes::Bytes;

use super::mirror::{Answer, Mirror};
use super::recorded::{Op, Recorded, State, build, read, states};
use super::*;
use crate::process::seal;

/// The program of every artifact here.
const PROGRAM: &[u8] = b"\x7fELF a program of some length, so that half of it is something else";

/// A run of the store on a recorded disk.
struct Run {
    folder: TempDir,
    disk: Recorded,
    before: State,
}

impl Run {
    fn on(folder: TempDir) -> Run {
        let mut before = State::new();
        read(folder.path(), Path::new(""), &mut before);
        let disk = Recorded::new(folder.path());
        Run { folder, disk, before }
    }

    fn store(&self) -> Store {
        open_on(&self.disk, &self.folder)
    }

    fn ops(&self) -> Vec<Op> {
        self.disk.ops.lock().clone()
    }
}

fn open_on(disk: &Recorded, folder: &TempDir) -> Store {
    // One for all: each would read the machine's certificates.
    static CLIENT: std::sync::LazyLock<Client> = std::sync::LazyLock::new(|| Client::new(HERE, SILENCE, None).unwrap());
    Store::open_on(Arc::new(disk.clone()), &folder.path().join("store"), true, CLIENT.clone()).unwrap()
}

/// An empty store that is on the disk for good.
fn empty() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("store")).unwrap();
    folder
}

/// From every state the store opens, gives out the right bytes or none, and comes to hold them whole.
async fn converges(run: &Run, wanted: &Artifact) -> usize {
    let ops = run.ops();
    let all: BTreeSet<State> = (0..=ops.len()).flat_map(|count| states(&run.before, &ops[..count])).collect();
    for state in &all {
        let folder = build(state);
        let store = open_on(&Recorded::new(folder.path()), &folder);
        let installed = store.installed(wanted.sha256, None).await.unwrap();
        if let Some(installed) = &installed {
            assert_eq!(fs::read(&installed.path).unwrap(), PROGRAM, "{state:?}");
        }
        let came = get(&store, wanted, None).await.unwrap_or_else(|error| panic!("{error:?} from {state:?}"));
        let sealed = seal(&came.path, Some(came.entry_sha256)).unwrap();
        assert_eq!(sealed.sha256(), sha256(PROGRAM), "{state:?}");
        assert_eq!(names(&folder), [wanted.sha256.to_string()], "{state:?}");
    }
    all.len()
}

/// Whether the artifact is there in every state that the whole run may have left.
async fn is_durable(before: &State, ops: &[Op], wanted: &Artifact) -> bool {
    for state in states(before, ops) {
        let folder = build(&state);
        if open_on(&Recorded::new(folder.path()), &folder).installed(wanted.sha256, None).await.unwrap().is_none() {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn f44_power_lost_at_any_point_of_a_fetch_leaves_the_artifact_whole_or_absent() {
    let mirror = Mirror::start().await;
    let archive = zipped(&[("README", b"hello"), ("demo", PROGRAM)]);
    for bytes in [archive, PROGRAM.to_vec()] {
        let wanted = Artifact { entry: Some("demo".to_owned()), ..artifact(&bytes, &[mirror.body("/a", &bytes)]) };
        let run = Run::on(empty());
        get(&run.store(), &wanted, None).await.unwrap();
        assert!(converges(&run, &wanted).await > 20, "{:?}", run.ops());
        assert!(is_durable(&run.before, &run.ops(), &wanted).await, "it was said to be there");
        // The states are worth something only if they show what no synchronisation would leave.
        let unsynced: Vec<Op> = run.ops().into_iter().filter(|op| !matches!(op, Op::SyncFolder(_))).collect();
        assert!(!is_durable(&run.before, &unsynced, &wanted).await);
    }
}

#[tokio::test]
async fn f44_power_lost_after_an_interrupted_fetch_spoils_no_later_one() {
    let mirror = Mirror::start().await;
    let answer = |cut| Answer::Parts { bytes: Bytes::from_static(PROGRAM), tag: None, cut };
    let wanted = artifact(PROGRAM, &[mirror.answer("/a", answer(30))]);
    let run = Run::on(empty());
    let store = run.store();
    get(&store, &wanted, None).await.unwrap_err();
    mirror.answer("/a", answer(usize::MAX));
    store.forgive(wanted.sha256);
    get(&store, &wanted, None).await.unwrap();
    converges(&run, &wanted).await;
}

#[tokio::test]
async fn f44_power_lost_while_a_damaged_artifact_is_replaced_or_one_is_removed() {
    let mirror = Mirror::start().await;
    let wanted = artifact(PROGRAM, &[mirror.body("/a", PROGRAM)]);
    let folder = empty();
    let installed = get(&open(&folder), &wanted, None).await.unwrap();
    fs::remove_file(&installed.path).unwrap();
    fs::write(&installed.path, b"damaged").unwrap();
    let run = Run::on(folder);
    get(&run.store(), &wanted, None).await.unwrap();
    assert!(run.ops().iter().any(|op| matches!(op, Op::Exchange(..))), "{:?}", run.ops());
    converges(&run, &wanted).await;

    // A record without a program: nothing needs it, and its day is over.
    let Run { folder, .. } = run;
    fs::write(folder.path().join(format!("store/{}/artifact.json", wanted.sha256)), b"{").unwrap();
    let old = fs::File::open(folder.path().join(format!("store/{}", wanted.sha256))).unwrap();
    old.set_modified(SystemTime::now() - keep::DAY * 2).unwrap();
    let run = Run::on(folder);
    let store = run.store();
    let report = store.collect(Uses::new(), store.now(), Mode::Remove).await.unwrap();
    assert_eq!((report.removed.len(), names(&run.folder)), (1, Vec::new()));
    converges(&run, &wanted).await;
}

#[tokio::test]
async fn f44_power_lost_while_the_memory_is_written_costs_no_more_than_the_memory() {
    let mirror = Mirror::start().await;
    let wanted = artifact(PROGRAM, &[mirror.body("/a", b"\x7fELF other bytes")]);
    let run = Run::on(empty());
    let store = run.store();
    get(&store, &wanted, None).await.unwrap_err();
    store.forgive(wanted.sha256);
    // Both writes are done when the disk has been told of the second one.
    let begun = std::time::Instant::now();
    let written = || run.ops().iter().filter(|op| matches!(op, Op::SyncFolder(_))).count();
    while written() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", run.ops());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    mirror.body("/a", PROGRAM);
    let ops = run.ops();
    let all: BTreeSet<State> = (0..=ops.len()).flat_map(|count| states(&run.before, &ops[..count])).collect();
    for state in all {
        let folder = build(&state);
        let store = open_on(&Recorded::new(folder.path()), &folder);
        store.forgive(wanted.sha256);
        assert_eq!(fs::read(get(&store, &wanted, None).await.unwrap().path).unwrap(), PROGRAM, "{state:?}");
    }
}
