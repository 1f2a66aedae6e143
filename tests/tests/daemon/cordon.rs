//! The cordon, and versionctl against the real daemon.

use std::process::Stdio;

use supervisor_protocol::host::HostState;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::http::EventStream;
use crate::node::Node;
use crate::releases::{Build, Document};
use crate::tools::{command, to, versionctl};

fn document() -> Document {
    Document::of([("v0.3", Build::A.in_place())])
}

/// F50, F62, P9: the cordon is the host's own, outlives it, and refuses nothing.
#[tokio::test]
async fn f50_f62_p9_a_cordon_outlives_a_kill_and_refuses_nothing() {
    let node = Node::serving(&document(), "").await;
    let drained = versionctl(&node, &["drain"]).await;
    assert_eq!((drained.code, drained.err.as_str()), (Some(0), ""));
    assert_eq!(drained.out, "demo: cordoned, nothing in flight\n");
    let all = node.until_ready(|all| all.state == HostState::Cordoned).await;
    assert!(!all.ready && all.slots[0].ready, "{all:?}");
    let boot = all.boot;
    assert_eq!(node.get("/readyz").await.status, 503);
    assert_eq!(node.get("/v0.3/hello").await.status, 200);

    node.supervisor.kill_and_restart(|| ()).await.unwrap();
    let all = node.until_ready(|all| all.boot != boot && all.state != HostState::Starting).await;
    assert_eq!((all.state, all.ready, all.slots[0].ready), (HostState::Cordoned, false, true));
    assert_eq!(node.get("/readyz").await.status, 503);
    assert_eq!(node.get("/v0.3/hello").await.status, 200);

    let back = versionctl(&node, &["undrain"]).await;
    assert_eq!((back.code, back.out.as_str()), (Some(0), "demo: serving, nothing in flight\n"));
    assert_eq!(node.get("/readyz").await.status, 200);
    node.supervisor.kill_and_restart(|| ()).await.unwrap();
    node.until_ready(|all| all.ready).await;
    node.end().await;
}

#[tokio::test]
async fn drain_and_wait_ends_when_the_last_stream_has() {
    let node = Node::serving(&document(), "").await;
    let stream = EventStream::open(node.host, "/v0.3", 3_000).await;
    let waiting = ["drain", "--wait", "--settle", "100ms"];
    let waits = tokio::spawn({
        let args = to(&node, &waiting);
        async move { crate::tools::run("versionctl", args).await }
    });
    node.until_ready(|all| all.state == HostState::Cordoned).await;
    assert_eq!(node.drain_status().await.by_class.stream, 1);
    // The same, by one who has less time.
    let short = versionctl(&node, &[&waiting[..], &["--timeout", "200ms"]].concat()).await;
    assert_eq!(short.code, Some(3), "{short:?}");
    assert!(!waits.is_finished(), "it ended with a stream in flight");

    stream.finish().await.unwrap();
    let ended = waits.await.unwrap();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert!(ended.out.contains("in flight: 1 stream") && ended.out.contains("demo: drained in "), "{}", ended.out);
    assert_eq!(node.drain_status().await.state, HostState::Cordoned);
    node.end().await;
}

#[tokio::test]
async fn versionctl_tells_a_person_what_the_daemon_says() {
    let a = Build::A.in_place();
    let document = document();
    let node = Node::serving(&document, "").await;
    let serving = node.until_settled("v0.3", &a.sha256).await;

    let status = versionctl(&node, &["status"]).await;
    assert_eq!((status.code, status.err.as_str()), (Some(0), ""));
    let row = status.out.lines().find(|line| line.contains("demo/v0.3")).unwrap_or_else(|| panic!("{}", status.out));
    for part in [serving.generation.to_string(), serving.pid.unwrap().to_string(), a.sha256[..8].to_owned()] {
        assert!(row.contains(&part), "{part} in {row}");
    }
    assert!(status.out.starts_with("host     demo  serving, ready"), "{}", status.out);

    let calm = versionctl(&node, &["why"]).await;
    assert_eq!(calm.out, format!("demo/v0.3: {} serves, nothing waits\n", serving.generation));
    node.publish(&document.with_elsewhere("v0.4", &a));
    node.until_why("v0.4", |reason| reason.code() == "unservable").await;
    let why = versionctl(&node, &["why", "demo/v0.4"]).await;
    assert_eq!(why.code, Some(0), "{why:?}");
    assert!(why.out.contains("demo/v0.4: nothing serves") && why.out.contains("[unservable]"), "{}", why.out);
    assert_eq!(versionctl(&node, &["why", "demo/v9"]).await.code, Some(4));
    node.end().await;
}

#[tokio::test]
async fn versionctl_watch_prints_a_swap_as_it_happens() {
    let document = document();
    let node = Node::serving(&document, "").await;
    let mut watch = command("versionctl", to(&node, &["watch"])).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = async || lines.next_line().await.unwrap().expect("it goes on until it is ended");
    assert_eq!(next().await, "host demo serving, ready");
    while next().await != "demo/v0.3 g1 serving" {}
    // A stream keeps the old generation there, so that the swap cannot be missed between two pictures.
    let stream = EventStream::open(node.host, "/v0.3", 4_000).await;
    node.publish(&document.with("v0.3", &Build::B.in_place()));
    while next().await != "demo/v0.3 g1 serving -> retired" {}
    stream.finish().await.unwrap();
    while next().await != "demo/v0.3 g1 gone" {}
    watch.kill().await.unwrap();
    node.end().await;
}

#[tokio::test]
async fn versionctl_without_a_daemon_says_so_and_exits_2() {
    let node = Node::new("");
    for args in [&["status"][..], &["drain", "--wait"], &["undrain"], &["why"], &["watch"]] {
        let said = versionctl(&node, args).await;
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{args:?}: {said:?}");
        assert!(said.err.contains(node.admin().as_str()), "{said:?}");
    }
}
