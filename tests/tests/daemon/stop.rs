//! The way out: what a stop refuses, what it lets finish, and what forces it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ::http::Method;
use bytes::Bytes;
use nix::sys::signal::Signal;
use supervisor_protocol::admin::Phase;
use supervisor_protocol::contract::DrainStatus;
use supervisor_protocol::headers::{HostStamp, NotAdmitted};
use supervisor_protocol::host::HostState;
use versiond_demo::checks::{Fault, Verdict};
use versiond_demo::clients::connection::{Connection, request, whole};

use crate::http::{EventStream, get_unix};
use crate::mirror::Mirror;
use crate::node::{Node, send, serving, slot};
use crate::releases::{Build, Document};

/// A stream that nothing but a cut ends in time.
const FOR_EVER_MS: u64 = 55_000;

fn document() -> Document {
    Document::of([("v0.3", Build::A.in_place())])
}

/// F29: streams, and the child's own work after them, come to their end within one deadline. F35: a second
/// SIGTERM changes nothing. F63: what is refused meanwhile is refused in the host's own name.
#[tokio::test]
async fn f29_f35_f63_a_stop_lets_work_finish_refuses_the_rest_and_is_not_hurried() {
    let node = Node::serving(&document(), "").await;
    let status = node.status().await;
    let generation = serving(&status, "v0.3").unwrap();
    let child = SocketAddr::from((Ipv4Addr::LOCALHOST, generation.port.unwrap()));
    let proxied = EventStream::open(node.host, "/v0.3", 3_000).await;
    // Past versiond, so that it is the child alone that knows of it.
    let own = EventStream::open(child, "", 6_000).await;

    node.signal(Signal::SIGTERM);
    node.until_ready(|all| all.state == HostState::Draining).await;
    let refused = node.get("/v0.3/hello").await;
    assert_eq!(refused.status, 503);
    let reason: NotAdmitted = refused.header("versiond-not-admitted").unwrap().parse().unwrap();
    assert_eq!((reason.reason.as_str(), reason.nonce.as_str()), ("host_stopping", status.boot.as_str()));
    let stamp: HostStamp = refused.header("versiond-host").unwrap().parse().unwrap();
    assert_eq!(stamp.boot, status.boot);
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(node.get("/readyz").await.status, 503);

    let before = node.drain_status().await;
    node.signal(Signal::SIGTERM);
    let (mut after, begun) = (node.drain_status().await, Instant::now());
    while begun.elapsed() < Duration::from_millis(500) {
        after = node.drain_status().await;
    }
    let deadline =
        |drain: &supervisor_protocol::host::HostDrain| drain.since_ms.unwrap() + drain.deadline_in_ms.unwrap();
    assert_eq!((after.state, deadline(&after)), (HostState::Draining, deadline(&before)));

    proxied.finish().await.unwrap();
    let of_child = |status: &supervisor_protocol::admin::Status| {
        slot(status, "v0.3").and_then(|slot| slot.generations.first().map(|only| (only.phase, only.inflight)))
    };
    node.until(|status| of_child(status) == Some((Phase::Draining, 1))).await;
    let socket = node.folder().join(format!("state/run/{}/admin.sock", generation.generation));
    let told: DrainStatus = get_unix(&socket, "/drain/status").await.unwrap().json();
    assert_eq!((told.draining, told.inflight), (true, 1));
    own.finish().await.unwrap();
    node.ended().await;
}

/// F33: while it announces, the host is unready and admits; F69: connections that routers keep stay open,
/// and each answer says that it is their last.
#[tokio::test]
async fn f33_f69_an_announcing_host_is_unready_and_still_admits() {
    let node = Node::serving(&document(), "[timing]\nannounce = \"4s\"\ndetection = \"1s\"\n").await;
    let hello = || request(Method::GET, "/v0.3/hello", whole(Bytes::new())).unwrap();
    let within = Duration::from_secs(30);
    let mut kept = Connection::open(node.host, within).await.unwrap();
    let first = kept.send(hello(), within).await.unwrap();
    assert!(!first.headers().contains_key("connection"), "{:?}", first.headers());
    drop(first);
    let mut idle = Connection::open(node.host, within).await.unwrap();
    idle.exchange(hello(), within).await.unwrap();

    node.signal(Signal::SIGTERM);
    node.until_ready(|all| all.state == HostState::Announcing && !all.ready).await;
    assert_eq!(node.get("/readyz").await.status, 503);
    assert!(idle.is_open(), "an idle connection was closed");
    let admitted = idle.send(hello(), within).await.unwrap();
    assert_eq!(admitted.headers()["connection"], "close");
    let late = EventStream::open(node.host, "/v0.3", 6_000).await;
    assert_eq!(node.drain_status().await.state, HostState::Announcing);

    node.until_ready(|all| all.state == HostState::Draining).await;
    late.finish().await.unwrap();
    node.ended().await;
}

#[tokio::test]
async fn a_hangup_ends_nothing() {
    let node = Node::serving(&document(), "").await;
    let stream = EventStream::open(node.host, "/v0.3", 2_000).await;
    node.signal(Signal::SIGHUP);
    stream.finish().await.unwrap();
    assert_eq!(node.drain_status().await.state, HostState::Serving);
    assert!(node.last_words().contains("the configuration is read again"), "{}", node.last_words());
    node.end().await;
}

/// F32: a force reaches everything, and still reaps.
#[tokio::test]
async fn f32_a_second_sigint_forces_and_still_reaps() {
    let node = Node::serving(&document(), "").await;
    let stream = EventStream::open(node.host, "/v0.3", FOR_EVER_MS).await;
    node.signal(Signal::SIGINT);
    node.until_ready(|all| all.state == HostState::Draining).await;
    assert_eq!(node.drain_status().await.inflight, 1);
    let begun = Instant::now();
    node.signal(Signal::SIGINT);
    let cut = stream.finish().await.unwrap_err();
    assert_eq!(cut.verdict(), Verdict::Cut, "{cut}");
    node.ended().await;
    assert!(begun.elapsed() < Duration::from_millis(FOR_EVER_MS / 2), "{:?}", begun.elapsed());
}

/// F35: when the budget is spent everything is forced, and still reaped: here a stream that does not end
/// and a child that takes no signal.
#[tokio::test]
async fn f35_a_spent_budget_forces_and_still_reaps() {
    let settings = "[host]\nshutdown_budget = \"3s\"\n[timing]\nstop_grace = \"1s\"\nhost_drain_min = \"1s\"\n";
    let node = Node::serving(&document(), settings).await;
    let stream = EventStream::open(node.host, "/v0.3", FOR_EVER_MS).await;
    send(serving(&node.status().await, "v0.3").unwrap().pid.unwrap(), Signal::SIGSTOP);
    let begun = Instant::now();
    node.signal(Signal::SIGTERM);
    let cut: Fault = stream.finish().await.unwrap_err();
    assert_eq!(cut.verdict(), Verdict::Cut, "{cut}");
    node.ended().await;
    assert!(begun.elapsed() < Duration::from_millis(FOR_EVER_MS / 2), "{:?}", begun.elapsed());
}

/// F31: a host that is told to stop while it starts never serves. F30, F32: what is being fetched is given
/// up, and nothing is started any more.
#[tokio::test]
async fn f30_f31_f32_a_stop_during_the_start_gives_everything_up() {
    let mirror = Mirror::start().await;
    let (stuck, held) = (mirror.offer(Build::Stuck, ""), mirror.offer(Build::A, "held"));
    let document = Document::of([("v0.3", stuck)]);
    mirror.publish(&document);
    let node = Node::new(&mirror.as_source());
    node.start();
    let warms = |status: &supervisor_protocol::admin::Status| {
        slot(status, "v0.3").is_some_and(|slot| slot.generations.iter().any(|one| one.phase == Phase::Warming))
    };
    node.until_ready(|all| !all.slots.is_empty()).await;
    node.until(warms).await;
    mirror.close();
    mirror.publish(&document.with("v0.4", &held));
    node.until_why("v0.4", |reason| reason.code() == "fetching").await;
    assert_eq!(node.processes().len(), 1);

    node.signal(Signal::SIGTERM);
    node.ended().await;
}
