//! SIGKILL of versiond itself, in the middle of a swap: the same command converges.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use supervisor_protocol::admin::{Phase, Status};
use versiond_demo::processes;

use crate::http::EventStream;
use crate::mirror::Mirror;
use crate::node::{Node, send, serving, slot};
use crate::releases::{Build, Document, Release};

const KILLS: usize = 10;
/// Long enough that a warming candidate is seen.
const ARGS: &str =
    "[service.demo]\nargs = [\"--port\", \"{port}\", \"--data-dir\", \"{data_dir}\", \"--ready-after\", \"300\"]\n";

/// Where in a swap versiond dies.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Fetching,
    Warming,
    Published,
    Draining,
}

impl Moment {
    const ALL: [Moment; 4] = [Moment::Fetching, Moment::Warming, Moment::Published, Moment::Draining];

    /// Also when it is over already: on a busy machine the short ones may pass unseen.
    fn has_come(self, status: &Status, new: &Release) -> bool {
        let Some(slot) = slot(status, "v0.3") else { return false };
        let newest = slot.generations.iter().find(|one| one.sha256.to_string() == new.sha256);
        let Some(phase) = newest.map(|newest| newest.phase) else { return false };
        match self {
            Moment::Fetching => phase == Phase::Fetching,
            Moment::Warming => matches!(phase, Phase::Warming | Phase::Ready | Phase::Serving),
            Moment::Published => phase == Phase::Serving,
            Moment::Draining => {
                phase == Phase::Serving && slot.generations.iter().all(|one| one.phase != Phase::Retired)
            }
        }
    }
}

/// Which process each generation was, over all lives of versiond.
#[derive(Default)]
struct Lives(BTreeMap<u64, String>);

impl Lives {
    /// F40: no generation's number is ever another process's.
    fn note(&mut self, node: &Node) {
        for found in node.processes() {
            let nonce = self.0.entry(found.generation.parse().unwrap()).or_insert_with(|| found.nonce.clone());
            assert_eq!(*nonce, found.nonce, "g{} was given out twice", found.generation);
        }
    }
}

/// F40, P7: killed at any moment of a swap, the same command converges, and every process is accounted for.
#[tokio::test]
async fn f40_p7_killed_at_any_moment_of_a_swap_it_converges_and_leaves_nothing_over() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mirror = Mirror::start().await;
    let first = mirror.offer(Build::A, "first");
    let mut document = Document::of([("v0.3", first.clone()), ("v0.4", first.clone())]);
    mirror.publish(&document);
    let node = Node::new(&mirror.as_source());
    node.set(ARGS);
    node.start();
    node.until_ready(|all| all.ready).await;

    let mut lives = Lives::default();
    for round in 0..KILLS {
        let moment =
            if round < Moment::ALL.len() { Moment::ALL[round] } else { *Moment::ALL.choose(&mut rng).unwrap() };
        let build = if round % 2 == 0 { Build::B } else { Build::A };
        let new = mirror.offer(build, &format!("round {round}"));
        lives.note(&node);
        let before = node.status().await;
        // What it admitted keeps the old generation on its way out until the kill, which cuts it. Past
        // versiond it is work of the child alone, with which it drains and is not merely retired.
        let stream = match moment {
            Moment::Draining => {
                let port = serving(&before, "v0.3").unwrap().port.unwrap();
                Some(EventStream::open(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "", 50_000).await)
            }
            Moment::Fetching | Moment::Warming | Moment::Published if rng.random() => {
                Some(EventStream::open(node.host, "/v0.3", 50_000).await)
            }
            Moment::Fetching | Moment::Warming | Moment::Published => None,
        };
        if matches!(moment, Moment::Fetching) {
            mirror.close();
        }
        document = document.with("v0.3", &new);
        mirror.publish(&document);
        node.until(|status| moment.has_come(status, &new)).await;
        lives.note(&node);
        node.supervisor.kill_and_restart(|| ()).await.unwrap();
        mirror.open();
        drop(stream);

        node.until_ready(|all| all.boot != before.boot && all.ready && all.slots.len() == 2).await;
        let now = node.until_settled("v0.3", &new.sha256).await;
        let other = node.until_settled("v0.4", &first.sha256).await;
        lives.note(&node);
        let status = node.status().await;
        assert_eq!(processes::unaccounted(&node.processes(), &status), [""; 0], "after {moment:?} (seed {seed})");
        let most = |status: &Status| {
            let generations = status.slots.iter().flat_map(|slot| &slot.generations);
            generations.map(|one| one.generation).max().unwrap()
        };
        let (old, new) = (most(&before), now.generation.min(other.generation));
        assert!(new > old, "after {moment:?}: {new} follows {old} (seed {seed})");
        assert_ne!(now.port, other.port);
        for (name, generation) in [("v0.3", &now), ("v0.4", &other)] {
            let hello: Value = node.get(&format!("/{name}/hello")).await.json();
            assert_eq!(hello["pid"].as_u64(), generation.pid.map(u64::from), "after {moment:?} (seed {seed})");
        }
    }
    node.end().await;
}

/// F40: a host that died without a word leaves nothing, even if it is not started again.
#[tokio::test]
async fn f40_the_children_of_a_killed_versiond_go_with_it() {
    let node = Node::serving(&Document::of([("v0.3", Build::A.in_place()), ("v0.4", Build::B.in_place())]), "").await;
    assert_eq!(node.processes().len(), 2);
    let pid = serving(&node.status().await, "v0.3").unwrap().pid.unwrap();
    // Even one that takes no signal.
    send(pid, Signal::SIGSTOP);
    node.killed().await;
}

/// F40, P3: the host had not followed its catalog when it died, and goes on where it was.
#[tokio::test]
async fn f40_p3_after_a_kill_what_served_comes_back_although_its_successor_cannot_be_had() {
    let mirror = Mirror::start().await;
    let (first, second) = (mirror.offer(Build::A, "first"), mirror.offer(Build::B, "second"));
    let document = Document::of([("v0.3", first.clone())]);
    let node = Node::following(&mirror, &document).await;
    let before = node.until_settled("v0.3", &first.sha256).await;
    let wrong = document.with("v0.3", &Release { url: second.url.clone(), sha256: first.sha256.replace('a', "b") });
    mirror.publish(&wrong);
    node.until_why("v0.3", |reason| reason.code() == "hash_mismatch").await;

    node.supervisor.kill_and_restart(|| ()).await.unwrap();
    node.until_ready(|all| all.ready).await;
    let after = node.until_settled("v0.3", &first.sha256).await;
    assert!(after.generation > before.generation);
    node.until_why("v0.3", |reason| reason.code() == "hash_mismatch").await;
    mirror.publish(&wrong.with("v0.3", &second));
    node.until_settled("v0.3", &second.sha256).await;
    node.end().await;
}
