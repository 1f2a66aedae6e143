//! A Cosmovisor's folder as the source: a program that a plan brings, and what it does before its first start.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use demo_child::{Behaviour, StateKind};
use nix::sys::signal::Signal;
use serde_json::json;
use versiond_demo::artifacts::sha256;

use crate::common::release;
use crate::effects::faulty;
use crate::node::{Node, slot};

/// What has not come true by then never will.
const WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A versiond that follows a folder of its own.
struct Chain {
    node: Node,
    home: Utf8PathBuf,
}

impl Chain {
    fn new() -> Chain {
        Chain::of(Node::new(""))
    }

    fn of(node: Node) -> Chain {
        let home = node.folder().join("home");
        node.set(&format!(
            "[catalog]\nsource = \"cosmovisor:{home}\"\npre_upgrade_retries = 1\n[service.demo]\nroute = \"/demo\"\nroute_aliases = []\n"
        ));
        std::fs::create_dir_all(home.join("data")).unwrap();
        Chain { node, home }
    }

    /// Puts a program into the layout, and returns its hash.
    fn program(&self, folder: &str, behaviour: &Behaviour) -> String {
        let program = behaviour.build_from(&std::fs::read(release("demo-child-told")).unwrap());
        let bin = self.home.join("cosmovisor").join(folder).join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("demo"), &program).unwrap();
        sha256(&program).to_string()
    }

    /// As a node does it that has stopped for its upgrade.
    fn ask_for(&self, name: &str, height: u64) {
        let plan = json!({"name": name, "time": "0001-01-01T00:00:00Z", "height": height, "info": ""});
        std::fs::write(self.home.join("data/upgrade-info.json"), plan.to_string()).unwrap();
    }

    async fn start(&self) {
        self.node.start();
        self.node.until_ready(|all| !all.slots.is_empty()).await;
    }

    async fn stop(&self) {
        self.node.signal(Signal::SIGTERM);
        self.node.supervisor.stop(WITHIN).await.unwrap();
    }

    /// Starts it, waits until it dies at this point, and starts it again.
    async fn start_over(&self, point: &str) {
        self.node.supervisor.crash_at(Some(point));
        self.node.start();
        let begun = Instant::now();
        let died = loop {
            match self.node.supervisor.exited() {
                Some(status) => break status,
                None => assert!(begun.elapsed() < WITHIN, "it never comes to {point}\n{}", self.node.last_words()),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        assert_eq!(died.signal(), Some(9), "{point}: {died}\n{}", self.node.last_words());
        self.node.supervisor.crash_at(None);
        self.start().await;
    }

    /// By which builds it has been run.
    fn pre_upgrades(&self) -> String {
        let log = self.node.folder().join("state/data/demo/demo/pre-upgrade");
        std::fs::read_to_string(log).unwrap_or_default()
    }
}

fn build(name: &str, pre_upgrade: &[u8]) -> Behaviour {
    Behaviour { state: StateKind::Local, pre_upgrade: pre_upgrade.to_vec(), ..Behaviour::named(name) }
}

#[tokio::test]
async fn a_plan_s_program_goes_through_its_pre_upgrade_once_and_serves() {
    let chain = Chain::new();
    let genesis = chain.program("genesis", &build("genesis", &[30]));
    chain.start().await;
    chain.node.until_settled("demo", &genesis).await;
    // What is in effect from the beginning is no upgrade.
    assert_eq!(chain.pre_upgrades(), "");
    chain.stop().await;

    let second = chain.program("upgrades/v2", &build("second", &[31, 0]));
    chain.ask_for("v2", 100);
    chain.start().await;
    chain.node.until_settled("demo", &second).await;
    assert_eq!(chain.pre_upgrades(), "second\nsecond\n");
    let answer: serde_json::Value = chain.node.get("/demo/hello").await.json();
    assert_eq!(answer["build"], "second");
    // Another life of the same program is no upgrade either.
    chain.stop().await;
    chain.start().await;
    chain.node.until_settled("demo", &second).await;
    assert_eq!(chain.pre_upgrades(), "second\nsecond\n");
    chain.node.end().await;
}

#[tokio::test]
async fn a_program_whose_pre_upgrade_fails_is_not_started_and_says_why() {
    for (codes, word) in [(&[30][..], "code 30"), (&[2], "code 2"), (&[31], "2 times in a row")] {
        let chain = Chain::new();
        let second = chain.program("upgrades/v2", &build("second", codes));
        chain.ask_for("v2", 100);
        chain.start().await;
        chain.node.until_why("demo", |reason| reason.to_string().contains(word)).await;
        let status = chain.node.status().await;
        let started = slot(&status, "demo").unwrap().generations.iter().any(|life| life.pid.is_some());
        assert!(!started, "{status:#?}");
        // Mended, it is another program, and has not been through it.
        let mended = chain.program("upgrades/v2", &build("mended", &[]));
        assert_ne!(mended, second);
        chain.node.until_settled("demo", &mended).await;
        assert!(chain.pre_upgrades().ends_with("mended\n"), "{}", chain.pre_upgrades());
        chain.node.end().await;
    }
}

/// P7: what nobody has noted is done again, and what is noted is not.
#[tokio::test]
async fn p7_killed_around_a_pre_upgrade_or_its_mark_it_serves_and_has_run_it_until_it_was_marked() {
    let points = [
        ("pre_upgrade:before", 1),
        ("pre_upgrade:after", 2),
        ("pre_upgrade_mark:before", 2),
        ("pre_upgrade_mark:after", 1),
    ];
    for (point, ran) in points {
        let chain = Chain::of(Node::of(&faulty(), ""));
        let second = chain.program("upgrades/v2", &build("second", &[]));
        chain.ask_for("v2", 100);
        chain.start_over(point).await;
        chain.node.until_settled("demo", &second).await;
        assert_eq!(chain.pre_upgrades(), "second\n".repeat(ran), "{point}");
        chain.node.end().await;
    }
}
