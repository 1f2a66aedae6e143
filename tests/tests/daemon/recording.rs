//! The flight recorder of a slot, as an operator takes it away from the host and plays it elsewhere.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::node::{Node, serving};
use crate::releases::{Build, Document};
use crate::tools::{run, versionctl};

#[tokio::test]
async fn a_recording_of_a_running_slot_replays_without_the_daemon() {
    let (a, b) = (Build::A.in_place(), Build::B.in_place());
    let document = Document::of([("v0.3", a)]);
    let node = Node::serving(&document, "").await;
    let old = serving(&node.status().await, "v0.3").unwrap().generation;
    assert_eq!(versionctl(&node, &["hold", "demo/v0.3"]).await.code, Some(0));
    assert_eq!(versionctl(&node, &["release", "demo/v0.3"]).await.code, Some(0));
    node.publish(&document.with("v0.3", &b));
    let is_new = |status: &_| serving(status, "v0.3").is_some_and(|serving| serving.sha256.to_string() == b.sha256);
    let new = serving(&node.until(is_new).await, "v0.3").unwrap().generation;

    let file = node.folder().join("taken.jsonl");
    let taken = versionctl(&node, &["record", "demo/v0.3", "-o", file.as_str()]).await;
    assert_eq!((taken.code, taken.out.as_str()), (Some(0), ""), "{taken:?}");
    let printed = versionctl(&node, &["record", "demo/v0.3"]).await;
    assert!(printed.out.starts_with("{\"header\":"), "{printed:?}");
    let unknown = versionctl(&node, &["record", "demo/v9"]).await;
    assert!(unknown.code == Some(4) && unknown.err.contains("unknown_slot"), "{unknown:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("taken.jsonl");
    std::fs::write(&file, &text).unwrap();
    node.end().await;

    let file = file.to_str().unwrap();
    let replayed = run("versionctl", ["replay", file]).await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    let steps = [
        format!("    -> publish {old}\n"),
        " order hold\n".to_owned(),
        " order release\n".to_owned(),
        format!("    -> publish {new}, then retire {old}\n"),
    ];
    let mut rest = replayed.out.as_str();
    for step in &steps {
        let (_, after) = rest.split_once(step).unwrap_or_else(|| panic!("no {step:?} where it belongs: {replayed:?}"));
        rest = after;
    }
    let json = run("versionctl", ["replay", "--json", file]).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["same"], true);
    let told = |verb: &str| json["played"].as_array().unwrap().iter().any(|it| it["act"]["order"]["verb"] == verb);
    assert!(told("hold") && told("release"), "{json:#}");

    // A file that was cut off is refused with the line at which it ends.
    let lines = text.lines().count();
    std::fs::write(file, text.lines().take(lines - 1).collect::<Vec<_>>().join("\n")).unwrap();
    let cut = run("versionctl", ["replay", file]).await;
    assert_eq!((cut.code, cut.out.as_str()), (Some(1), ""));
    assert!(cut.err.contains(&format!("line {lines}: ")) && cut.err.contains("cut off"), "{cut:?}");
}

#[tokio::test]
async fn a_generation_that_fails_leaves_its_recording_on_the_disk() {
    let node = Node::new("[service.demo]\nargs = [\"--port\", \"{port}\", \"--no-such-flag\"]\n");
    node.publish(&Document::of([("v0.3", Build::A.in_place())]));
    node.start();
    node.until_ready(|all| !all.slots.is_empty()).await;
    node.until_why("v0.3", |reason| reason.code() == "start_failed").await;
    let file = node.folder().join("state/flight/demo/v0.3.jsonl");
    let bound = Instant::now() + Duration::from_secs(60);
    while !file.is_file() {
        assert!(Instant::now() < bound, "{file} does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let replayed = run("versionctl", ["replay", file.as_str()]).await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    assert!(replayed.out.contains("-> start g") && replayed.out.contains("why start_failed: "), "{}", replayed.out);
    node.end().await;
}
