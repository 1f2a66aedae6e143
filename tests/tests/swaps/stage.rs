//! One slot of one versiond, its catalog, and builds of the child that behave as a test says.

use std::time::{Duration, Instant};

use ::http::Method;
use demo_child::Behaviour;
use serde_json::{Value, json};
use supervisor_protocol::admin::{ApiError, GenerationStatus, SlotStatus};
use tokio::net::UnixStream;

use crate::common::release;
use crate::http::{Answer, asks, whole};
use crate::mirror::Mirror;
use crate::node::{Node, SERVICE, serving, slot};
use crate::releases::{Document, Release};

/// The slot of every test.
pub(crate) const SLOT: &str = "v0.3";
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long an orderly stop, or a change of what answers, may take.
const WITHIN: Duration = Duration::from_secs(90);
/// No pause of the host's own, a short trial, and room for everything that a test lets wait.
const SETTINGS: &str = "[service.demo.rollout]\njitter = \"none\"\n\
                        [timing]\nbake = \"2s\"\nhold_requests = 20000\nlive_probe = \"200ms\"\n";

pub(crate) struct Stage {
    pub(crate) node: Node,
    mirror: Mirror,
    document: Document,
}

impl Stage {
    /// A slot in which this build serves, and has passed its trial. `settings` are TOML, over those of every test.
    pub(crate) async fn with(first: &Behaviour, settings: &str) -> (Stage, Release) {
        let mirror = Mirror::start().await;
        let release = offer(&mirror, first);
        let document = Document::of([(SLOT, release.clone())]);
        mirror.publish(&document);
        let node = Node::new(&mirror.as_source());
        node.set(SETTINGS);
        node.set(settings);
        node.start();
        node.until_ready(|all| all.ready && all.slots.iter().all(|slot| slot.ready)).await;
        let stage = Stage { node, mirror, document };
        stage.baked(&release).await;
        (stage, release)
    }

    /// A build that behaves so, in the mirror.
    pub(crate) fn offer(&self, behaviour: &Behaviour) -> Release {
        offer(&self.mirror, behaviour)
    }

    /// The catalog names this build from now on.
    pub(crate) fn publish(&mut self, release: &Release) {
        self.document = self.document.with(SLOT, release);
        self.mirror.publish(&self.document);
    }

    /// Waits until this build serves alone, with nothing left to wait for.
    pub(crate) async fn baked(&self, release: &Release) -> GenerationStatus {
        let generation = self.node.until_settled(SLOT, &release.sha256).await;
        let calm = |slot: &SlotStatus| !slot.reasons.iter().any(|reason| reason.code() == "baking");
        self.node.until(|status| slot(status, SLOT).is_some_and(calm)).await;
        generation
    }

    /// Waits until this build serves, whatever is left of others.
    pub(crate) async fn serves(&self, release: &Release) -> GenerationStatus {
        let of = |generation: &GenerationStatus| generation.sha256.to_string() == release.sha256;
        let status = self.node.until(|status| serving(status, SLOT).is_some_and(of)).await;
        serving(&status, SLOT).unwrap().clone()
    }

    /// Waits for a reason by its code, and gives its sentence.
    pub(crate) async fn why(&self, code: &str) -> String {
        self.node.until_why(SLOT, |reason| reason.code() == code).await.to_string()
    }

    /// The slot as it stands.
    pub(crate) async fn slot(&self) -> SlotStatus {
        slot(&self.node.status().await, SLOT).unwrap().clone()
    }

    /// Gives an order that is taken.
    pub(crate) async fn order(&self, verb: &str, options: Value) {
        let answer = self.ordered(verb, options).await;
        assert_eq!(answer.status, 200, "{verb}: {}\n{}", answer.text(), self.node.last_words());
    }

    /// Gives an order that is refused, and returns the code.
    pub(crate) async fn refused(&self, verb: &str, options: Value) -> String {
        let answer = self.ordered(verb, options).await;
        assert_eq!(answer.status, 409, "{verb}: {}\n{}", answer.text(), self.node.last_words());
        answer.json::<ApiError>().code
    }

    async fn ordered(&self, verb: &str, options: Value) -> Answer {
        let path = format!("/v1/services/{SERVICE}/versions/{SLOT}/{verb}");
        let socket = UnixStream::connect(self.node.admin()).await.unwrap();
        whole(socket, asks(Method::POST, &path, &options.to_string())).await.unwrap()
    }

    /// The sum of a metric's series that have all of these labels.
    pub(crate) async fn counted(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.node.get_admin("/metrics").await.text();
        let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name);
        let series = text.lines().filter(of_name).filter(|line| labels.iter().all(|label| line.contains(label)));
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// The build that answers now.
    pub(crate) async fn hello(&self) -> String {
        let answer = self.node.get(&format!("/{SLOT}/hello")).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), self.node.last_words());
        answer.json::<Value>()["build"].as_str().unwrap().to_owned()
    }

    /// Waits until this build answers: status says that it serves before a request can find it.
    pub(crate) async fn says(&self, build: &str) {
        let begun = Instant::now();
        while self.hello().await != build {
            assert!(begun.elapsed() < WITHIN, "not {build} within {WITHIN:?}\n{}", self.node.last_words());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A file in the slot's data directory.
    pub(crate) fn data(&self, file: &str) -> camino::Utf8PathBuf {
        self.node.folder().join("state/data").join(SERVICE).join(SLOT).join(file)
    }

    /// The host dies without a word and is started again.
    pub(crate) async fn killed_and_restarted(&self) {
        let boot = self.node.status().await.boot;
        self.node.supervisor.kill_and_restart(|| ()).await.unwrap();
        self.node.until_ready(|all| all.boot != boot && all.slots.iter().all(|slot| slot.ready)).await;
    }

    /// The host is stopped in order, and started again with other settings.
    pub(crate) async fn reconfigured(&self, settings: &str) {
        let stopped = self.node.supervisor.stop(WITHIN).await.unwrap();
        assert_eq!(stopped.code(), Some(0), "{}", self.node.last_words());
        self.node.set(settings);
        self.node.start();
        self.node.until_ready(|all| all.ready && all.slots.iter().all(|slot| slot.ready)).await;
    }

    pub(crate) async fn end(self) {
        self.node.end().await;
    }
}

/// No options.
pub(crate) fn plain() -> Value {
    json!({})
}

fn offer(mirror: &Mirror, behaviour: &Behaviour) -> Release {
    mirror.offer_program(behaviour.build_from(&std::fs::read(release("demo-child-told")).unwrap()))
}
