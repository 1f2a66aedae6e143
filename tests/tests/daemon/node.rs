//! One versiond under test: its configuration, its process, and waiting for what it says to become true.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use supervisor_protocol::Reason;
use supervisor_protocol::admin::{GenerationStatus, Phase, SlotStatus, Status, Why};
use supervisor_protocol::host::{HostDrain, HostState, ReadyAll};
use versiond_demo::processes::{self, Found};
use versiond_demo::stand;
use versiond_demo::supervisor::Supervisor;
use versiond_demo::supervisor::config::{ADMIN_SOCKET, Config, pick_ports};

use crate::common::release;
use crate::http::{Answer, get, get_unix};
use crate::mirror::Mirror;
use crate::releases::Document;

/// The service of every test, as its status names it.
pub(crate) const SERVICE: &str = versiond_demo::catalog::SERVICE;

/// What has not come true by then never will. Generous: the machine may be busy with other builds.
const WITHIN: Duration = Duration::from_secs(90);
/// What no long poll tells of is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The file that versiond reads its settings from.
const SETTINGS: &str = "versiond.toml";

/// A versiond. Dropped before its end (since a test has failed), everything of it is killed.
pub(crate) struct Node {
    pub(crate) supervisor: Arc<Supervisor>,
    /// The data listener.
    pub(crate) host: SocketAddr,
    folder: Utf8PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Node {
    /// A versiond that follows a catalog file and has not been started. `settings` are TOML, over those of
    /// the demo.
    pub(crate) fn new(settings: &str) -> Node {
        Node::of(&Utf8PathBuf::try_from(release("versiond")).unwrap(), settings)
    }

    /// The same, of another build of versiond.
    pub(crate) fn of(binary: &Utf8Path, settings: &str) -> Node {
        let (folder, temporary) = stand::folder(None).unwrap();
        let source = format!("file:{folder}/catalog.json");
        let (host, child_ports) = ports();
        let config = Config::new((host, child_ports), source, 60);
        let supervisor = Supervisor::new(binary, &folder, &config, None).unwrap();
        let node = Node { supervisor, host, folder, _temporary: temporary };
        node.set("[catalog]\npoll = \"50ms\"\n");
        node.set(settings);
        node
    }

    /// A versiond that follows `document`, started and serving all of it.
    pub(crate) async fn serving(document: &Document, settings: &str) -> Node {
        let node = Node::new(settings);
        node.publish(document);
        node.start();
        node.until_ready(|all| all.state != HostState::Starting && all.slots.iter().all(|slot| slot.ready)).await;
        node
    }

    /// A versiond that follows `mirror`, on which `document` is published, started and serving all of it.
    pub(crate) async fn following(mirror: &Mirror, document: &Document) -> Node {
        mirror.publish(document);
        let node = Node::new(&mirror.as_source());
        node.start();
        node.until_ready(|all| all.ready && all.slots.iter().all(|slot| slot.ready)).await;
        node
    }

    /// Changes settings of one that is not running.
    pub(crate) fn set(&self, settings: &str) {
        let mut all: toml::Table = std::fs::read_to_string(self.settings()).unwrap().parse().unwrap();
        merge(&mut all, settings.parse().unwrap());
        std::fs::write(self.settings(), all.to_string()).unwrap();
    }

    pub(crate) fn settings(&self) -> Utf8PathBuf {
        self.folder.join(SETTINGS)
    }

    pub(crate) fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    pub(crate) fn admin(&self) -> Utf8PathBuf {
        self.folder.join(ADMIN_SOCKET)
    }

    /// Puts a document in place of the catalog's, whole.
    pub(crate) fn publish(&self, document: &Document) {
        self.publish_text(&document.text());
    }

    pub(crate) fn publish_text(&self, text: &str) {
        let beside = self.folder.join("catalog.next");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.folder.join("catalog.json")).unwrap();
    }

    pub(crate) fn start(&self) {
        self.supervisor.start().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.supervisor.pid().expect("versiond runs"), signal);
    }

    // === asking ===

    /// `GET` on the data listener.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        get(self.host, path).await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.last_words()))
    }

    /// `GET` on the admin socket.
    pub(crate) async fn get_admin(&self, path: &str) -> Answer {
        get_unix(&self.admin(), path).await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.last_words()))
    }

    pub(crate) async fn status(&self) -> Status {
        self.get_admin("/v1/status").await.json()
    }

    pub(crate) async fn why(&self) -> Why {
        self.get_admin("/v1/why").await.json()
    }

    /// The codes of everything that a slot waits for.
    pub(crate) async fn why_slot(&self, name: &str) -> Vec<&'static str> {
        let why = self.why().await;
        let slot = why.slots.iter().find(|slot| slot.slot.name.as_str() == name);
        slot.map(|slot| slot.reasons.iter().map(|why| why.reason.code()).collect()).unwrap_or_default()
    }

    pub(crate) async fn drain_status(&self) -> HostDrain {
        self.get("/drain/status").await.json()
    }

    // === waiting ===

    /// Waits with long polls of the data listener until `is` holds of `/readyz?all=1`. Also over a start.
    pub(crate) async fn until_ready(&self, is: impl Fn(&ReadyAll) -> bool) -> ReadyAll {
        let begun = Instant::now();
        let mut last: Option<ReadyAll> = None;
        while begun.elapsed() < WITHIN {
            let since = last.as_ref().map_or_else(String::new, |last| format!("&since={}&wait=5s", last.seq));
            match get(self.host, &format!("/readyz?all=1{since}")).await {
                Ok(answer) => {
                    let all: ReadyAll = answer.json();
                    if is(&all) {
                        return all;
                    }
                    last = Some(all);
                }
                // Its listener is not yet open.
                Err(_) if last.is_none() => {
                    assert!(self.supervisor.exited().is_none(), "versiond has ended:\n{}", self.last_words());
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => panic!("{error:#}\n{}", self.last_words()),
            }
        }
        panic!("not within {WITHIN:?}; last: {last:#?}\n{}", self.last_words())
    }

    /// Waits until `is` holds of `/v1/status`: for what no sequence number tells of.
    pub(crate) async fn until(&self, is: impl Fn(&Status) -> bool) -> Status {
        let begun = Instant::now();
        loop {
            let status = self.status().await;
            if is(&status) {
                return status;
            }
            assert!(begun.elapsed() < WITHIN, "not within {WITHIN:?}: {status:#?}\n{}", self.last_words());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The same, also over a start.
    pub(crate) async fn until_admin(&self, is: impl Fn(&Status) -> bool) -> Status {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < WITHIN {
            assert!(self.supervisor.exited().is_none(), "versiond has ended:\n{}", self.last_words());
            if let Ok(status) = self.supervisor.status().await {
                if is(&status) {
                    return status;
                }
                last = Some(status);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("not within {WITHIN:?}: {last:#?}\n{}", self.last_words())
    }

    /// Waits for a reason of a slot.
    pub(crate) async fn until_why(&self, name: &str, is: impl Fn(&Reason) -> bool) -> Reason {
        let reasons = |status: &Status| slot(status, name).map(|slot| slot.reasons.clone()).unwrap_or_default();
        let status = self.until(|status| reasons(status).iter().any(&is)).await;
        reasons(&status).into_iter().find(is).unwrap()
    }

    /// Waits until one generation of this slot serves these bytes and no other is left of it.
    pub(crate) async fn until_settled(&self, name: &str, sha256: &str) -> GenerationStatus {
        let settled = |status: &Status| match &slot(status, name)?.generations[..] {
            [only] if only.phase == Phase::Serving && only.sha256.to_string() == sha256 => Some(only.clone()),
            _ => None,
        };
        settled(&self.until(|status| settled(status).is_some()).await).unwrap()
    }

    // === the end ===

    /// Every process that a generation of this versiond has left or runs.
    pub(crate) fn processes(&self) -> Vec<Found> {
        processes::of_run(&self.folder)
    }

    /// Stops it in order, and looks that nothing is left.
    pub(crate) async fn end(self) {
        self.signal(Signal::SIGTERM);
        self.ended().await;
    }

    /// Waits for the end of one that has been told to stop, and looks that nothing is left.
    pub(crate) async fn ended(self) {
        // Its SIGTERM is one more, which changes nothing.
        let status =
            self.supervisor.stop(WITHIN).await.unwrap_or_else(|error| panic!("{error}\n{}", self.last_words()));
        assert_eq!(status.code(), Some(0), "{}", self.last_words());
        assert!(!self.admin().exists(), "the admin socket is left");
        self.assert_nothing_left();
    }

    /// Kills it without a word, and waits until nothing of it is left.
    pub(crate) async fn killed(self) {
        self.signal(Signal::SIGKILL);
        let status = self.supervisor.stop(WITHIN).await.unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
        self.until_nothing_left().await;
    }

    /// Waits for the end of whatever a versiond that has died leaves behind for a moment.
    pub(crate) async fn until_nothing_left(&self) {
        let begun = Instant::now();
        while !self.processes().is_empty() && begun.elapsed() < WITHIN {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.assert_nothing_left();
    }

    /// No process has a nonce of this versiond, nor names its folder on its command line.
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.processes(), [], "{}", self.last_words());
        assert_eq!(named_on_command_lines(&self.folder), Vec::<String>::new());
    }

    pub(crate) fn last_words(&self) -> String {
        self.supervisor.last_words(40)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for pid in self.supervisor.pid().into_iter().chain(self.processes().iter().map(|process| process.pid)) {
            // It may be gone by itself.
            kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).ok();
        }
    }
}

/// Sends a signal to a process that exists.
pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// One slot of a status.
pub(crate) fn slot<'s>(status: &'s Status, name: &str) -> Option<&'s SlotStatus> {
    status.slots.iter().find(|slot| slot.slot.name.as_str() == name)
}

/// The generation of a slot that serves.
pub(crate) fn serving<'s>(status: &'s Status, name: &str) -> Option<&'s GenerationStatus> {
    slot(status, name)?.generations.iter().find(|generation| generation.phase == Phase::Serving)
}

/// A data listener and a range for the children. Tests that run at the same time get ranges apart, since a
/// range is free until its first child is bound.
fn ports() -> (SocketAddr, RangeInclusive<u16>) {
    static TAKEN: Mutex<Vec<RangeInclusive<u16>>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock();
    loop {
        let (host, children) = pick_ports().unwrap();
        let apart = |other: &RangeInclusive<u16>| *children.end() < *other.start() || *other.end() < host.port();
        if taken.iter().all(apart) {
            taken.push(host.port()..=*children.end());
            return (host, children);
        }
    }
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(value)) => merge(below, value),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

fn named_on_command_lines(folder: &Utf8Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(folder.as_str())).collect()
}
