//! What a catalog can do to a host, document by document.

use serde_json::Value;
use supervisor_protocol::admin::{DrainCause, DrainOutcome, Status};

use crate::http::{EventStream, get};
use crate::mirror::Mirror;
use crate::node::{Node, serving, slot};
use crate::releases::{Build, Document, Release, upstream_list};

fn in_force(status: &Status) -> Option<u64> {
    status.catalog.revision
}

#[tokio::test]
async fn upstreams_list_is_followed_like_a_document_of_our_own() {
    let (a, b) = (Build::A.in_place(), Build::B.in_place());
    let node = Node::new("");
    node.publish_text(&upstream_list(&[("v0.3", &a), ("v0.4", &a)]));
    node.start();
    node.until_ready(|all| all.ready && all.slots.len() == 2).await;
    let untouched = node.until_settled("v0.4", &a.sha256).await;
    node.publish_text(&upstream_list(&[("v0.3", &b), ("v0.4", &a)]));
    node.until_settled("v0.3", &b.sha256).await;
    let hello: Value = node.get("/v0.3/hello").await.json();
    assert_eq!(hello["build"], "b");
    let status = node.status().await;
    assert_eq!((in_force(&status), serving(&status, "v0.4").unwrap().pid), (None, untouched.pid));
    node.end().await;
}

/// P3: what cannot be read is said, and changes nothing.
#[tokio::test]
async fn p3_a_document_that_cannot_be_taken_keeps_what_serves() {
    let good = Document::of([("v0.3", Build::A.in_place())]).with("v0.4", &Build::B.in_place());
    let node = Node::serving(&good, "").await;
    let before = node.processes();
    let twice = upstream_list(&[("v0.3", &Build::B.in_place()), ("v0.3", &Build::A.in_place())]);
    let lower = Document::of([("v0.3", Build::B.in_place())]).text();
    for (what, text) in [("no JSON", "{\"schema\": 1,"), ("a name twice", &twice), ("a lower revision", &lower)] {
        node.publish_text(text);
        let status = node.until(|status| status.catalog.reason.is_some()).await;
        assert_eq!(status.catalog.reason.as_ref().unwrap().code(), "catalog_unreachable", "{what}");
        assert_eq!((status.ready, in_force(&status)), (true, Some(good.revision())), "{what}");
        assert!(status.slots.iter().all(|slot| slot.ready && slot.reasons.is_empty()), "{what}: {status:#?}");
        node.publish(&good);
        node.until(|status| status.catalog.reason.is_none()).await;
    }
    assert_eq!(node.processes(), before);
    node.end().await;
}

/// F17, P3: an entry that cannot be served here is its own slot's trouble, on a first start and later.
#[tokio::test]
async fn f17_p3_an_unservable_entry_blocks_its_own_slot_alone() {
    let (a, b) = (Build::A.in_place(), Build::B.in_place());
    let document = Document::of([("v0.3", a.clone())]).with_elsewhere("v0.4", &b);
    let node = Node::new("");
    node.publish(&document);
    node.start();
    node.until_ready(|all| all.ready).await;
    let first = node.until_settled("v0.3", &a.sha256).await;
    assert_eq!(node.why_slot("v0.4").await, ["unservable"]);
    let refused = node.get("/v0.4/hello").await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("versiond-not-admitted").unwrap().starts_with("not_serving; "));

    // The same of a slot that serves: it goes on.
    let next = document.with_elsewhere("v0.3", &b);
    node.publish(&next);
    node.until_why("v0.3", |reason| reason.code() == "unservable").await;
    let status = node.status().await;
    assert_eq!(serving(&status, "v0.3").unwrap().pid, first.pid);
    assert_eq!(node.get("/v0.3/hello").await.status, 200);
    assert_eq!(node.get("/readyz").await.status, 200);

    node.publish(&next.with("v0.4", &b).with("v0.3", &b));
    node.until_settled("v0.3", &b.sha256).await;
    node.until_settled("v0.4", &b.sha256).await;
    node.end().await;
}

/// P1: a removed name is gone at once for what comes, and not for what was admitted.
#[tokio::test]
async fn p1_a_removed_name_is_not_found_at_once_while_its_stream_ends_whole() {
    let document = Document::of([("v0.3", Build::A.in_place()), ("v0.4", Build::B.in_place())]);
    let node = Node::serving(&document, "").await;
    let stream = EventStream::open(node.host, "/v0.4", 4_000).await;
    node.publish(&document.without("v0.4"));
    let answer = loop {
        let answer = node.get("/v0.4/hello").await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(answer.status, 404, "{}", answer.text());
    let status = node.status().await;
    assert_eq!(slot(&status, "v0.4").unwrap().generations[0].by_class.stream, 1, "{status:#?}");
    assert_eq!(node.get("/readyz?version=v0.4").await.status, 503);
    assert_eq!(node.get("/readyz").await.status, 200);

    let generation = stream.generation();
    stream.finish().await.unwrap();
    let status = node.until(|status| slot(status, "v0.4").is_none() && !status.receipts.is_empty()).await;
    let [receipt] = &status.receipts[..] else { panic!("{:#?}", status.receipts) };
    assert_eq!((receipt.generation.0, receipt.successor), (generation, None));
    assert_eq!((receipt.cause, receipt.outcome), (DrainCause::Removal, DrainOutcome::Drained));
    assert_eq!((receipt.at_start.stream, receipt.finished.stream, receipt.cut.total()), (1, 1, 0));
    assert_eq!(node.get("/v0.4/hello").await.status, 404);
    node.end().await;
}

/// F12: bytes are the identity, not where they are found.
#[tokio::test]
async fn f12_another_address_of_the_same_bytes_restarts_nothing() {
    let a = Build::A.in_place();
    let document = Document::of([("v0.3", a.clone())]);
    let node = Node::serving(&document, "").await;
    let before = node.until_settled("v0.3", &a.sha256).await;
    let copy = node.folder().join("another-mirror");
    std::fs::copy(Build::A.program(), &copy).unwrap();
    let moved = document.with("v0.3", &Release { url: format!("file:{copy}"), ..a.clone() });
    node.publish(&moved);
    let status = node.until(|status| in_force(status) == Some(moved.revision())).await;
    let after = serving(&status, "v0.3").unwrap();
    assert_eq!((after.generation, after.pid), (before.generation, before.pid));
    assert_eq!(slot(&status, "v0.3").unwrap().generations.len(), 1);
    node.end().await;
}

/// F17: a download that does not come holds up neither another slot nor the corrected catalog.
#[tokio::test]
async fn f17_a_download_that_hangs_holds_up_its_own_slot_alone() {
    let mirror = Mirror::start().await;
    let (first, second, third) =
        (mirror.offer(Build::A, "1"), mirror.offer(Build::B, "2"), mirror.offer(Build::B, "3"));
    let document = Document::of([("v0.3", first.clone()), ("v0.4", first.clone())]);
    let node = Node::following(&mirror, &document).await;
    let document = document.with("v0.3", &second);
    mirror.publish(&document);
    node.until_settled("v0.3", &second.sha256).await;
    let before = node.until_settled("v0.4", &first.sha256).await;

    mirror.close();
    let hangs = document.with("v0.4", &third);
    mirror.publish(&hangs);
    node.until_why("v0.4", |reason| reason.code() == "fetching").await;
    // Its bytes are in the store.
    let other = hangs.with("v0.3", &first);
    mirror.publish(&other);
    node.until_settled("v0.3", &first.sha256).await;
    assert_eq!(node.why_slot("v0.4").await, ["fetching"]);
    assert_eq!(node.get("/v0.4/hello").await.status, 200);
    mirror.publish(&other.with("v0.4", &first));
    let after = node.until_settled("v0.4", &first.sha256).await;
    assert_eq!(after.generation, before.generation);
    node.end().await;
}

/// P6: a denied hash ends, with its streams, and its name waits for what replaces it.
#[tokio::test]
async fn p6_a_denied_hash_is_drained_although_nothing_can_replace_it() {
    let mirror = Mirror::start().await;
    let (bad, good) = (mirror.offer(Build::A, "bad"), mirror.offer(Build::B, "good"));
    let document = Document::of([("v0.3", bad.clone())]);
    let node = Node::following(&mirror, &document).await;
    let stream = EventStream::open(node.host, "/v0.3", 2_000).await;
    mirror.close();
    let denying = document.with("v0.3", &good).denying(&bad);
    mirror.publish(&denying);
    node.until(|status| slot(status, "v0.3").is_some_and(|slot| !slot.ready)).await;
    let host = node.host;
    let held = tokio::spawn(async move { get(host, "/v0.3/hello").await });
    stream.finish().await.unwrap();
    mirror.open();
    let answer = held.await.unwrap().unwrap();
    let hello: Value = answer.json();
    assert_eq!((answer.status, hello["build"].as_str()), (200, Some("b")), "{}", answer.text());
    node.until_settled("v0.3", &good.sha256).await;
    node.end().await;
}
