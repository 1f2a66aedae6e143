//! Builds whose state lives in their data directory: no two of their generations at once, whatever the
//! catalog does.

use serde_json::Value;
use supervisor_protocol::admin::Phase;

use crate::http::{EventStream, get};
use crate::mirror::Mirror;
use crate::node::{Node, serving, slot};
use crate::releases::{Build, Document};

/// F11, P5: a name that comes back while it drains waits for the drain, and so do the requests for it.
#[tokio::test]
async fn f11_p5_a_name_that_comes_back_waits_until_its_data_directory_is_free() {
    let document = Document::of([("v0.3", Build::Local.in_place()), ("v0.4", Build::A.in_place())]);
    let node = Node::serving(&document, "").await;
    let before = serving(&node.status().await, "v0.3").unwrap().clone();
    let stream = EventStream::open(node.host, "/v0.3", 4_000).await;
    let removed = document.without("v0.3");
    node.publish(&removed);
    while node.get("/v0.3/hello").await.status == 200 {}
    assert_eq!(node.get("/v0.3/hello").await.status, 404);

    node.publish(&removed.with("v0.3", &Build::Local.in_place()));
    node.until_why("v0.3", |reason| reason.code() == "data_directory_busy").await;
    let status = node.status().await;
    let generations = &slot(&status, "v0.3").unwrap().generations;
    assert!(generations.iter().any(|one| one.pid == before.pid && one.by_class.stream == 1), "{generations:#?}");
    assert!(generations.iter().any(|one| one.phase == Phase::Preflight && one.pid.is_none()), "{generations:#?}");
    let host = node.host;
    let held = tokio::spawn(async move { get(host, "/v0.3/hello").await });
    node.until(|_| node_holds_one_process(&node)).await;

    stream.finish().await.unwrap();
    let answer = held.await.unwrap().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let hello: Value = answer.json();
    assert!(hello["generation"].as_u64() > Some(before.generation.0), "{hello}");
    assert_ne!(hello["pid"].as_u64(), before.pid.map(u64::from));
    assert!(node_holds_one_process(&node));
    node.end().await;
}

/// Of the slot with local state.
fn node_holds_one_process(node: &Node) -> bool {
    let directories = node.processes();
    directories.iter().filter(|process| process.data_dir.as_ref().is_some_and(|dir| dir.ends_with("v0.3"))).count() == 1
}

/// F08: a replacement that may not run beside what serves is found before that is touched, and waits.
#[tokio::test]
async fn f08_old_and_new_of_local_state_never_run_side_by_side() {
    let mirror = Mirror::start().await;
    let (first, second) = (mirror.offer(Build::Local, "1"), mirror.offer(Build::Local, "2"));
    let document = Document::of([("v0.3", first.clone())]);
    let node = Node::following(&mirror, &document).await;
    let before = node.until_settled("v0.3", &first.sha256).await;
    mirror.publish(&document.with("v0.3", &second));
    node.until_why("v0.3", |reason| reason.code() == "needs_window").await;
    let status = node.status().await;
    assert_eq!(serving(&status, "v0.3").unwrap().pid, before.pid);
    assert!(node_holds_one_process(&node));
    assert_eq!(node.get("/v0.3/hello").await.status, 200);
    node.end().await;
}
