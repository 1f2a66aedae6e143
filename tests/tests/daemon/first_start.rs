//! A first start, and what the status endpoints say during it and afterwards.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use supervisor_protocol::admin::{Phase, Status};
use supervisor_protocol::headers::HostStamp;
use supervisor_protocol::host::{HostState, ReadyAll};

use crate::http::get;
use crate::mirror::Mirror;
use crate::node::{Node, SERVICE, send, serving};
use crate::releases::{Build, Document};

fn is_ready(all: &ReadyAll, name: &str) -> bool {
    all.slots.iter().any(|slot| slot.name.as_str() == name && slot.ready)
}

/// The keys of an object, in the order of the alphabet.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// F26, F03: unready as a whole until every slot has had its verdict.
#[tokio::test]
async fn f26_f03_a_host_is_ready_when_its_slots_serve_and_not_before() {
    let mirror = Mirror::start().await;
    let (first, second) = (mirror.offer(Build::A, "first"), mirror.offer(Build::B, "second"));
    mirror.publish(&Document::of([("v0.3", first.clone()), ("v0.4", second.clone())]));
    mirror.close();
    let node = Node::new(&mirror.as_source());
    node.start();

    let before = node.until_ready(|all| all.slots.len() == 2).await;
    assert_eq!((before.state, before.ready), (HostState::Starting, false));
    assert_eq!(node.get("/readyz").await.status, 503);
    assert_eq!(node.get("/readyz?version=v0.3").await.status, 503);
    let status = node.until(|status| status.slots.iter().all(|slot| !slot.generations.is_empty())).await;
    assert!(status.slots.iter().all(|slot| slot.generations[0].phase == Phase::Fetching), "{status:#?}");
    assert_eq!(node.why_slot("v0.3").await, ["fetching"]);

    mirror.open();
    let after = node.until_ready(|all| all.ready && all.slots.iter().all(|slot| slot.ready)).await;
    assert_eq!(after.state, HostState::Serving);
    assert_eq!(after.boot, before.boot);
    assert_eq!(node.get("/readyz").await.status, 200);
    for (query, expected) in [
        ("version=v0.3", 200),
        ("version=v0.4&service=demo", 200),
        ("version=v0.5", 503),
        ("version=v0.3&service=other", 503),
    ] {
        assert_eq!(node.get(&format!("/readyz?{query}")).await.status, expected, "{query}");
    }
    for (name, build) in [("v0.3", "a"), ("v0.4", "b")] {
        let hello: Value = node.get(&format!("/{name}/hello")).await.json();
        assert_eq!((hello["build"].as_str(), hello["version"].as_str()), (Some(build), Some(name)));
    }
    assert_eq!(node.get("/v0.5/hello").await.status, 404);
    node.end().await;
}

/// F16: until the catalog is read nobody knows what is approved, so nothing is refused for want of it.
#[tokio::test]
async fn f16_a_request_that_comes_before_the_catalog_waits_for_it() {
    let node = Node::new("");
    node.start();
    node.until_ready(|all| all.state == HostState::Starting).await;
    let ask = |path: &'static str| tokio::spawn(get(node.host, path));
    let (approved, other) = (ask("/v0.3/hello"), ask("/v0.4/hello"));
    assert_eq!(node.get("/readyz").await.status, 503);
    node.publish(&Document::of([("v0.3", Build::A.in_place())]));
    assert_eq!(approved.await.unwrap().unwrap().status, 200);
    assert_eq!(other.await.unwrap().unwrap().status, 404);
    node.end().await;

    // One that approves nothing is known too.
    let node = Node::new("");
    node.publish(&Document::of([]));
    node.start();
    node.until_ready(|_| true).await;
    assert_eq!(node.get("/v0.3/hello").await.status, 404);
    node.end().await;
}

#[tokio::test]
async fn the_status_endpoints_have_the_shapes_that_routers_read() {
    let build = Build::A.in_place();
    let node = Node::serving(&Document::of([("v0.3", build.clone())]), "").await;
    let status = node.status().await;
    let generation = serving(&status, "v0.3").unwrap();

    let healthz: Value = node.get("/healthz").await.json();
    let [entry] = &healthz.as_array().unwrap()[..] else { panic!("{healthz}") };
    assert_eq!(keys(entry), ["binary_version", "generation", "name", "port", "service", "sha256", "status"]);
    assert_eq!(
        (&entry["service"], &entry["name"], &entry["status"]),
        (&SERVICE.into(), &"v0.3".into(), &"running".into())
    );
    assert_eq!((&entry["sha256"], &entry["port"]), (&build.sha256.into(), &generation.port.into()));
    assert_eq!(
        (&entry["generation"], &entry["binary_version"]),
        (&generation.generation.0.into(), &generation.binary_version.clone().into())
    );

    let ready: Value = node.get("/readyz?all=1").await.json();
    assert_eq!(keys(&ready), ["boot", "id", "ready", "schema", "seq", "slots", "state"]);
    assert_eq!(keys(&ready["slots"][0]), ["evacuating", "name", "ready", "service", "sha256"]);

    let drain: Value = node.get("/drain/status").await.json();
    assert_eq!(
        keys(&drain),
        ["boot", "by_class", "by_service", "forecast_ms", "id", "inflight", "oldest_ms", "schema", "seq", "state"]
    );
    assert_eq!((&drain["state"], &drain["inflight"]), (&"serving".into(), &0.into()));
    assert_eq!(
        keys(&drain["by_service"][SERVICE]["v0.3"][0]),
        ["by_class", "draining", "generation", "inflight", "oldest_ms"]
    );

    // Every answer names the host and its boot; none may be kept.
    let answer = node.get("/readyz").await;
    let stamp: HostStamp = answer.header("versiond-host").unwrap().parse().unwrap();
    assert_eq!((stamp.id, stamp.boot), (status.host, status.boot));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    node.end().await;
}

#[tokio::test]
async fn with_a_listener_of_its_own_the_status_is_nowhere_else() {
    let node = Node::new("");
    let apart = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    node.set(&format!("[host]\nstatus_listen = \"{apart}\"\n"));
    node.publish(&Document::of([("v0.3", Build::A.in_place())]));
    node.start();
    while !get(apart, "/readyz").await.is_ok_and(|answer| answer.status == 200) {
        assert!(node.supervisor.exited().is_none(), "versiond has ended:\n{}", node.last_words());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for path in ["/healthz", "/readyz", "/readyz?all=1", "/drain/status"] {
        assert_eq!(node.get(path).await.status, 404, "{path}");
        assert_eq!(get(apart, path).await.unwrap().status, 200, "{path}");
    }
    assert_eq!(node.get("/v0.3/hello").await.status, 200);
    assert_eq!(get(apart, "/v0.3/hello").await.unwrap().status, 404);
    node.end().await;
}

#[tokio::test]
async fn a_long_poll_answers_when_something_changes_and_no_later() {
    const WAIT: Duration = Duration::from_secs(50);
    let document = Document::of([("v0.3", Build::A.in_place())]);
    let node = Node::serving(&document, "").await;
    let before = node.until_ready(|_| true).await;

    // One that knows an older state is answered at once; one that cannot say what it knows is refused.
    let stale = Instant::now();
    assert_eq!(node.get(&format!("/readyz?all=1&since={}&wait=50s", before.seq - 1)).await.status, 200);
    assert!(stale.elapsed() < WAIT);
    assert_eq!(node.get("/readyz?all=1&since=yesterday&wait=1s").await.status, 400);
    assert_eq!(node.get(&format!("/readyz?all=1&since={}&wait=1", before.seq)).await.status, 400);

    let (host, since) = (node.host, before.seq);
    let begun = Instant::now();
    let polls: Vec<_> = ["readyz?all=1&", "drain/status?"]
        .map(|what| tokio::spawn(async move { get(host, &format!("/{what}since={since}&wait=50s")).await }))
        .into();
    node.publish(&document.with("v0.3", &Build::B.in_place()));
    for poll in polls {
        let answer: Value = poll.await.unwrap().unwrap().json();
        assert!(answer["seq"].as_u64() > Some(since), "{answer}");
    }
    assert!(begun.elapsed() < WAIT, "nobody told the polls");
    node.end().await;
}

/// F37: a child that accepts and never answers delays no status; F22: it is withdrawn, and comes back.
#[tokio::test]
async fn f37_f22_a_child_that_hangs_delays_no_status_and_is_unready_until_it_answers_again() {
    let settings = "[timing]\nlive_probe = \"100ms\"\n";
    let document = Document::of([("v0.3", Build::A.in_place()), ("v0.4", Build::B.in_place())]);
    let node = Node::serving(&document, settings).await;
    let pid = serving(&node.status().await, "v0.3").unwrap().pid.unwrap();
    send(pid, Signal::SIGSTOP);

    // From the first probe that hangs to the second: each is lost after 2 s.
    let mut slowest = Duration::ZERO;
    while node.get("/readyz?version=v0.3").await.status == 200 {
        let begun = Instant::now();
        for path in ["/healthz", "/readyz", "/drain/status"] {
            assert_eq!(node.get(path).await.status, 200, "{path}");
        }
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "they took {slowest:?}");
    let all = node.until_ready(|all| !is_ready(all, "v0.3")).await;
    assert!(all.ready && is_ready(&all, "v0.4"), "{all:?}");
    assert_eq!(node.why_slot("v0.3").await, ["unready"]);

    send(pid, Signal::SIGCONT);
    node.until_ready(|all| is_ready(all, "v0.3")).await;
    assert_eq!(serving(&node.status().await, "v0.3").unwrap().pid, Some(pid), "it is the same process");
    node.end().await;
}

/// F25: a source that is lost, even over a restart, withdraws nobody.
#[tokio::test]
async fn f25_a_lost_catalog_source_withdraws_nothing_even_over_a_restart() {
    let mirror = Mirror::start().await;
    let release = mirror.offer(Build::A, "");
    let node = Node::following(&mirror, &Document::of([("v0.3", release.clone())])).await;
    let first = node.until_settled("v0.3", &release.sha256).await;

    mirror.fail();
    let unreachable =
        |status: &Status| status.catalog.reason.as_ref().is_some_and(|reason| reason.code() == "catalog_unreachable");
    node.until(unreachable).await;
    assert_eq!(node.get("/readyz").await.status, 200);
    assert_eq!(node.why().await.host.len(), 1);

    node.supervisor.kill_and_restart(|| ()).await.unwrap();
    node.until_ready(|all| all.ready).await;
    let second = node.until_settled("v0.3", &release.sha256).await;
    assert!(second.generation > first.generation);
    node.until(unreachable).await;
    node.end().await;
}
