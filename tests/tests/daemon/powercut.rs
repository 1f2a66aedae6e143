//! The power goes: what had been written is there, what was being written may be cut short, torn or missing.
//! The file that was written last is damaged in each of these ways, and versiond goes on from the one before.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::Signal;
use supervisor_protocol::host::HostState;
use versiond_demo::processes;

use crate::node::Node;
use crate::releases::{Build, Document};
use crate::tools::{run, versionctl};

/// What a cut can leave of a file that was being written over.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Gone,
    Empty,
    /// The first half alone.
    Truncated,
    /// A page of zeroes in the midst of what counts.
    Torn,
    /// One bit.
    Flipped,
}

impl Damage {
    const ALL: [Damage; 5] = [Damage::Gone, Damage::Empty, Damage::Truncated, Damage::Torn, Damage::Flipped];

    fn done_to(self, path: &Utf8Path) {
        let open = || OpenOptions::new().read(true).write(true).open(path).unwrap();
        match self {
            Damage::Gone => fs::remove_file(path).unwrap(),
            Damage::Empty => drop(File::create(path).unwrap()),
            Damage::Truncated => {
                let content = fs::read(path).unwrap();
                let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                open().set_len(u64::try_from(used / 2).unwrap()).unwrap();
            }
            Damage::Torn => {
                let mut file = open();
                file.seek(SeekFrom::Start(40)).unwrap();
                file.write_all(&[0; 100]).unwrap();
            }
            Damage::Flipped => {
                let mut file = open();
                let mut byte = [0];
                file.seek(SeekFrom::Start(80)).unwrap();
                file.read_exact(&mut byte).unwrap();
                file.seek(SeekFrom::Start(80)).unwrap();
                file.write_all(&[byte[0] ^ 1]).unwrap();
            }
        }
    }
}

/// The slots of the ledger, the one that is in force first.
fn slots(node: &Node) -> [Utf8PathBuf; 2] {
    let number = |path: &Utf8PathBuf| {
        let bytes = fs::read(path).unwrap();
        u64::from_le_bytes(bytes[16..24].try_into().unwrap())
    };
    let [first, second] = ["ledger.0", "ledger.1"].map(|name| node.folder().join("state").join(name));
    if number(&first) > number(&second) { [first, second] } else { [second, first] }
}

/// F44, P7: whatever a cut leaves of the ledger's last write, the same command goes on from the one before.
#[tokio::test]
async fn f44_p7_a_cut_in_the_midst_of_a_ledger_write_is_gone_back_from_and_nothing_is_left_over() {
    let node = Node::serving(&Document::of([("v0.3", Build::A.in_place())]), "").await;
    for damage in Damage::ALL {
        // The last write is the cordon: the one before knows of none.
        assert_eq!(versionctl(&node, &["drain"]).await.code, Some(0));
        let boot = node.status().await.boot;
        let generation = node.status().await.slots[0].generations[0].generation;
        node.signal(Signal::SIGKILL);
        let newest = slots(&node)[0].clone();
        node.supervisor.stop(std::time::Duration::from_secs(60)).await.unwrap();
        damage.done_to(&newest);
        node.start();
        let all = node.until_ready(|all| all.boot != boot && all.state != HostState::Starting).await;
        assert_eq!((all.state, all.ready), (HostState::Serving, true), "{damage:?}: the write before knew no cordon");
        let status = node.status().await;
        assert_eq!(processes::unaccounted(&node.processes(), &status), [""; 0], "{damage:?}");
        assert!(status.slots[0].generations[0].generation > generation, "{damage:?}: a number was given out twice");
    }
    node.end().await;
}

/// F44: with both slots damaged nothing is guessed: versiond says which files, and starts nothing.
#[tokio::test]
async fn f44_a_ledger_that_is_damaged_twice_is_refused_by_name() {
    let node = Node::serving(&Document::of([("v0.3", Build::A.in_place())]), "").await;
    node.signal(Signal::SIGKILL);
    let paths = slots(&node);
    node.supervisor.stop(std::time::Duration::from_secs(60)).await.unwrap();
    paths.iter().for_each(|path| Damage::Torn.done_to(path));
    let said = run("versiond", ["run", "--config", node.settings().as_str()]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(node.folder().join("state").as_str()), "{}", said.err);
    node.until_nothing_left().await;
}

/// F44: the kept catalog is cut short. While its source answers that costs nothing; without it the host says what
/// it misses, and what it serves it has from the ledger alone.
#[tokio::test]
async fn f44_a_kept_catalog_that_was_cut_short_is_read_anew() {
    let node = Node::serving(&Document::of([("v0.3", Build::A.in_place())]), "").await;
    for damage in Damage::ALL {
        let boot = node.status().await.boot;
        node.signal(Signal::SIGKILL);
        node.supervisor.stop(std::time::Duration::from_secs(60)).await.unwrap();
        damage.done_to(&node.folder().join("state/catalog.json"));
        node.start();
        node.until_ready(|all| all.boot != boot && all.ready).await;
        assert_eq!(node.get("/v0.3/hello").await.status, 200, "{damage:?}");
    }
    node.end().await;
}
