//! What children print, over the admin API.

use std::time::Duration;

use supervisor_protocol::admin::{ApiError, LogLine, LogStream};

use crate::node::Node;
use crate::releases::{Build, Document};

fn lines(text: &str) -> Vec<LogLine> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

/// The last words of a generation that failed are there to be read after its end, and of the next one too.
#[tokio::test]
async fn the_last_words_of_generations_that_failed_can_be_read_and_followed() {
    let node = Node::new("[service.demo]\nargs = [\"--port\", \"{port}\", \"--no-such-flag\"]\n");
    node.publish(&Document::of([("v0.3", Build::A.in_place())]));
    node.start();
    node.until_ready(|all| !all.slots.is_empty()).await;
    node.until_why("v0.3", |reason| reason.code() == "start_failed").await;

    let answer = node.get_admin("/v1/services/demo/versions/v0.3/logs").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let all = lines(&answer.text());
    let first = all.iter().find(|line| line.text.contains("--no-such-flag")).unwrap_or_else(|| panic!("{all:?}"));
    assert_eq!((first.stream, first.dropped), (LogStream::Stderr, 0));
    let generation = first.generation.0;
    let path = format!("/v1/services/demo/versions/v0.3/logs?generation={generation}&tail=1&follow=1");
    let followed = lines(&node.get_admin(&path).await.text());
    assert_eq!(followed.len(), 1, "the follower of a generation that has ended comes to its end");
    assert_eq!(followed[0].generation.0, generation);

    // Who follows the slot sees the next try, whenever it comes.
    let (admin, path) = (node.admin(), "/v1/services/demo/versions/v0.3/logs?tail=0&follow=1");
    let line = tokio::time::timeout(Duration::from_secs(120), crate::http::first_line(&admin, path)).await;
    let [next] = &lines(&line.expect("the next try"))[..] else { panic!("one line") };
    assert!(next.generation.0 > generation);
    node.end().await;
}

#[tokio::test]
async fn logs_that_cannot_be_had_are_refused_by_name() {
    let node = Node::serving(&Document::of([("v0.3", Build::A.in_place())]), "").await;
    for (path, status, code) in [
        ("v9/logs", 404, "unknown_slot"),
        ("v0.3/logs?generation=999", 404, "unknown_generation"),
        ("v0.3/logs?follow=2", 400, "bad_query"),
        ("v0.3/logs?tale=2", 400, "bad_query"),
        ("../logs", 400, "bad_slot"),
    ] {
        let answer = node.get_admin(&format!("/v1/services/demo/versions/{path}")).await;
        assert_eq!((answer.status, answer.json::<ApiError>().code.as_str()), (status, code), "{path}");
    }
    let empty = node.get_admin("/v1/services/demo/versions/v0.3/logs").await;
    assert_eq!(empty.status, 200);
    node.end().await;
}
