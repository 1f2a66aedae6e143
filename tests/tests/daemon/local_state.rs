//! Builds whose state lives in their data directory: no two of their generations at once, whatever the
//! catalog does.

use serde_json::Value;
use supervisor_protocol::admin::DrainCause;

use crate::http::{EventStream, get};
use crate::mirror::Mirror;
use crate::node::{Node, serving};
use crate::releases::{Build, Document};

/// F11, P5: a name that comes back before its child was told to drain is served by that child again: there is no
/// second one on its data directory, and its stream ends whole.
#[tokio::test]
async fn f11_p5_a_name_that_comes_back_while_it_drains_is_served_by_what_is_there() {
    let document = Document::of([("v0.3", Build::Local.in_place()), ("v0.4", Build::A.in_place())]);
    let node = Node::serving(&document, "").await;
    let before = serving(&node.status().await, "v0.3").unwrap().clone();
    let stream = EventStream::open(node.host, "/v0.3", 4_000).await;
    let removed = document.without("v0.3");
    node.publish(&removed);
    while node.get("/v0.3/hello").await.status == 200 {}
    assert_eq!(node.get("/v0.3/hello").await.status, 404);

    node.publish(&removed.with("v0.3", &Build::Local.in_place()));
    node.until(|status| serving(status, "v0.3").is_some()).await;
    let answer = node.get("/v0.3/hello").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let hello: Value = answer.json();
    assert_eq!(hello["pid"].as_u64(), before.pid.map(u64::from), "{hello}");
    stream.finish().await.unwrap();
    assert!(node_holds_one_process(&node));
    node.end().await;
}

/// Of the slot with local state.
fn node_holds_one_process(node: &Node) -> bool {
    let directories = node.processes();
    directories.iter().filter(|process| process.data_dir.as_ref().is_some_and(|dir| dir.ends_with("v0.3"))).count() == 1
}

/// F08, F10, F16: a replacement that may not run beside what serves takes its place while requests wait: none is
/// refused, none is cut, and no two processes are ever on one data directory.
#[tokio::test]
async fn f08_f10_f16_old_and_new_of_local_state_take_turns_while_requests_wait() {
    let mirror = Mirror::start().await;
    let (first, second) = (mirror.offer(Build::Local, "1"), mirror.offer(Build::Local, "2"));
    let document = Document::of([("v0.3", first.clone())]);
    let node = Node::following(&mirror, &document).await;
    let before = node.until_settled("v0.3", &first.sha256).await;
    mirror.publish(&document.with("v0.3", &second));
    let host = node.host;
    let asks = tokio::spawn(async move {
        let mut pids = Vec::new();
        loop {
            let answer = get(host, "/v0.3/hello").await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            pids.push(answer.json::<Value>()["pid"].as_u64());
            if pids.last() != pids.first() {
                return pids;
            }
        }
    });
    let after = node
        .until(|status| {
            let directories = node.processes().into_iter().filter_map(|process| process.data_dir);
            assert!(directories.filter(|dir| dir.ends_with("v0.3")).count() <= 1, "two on one data directory");
            serving(status, "v0.3").is_some_and(|now| now.pid != before.pid)
        })
        .await;
    let pids = asks.await.unwrap();
    assert_eq!(pids.last(), Some(&serving(&after, "v0.3").unwrap().pid.map(u64::from)));
    let receipt = after.receipts.iter().find(|receipt| receipt.generation == before.generation).unwrap();
    assert_eq!((receipt.cause, receipt.cut.total()), (DrainCause::Swap, 0), "{receipt:?}");
    node.end().await;
}
