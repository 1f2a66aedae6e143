//! A crash before and after every effect: the same story is told once for each point at which versiond can be
//! made to die, and always ends the same way.
//!
//! The points are the program's own list (`versiond effects`), so a new effect cannot be forgotten here: one
//! that the story never comes to is a failure.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use demo_child::{Behaviour, Crash, StateKind};
use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use supervisor_protocol::admin::{Phase, Status};
use supervisor_protocol::host::HostState;
use versiond_demo::processes;
use versiond_demo::supervisor::admin;

use crate::common::{release, target};
use crate::http::{EventStream, get};
use crate::mirror::Mirror;
use crate::node::{Node, serving, slot};
use crate::releases::{Document, Release};
use crate::tools::{to, versionctl};

/// Stories told at once: each mostly waits.
const AT_ONCE: usize = 8;
/// What has not come true by then never will.
const WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Short, so that every deadline is met in the course of the story.
const TIMING: &str = r#"
[timing]
drain = "2s"
drain_request = "1s"
drain_stream = "1s"
drain_upgrade = "1s"
drain_job = "1s"
stop_grace = "1s"
host_drain_min = "1s"
bake = "6s"
live_probe = "200ms"
"#;
/// Effects that the story comes to more often than once, with something else at stake each time.
const AGAIN: [(&str, u32); 8] = [
    ("fetch", 3),
    ("describe", 3),
    ("start", 3),
    ("fork", 3),
    ("exec", 3),
    ("publish", 3),
    ("store_commit", 2),
    ("ledger_write", 10),
];
/// What only a plan brings, which this story has none of: `cosmovisor` dies there.
const OF_PLANS: [&str; 2] = ["pre_upgrade", "pre_upgrade_mark"];

pub(crate) fn faulty() -> Utf8PathBuf {
    let path: PathBuf = match std::env::var_os("VERSIOND_FAULTS_BIN") {
        Some(path) => path.into(),
        None => target().join("faults/release/versiond"),
    };
    assert!(path.is_file(), "{} is missing: `make faults` builds it", path.display());
    Utf8PathBuf::try_from(path).unwrap()
}

/// Every point at which to die, once, and some more often.
fn points() -> Vec<String> {
    let listed = std::process::Command::new(faulty()).arg("effects").output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let effects = String::from_utf8(listed.stdout).unwrap();
    let passages = |effect: &str| {
        let again = AGAIN.iter().find(|(name, _)| *name == effect);
        again.map_or(1, |(_, passages)| *passages)
    };
    let here = effects.lines().filter(|effect| !OF_PLANS.contains(effect));
    let points = here.flat_map(|effect| {
        (1..=passages(effect))
            .flat_map(move |passage| ["before", "after"].map(|side| format!("{effect}:{side}:{passage}")))
    });
    points.collect()
}

/// F40, F44, P7: killed before or after any effect, the same command converges and nothing is left over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_f44_p7_killed_before_and_after_every_effect_it_converges_and_leaves_nothing_over() {
    let mirror = Arc::new(Mirror::start().await);
    let points = points();
    assert!(points.len() > 50, "only {} points: the list is broken", points.len());
    let stories = futures_util::stream::iter(points.into_iter().map(|point| {
        let mirror = mirror.clone();
        async move {
            let story = Story::begin(point.clone(), mirror);
            story.tell().await;
            point
        }
    }));
    let told: Vec<String> = stories.buffer_unordered(AT_ONCE).collect().await;
    eprintln!("{} crashes, each followed by the same end", told.len());
}

struct Story {
    point: String,
    node: Node,
    mirror: Arc<Mirror>,
    died: std::cell::Cell<bool>,
}

impl Story {
    fn begin(point: String, mirror: Arc<Mirror>) -> Story {
        let node = Node::of(&faulty(), &format!("{}{TIMING}", mirror.as_source_of(&point)));
        node.supervisor.crash_at(Some(&point));
        Story { point, node, mirror, died: std::cell::Cell::new(false) }
    }

    async fn tell(self) {
        let publish = |document: &Document| self.mirror.publish_to(&self.point, document);
        let [first, second, third] = ["first", "second", "third"].map(|name| self.offer(&Behaviour::named(name)));
        let [local, successor] = ["local", "successor"]
            .map(|name| self.offer(&Behaviour { state: StateKind::Local, ..Behaviour::named(name) }));
        let bad = self.offer(&Behaviour { crash: Some(Crash::FirstRequest), ..Behaviour::named("bad") });
        let document = Document::of([("v0.3", first.clone()), ("v0.4", local.clone())]);
        publish(&document);
        self.node.start();
        self.until(|status| settled(status, "v0.3", &first) && settled(status, "v0.4", &local)).await;

        // A swap past which a stream goes on, until its class is cut.
        let stream = self.stream("/v0.3", None).await;
        let document = document.with("v0.3", &second);
        publish(&document);
        self.until(|status| settled(status, "v0.3", &second)).await;
        drop(stream);

        // A swap past which the child goes on by itself, until it is killed.
        let work = self.stream("", Some("v0.3")).await;
        let document = document.with("v0.3", &third);
        publish(&document);
        self.until(|status| settled(status, "v0.3", &third)).await;
        drop(work);

        // One that has the data directory for itself makes room for the next.
        let document = document.with("v0.4", &successor);
        publish(&document);
        self.until(|status| settled(status, "v0.4", &successor)).await;

        // One that crashes on trial is taken back, to the one that has passed its own.
        self.until(|status| settled(status, "v0.3", &third) && !says(status, "v0.3", "baking")).await;
        let document = document.with("v0.3", &bad);
        publish(&document);
        self.until_asked(|status| says(status, "v0.3", "rolled_back") && settled(status, "v0.3", &third)).await;
        let document = document.with("v0.3", &third);
        publish(&document);

        self.operate(&["drain"], HostState::Cordoned).await;
        self.operate(&["undrain"], HostState::Serving).await;

        let document = document.without("v0.4");
        publish(&document);
        let status = self.until(|status| slot(status, "v0.4").is_none() && settled(status, "v0.3", &third)).await;
        assert_eq!(processes::unaccounted(&self.node.processes(), &status), [""; 0], "{}", self.point);
        assert_eq!(status.slots.len(), 1, "{}: {status:#?}", self.point);

        self.node.signal(Signal::SIGTERM);
        self.ended().await;
        assert!(self.died.get(), "the story never comes to {}", self.point);
        self.node.assert_nothing_left();
    }

    /// A build that behaves so, of this story alone.
    fn offer(&self, behaviour: &Behaviour) -> Release {
        let program = std::fs::read(release("demo-child-told")).unwrap();
        let build = format!("{} {}", self.point, behaviour.build);
        self.mirror.offer_program(Behaviour { build, ..behaviour.clone() }.build_from(&program))
    }

    /// A stream through versiond, or to the child itself; none when versiond has just died under it.
    async fn stream(&self, prefix: &'static str, direct: Option<&str>) -> Option<EventStream> {
        let status = self.until(|_| true).await;
        let host = match direct {
            Some(name) => (std::net::Ipv4Addr::LOCALHOST, serving(&status, name)?.port?).into(),
            None => self.node.host,
        };
        // A task of its own: it panics when there is no answer.
        tokio::spawn(async move { EventStream::open(host, prefix, 50_000).await }).await.ok()
    }

    /// Waits until `is` holds of the status, over the death that this story is about.
    async fn until(&self, is: impl Fn(&Status) -> bool) -> Status {
        self.until_after(is, async || ()).await
    }

    /// The same, while requests come, which whoever serves meets in its own way.
    async fn until_asked(&self, is: impl Fn(&Status) -> bool) -> Status {
        self.until_after(is, async || drop(get(self.node.host, "/v0.3/hello").await)).await
    }

    async fn until_after(&self, is: impl Fn(&Status) -> bool, each: impl AsyncFn()) -> Status {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < WITHIN {
            self.again_if_dead();
            each().await;
            if let Ok(status) = admin::get::<Status>(&self.node.admin(), "/v1/status").await {
                if is(&status) {
                    return status;
                }
                last = Some(status);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("{}: not within {WITHIN:?}: {last:#?}\n{}", self.point, self.node.last_words())
    }

    /// An order, given until it is taken.
    async fn operate(&self, order: &[&str], state: HostState) {
        let begun = Instant::now();
        loop {
            self.again_if_dead();
            let said = versionctl(&self.node, order).await;
            if said.code == Some(0) {
                break;
            }
            assert!(begun.elapsed() < WITHIN, "{}: {said:?} for {:?}", self.point, to(&self.node, order));
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.until(|status| status.state == state).await;
    }

    /// Starts it again after the one death that was asked for; any other is a failure.
    fn again_if_dead(&self) {
        let Some(status) = self.node.supervisor.exited() else { return };
        assert_eq!(status.signal(), Some(9), "{}: {status}\n{}", self.point, self.node.last_words());
        assert!(!self.died.replace(true), "{}: it died twice", self.point);
        self.node.supervisor.crash_at(None);
        self.node.start();
    }

    /// Waits for the end in order; dead on the way, it is started and stopped once more.
    async fn ended(&self) {
        let begun = Instant::now();
        loop {
            match self.node.supervisor.exited() {
                Some(status) if status.code() == Some(0) => return,
                Some(_) => {
                    self.again_if_dead();
                    self.until(|status| status.state == HostState::Serving).await;
                    self.node.signal(Signal::SIGTERM);
                }
                None => {
                    assert!(begun.elapsed() < WITHIN, "{}: it does not end\n{}", self.point, self.node.last_words());
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }
}

/// The slot has this reason.
fn says(status: &Status, name: &str, code: &str) -> bool {
    slot(status, name).is_some_and(|slot| slot.reasons.iter().any(|reason| reason.code() == code))
}

/// These bytes serve in the slot, and what is left of others is parked.
fn settled(status: &Status, name: &str, release: &Release) -> bool {
    let Some(slot) = slot(status, name) else { return false };
    let serves = serving(status, name).is_some_and(|one| one.sha256.to_string() == release.sha256);
    serves && slot.generations.iter().all(|one| matches!(one.phase, Phase::Serving | Phase::Parked))
}
