//! Children that die.

use nix::sys::signal::Signal;
use serde_json::Value;
use supervisor_protocol::Reason;
use supervisor_protocol::admin::DrainCause;
use versiond_demo::checks::Verdict;

use crate::http::{EventStream, get};
use crate::node::{Node, send, serving};
use crate::releases::{Build, Document};

fn document() -> Document {
    Document::of([("v0.3", Build::A.in_place())])
}

/// F16: a crash is waited out, not refused.
#[tokio::test]
async fn f16_requests_for_a_crashed_child_are_answered_by_its_next_life() {
    let node = Node::serving(&document(), "").await;
    let mut last = serving(&node.status().await, "v0.3").unwrap().clone();
    for life in 0..2 {
        send(last.pid.unwrap(), Signal::SIGKILL);
        let host = node.host;
        let asked: Vec<_> = (0..5).map(|_| tokio::spawn(async move { get(host, "/v0.3/hello").await })).collect();
        if life == 1 {
            // The second pause is 2 s, long enough to be seen.
            let reason = node.until_why("v0.3", |reason| reason.code() == "crash_backoff").await;
            let Reason::CrashBackoff { generation, detail, .. } = reason else { panic!("{reason:?}") };
            assert_eq!((generation, detail.as_str()), (last.generation.0, "signal 9"));
        }
        for answer in asked {
            let answer = answer.await.unwrap().unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            let hello: Value = answer.json();
            assert!(hello["generation"].as_u64() > Some(last.generation.0), "{hello}");
        }
        let status = node.until(|status| serving(status, "v0.3").is_some_and(|now| now.pid != last.pid)).await;
        last = serving(&status, "v0.3").unwrap().clone();
    }
    assert_eq!(node.processes().len(), 1);
    node.end().await;
}

/// P1: the receipt of a crash counts what broke with it.
#[tokio::test]
async fn p1_the_receipt_of_a_crash_counts_what_broke() {
    let node = Node::serving(&document(), "").await;
    let before = serving(&node.status().await, "v0.3").unwrap().clone();
    let streams =
        [EventStream::open(node.host, "/v0.3", 50_000).await, EventStream::open(node.host, "/v0.3", 50_000).await];
    send(before.pid.unwrap(), Signal::SIGKILL);
    for stream in streams {
        let cut = stream.finish().await.unwrap_err();
        assert_eq!(cut.verdict(), Verdict::Cut, "{cut}");
    }
    let status = node.until(|status| !status.receipts.is_empty()).await;
    let receipt = &status.receipts[0];
    assert_eq!((receipt.generation, receipt.cause), (before.generation, DrainCause::Crash));
    assert_eq!((receipt.at_start.stream, receipt.finished.stream, receipt.cut.stream), (2, 0, 2), "{receipt:?}");
    node.end().await;
}

/// F15, F18: a build that crashes again and again is started ever less often.
#[tokio::test]
async fn f15_f18_lives_that_end_in_a_crash_are_paid_with_growing_pauses() {
    let args = "[service.demo]\nargs = [\"--port\", \"{port}\", \"--data-dir\", \"{data_dir}\", \"--crash-after\", \"1000\"]\n";
    let node = Node::new(args);
    node.publish(&document());
    node.start();
    node.until_ready(|all| !all.slots.is_empty()).await;
    // Pauses of 1 s and 2 s lie behind it, then, and no more than three lives.
    let long = |reason: &Reason| matches!(reason, Reason::CrashBackoff { retry_in_ms, .. } if *retry_in_ms > 2_000);
    let reason = node.until_why("v0.3", long).await;
    let Reason::CrashBackoff { generation, .. } = reason else { panic!("{reason:?}") };
    assert_eq!(generation, 3);
    assert_eq!(node.processes(), []);
    node.end().await;
}
