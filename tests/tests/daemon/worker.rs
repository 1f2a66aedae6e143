//! Children without traffic: they work from their publication to their drain, and finish what they began.

use supervisor_protocol::admin::{DrainCause, DrainOutcome};

use crate::mirror::Mirror;
use crate::node::Node;
use crate::releases::{Build, Document};

/// What the slot's workers wrote: `(generation, begins or ends, piece)`.
fn journal(node: &Node) -> Vec<(String, String, u64)> {
    let text = std::fs::read_to_string(node.folder().join("state/data/demo/v0.3/journal")).unwrap_or_default();
    let line = |line: &str| {
        let [generation, what, piece] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        (generation.to_owned(), what.to_owned(), piece.parse().unwrap())
    };
    text.lines().map(line).collect()
}

#[tokio::test]
async fn a_worker_works_once_it_is_published_and_its_replacement_cuts_no_piece() {
    let mirror = Mirror::start().await;
    let (first, second) = (mirror.offer(Build::Worker, "1"), mirror.offer(Build::Worker, "2"));
    let document = Document::of([("v0.3", first.clone())]);
    let node = Node::following(&mirror, &document).await;
    let old = node.until_settled("v0.3", &first.sha256).await;
    node.until(|_| journal(&node).iter().any(|(_, what, _)| what == "ends")).await;
    assert_eq!(node.get("/readyz?version=v0.3").await.status, 200);
    assert_eq!(node.get("/v0.3/hello").await.status, 503, "it has no traffic, and nothing is held for it");

    mirror.publish(&document.with("v0.3", &second));
    let new = node.until_settled("v0.3", &second.sha256).await;
    let by = |generation: u64, what: &str| {
        let is = |entry: &&(String, String, u64)| entry.0 == format!("g{generation}") && entry.1 == what;
        journal(&node).iter().filter(is).count()
    };
    node.until(|_| by(new.generation.0, "ends") > 0).await;
    assert_eq!(by(old.generation.0, "begins"), by(old.generation.0, "ends"), "a piece was cut: {:?}", journal(&node));
    let receipt = node.until(|status| !status.receipts.is_empty()).await.receipts[0].clone();
    assert_eq!(
        (receipt.generation, receipt.cause, receipt.outcome),
        (old.generation, DrainCause::Swap, DrainOutcome::Drained)
    );
    node.end().await;
}
