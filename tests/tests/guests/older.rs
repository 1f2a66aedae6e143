//! A child of the older contract, written in another language: its flags, its admin port, its drain.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use supervisor_protocol::admin::DrainOutcome;
use supervisor_protocol::contract::StateKind;
use tokio::net::TcpStream;

use crate::guest::{Load, node, node_with, own, program, rewrite, settled};
use crate::node::{Node, serving};

fn service(word: &str, version: &str, storage: &str) -> String {
    program("python3", "python3");
    format!(
        r#"
[service.old]
command = ["{}", "--port", "{{port}}"]
version = "{version}"
contract = "older"
route = "/old"
env = {{ WORD = "{word}", STORAGE = "{storage}" }}
"#,
        own("older.py")
    )
}

/// A stream that has begun; its whole text at its end.
async fn stream(node: &Node) -> tokio::task::JoinHandle<String> {
    let stream = TcpStream::connect(node.host).await.unwrap();
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    let request = ::http::Request::get("/old/stream").header(::http::header::HOST, "guest.test");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    tokio::spawn(async move {
        let rest = body.collect().await.unwrap().to_bytes();
        let _connection = sender;
        String::from_utf8([&first[..], &rest].concat()).unwrap()
    })
}

/// F01: the older child counts its work as `active`, and is told to drain only when nothing is on its way to it.
#[tokio::test]
async fn f01_an_older_child_is_swapped_under_load_and_its_stream_finishes() {
    let node = node(&service("first", "v0.2", "postgres"));
    let before = settled(&node, "v0.2", None).await;
    assert_eq!(before.binary_version.as_deref(), Some("0.2.13-test"));
    assert_eq!(before.state, Some(StateKind::Shared));
    let (load, stream) = (Load::start(&node, "/old/word"), stream(&node).await);
    load.more(100).await;
    rewrite(&node, &service("second", "v0.2", "postgres"));
    node.signal(Signal::SIGHUP);
    let after = settled(&node, "v0.2", Some(&before)).await;
    load.more(100).await;
    assert_eq!(load.stop().await, ["first", "second"]);
    let whole = stream.await.unwrap();
    assert_eq!(whole.matches("data: first ").count(), 40, "{whole}");
    let status = node.status().await;
    let receipt = status.receipts.iter().find(|receipt| receipt.generation == before.generation).unwrap();
    assert_eq!((receipt.successor, receipt.cut.total()), (Some(after.generation), 0));
    let log = std::fs::read_to_string(node.supervisor.log()).unwrap();
    for line in
        ["told to drain", "DEVSHARD_SHUTDOWN_GRACE=5s", "DEVSHARD_BINARY_LOG_VERSION=0.2.13-test", "GONKA_HA=false"]
    {
        assert!(log.contains(line), "{line}: {}", node.last_words());
    }
    node.end().await;
}

/// F09: what speaks another protocol than its slot is found before anything is touched.
#[tokio::test]
async fn f09_an_older_child_of_another_protocol_is_refused() {
    let node = node(&service("first", "v0.3", "sqlite"));
    node.until_ready(|_| true).await;
    let reason = node.until_why("v0.3", |reason| reason.code() == "preflight_failed").await;
    assert!(reason.to_string().contains("it speaks protocol \"v0.2\"; the slot is v0.3"), "{reason}");
    assert_eq!(node.processes(), []);
    node.end().await;
}

#[tokio::test]
async fn auto_finds_an_older_child_and_a_program_that_knows_of_no_supervisor() {
    let auto = service("first", "v0.2", "postgres").replace("\"older\"", "\"auto\"");
    let sleep = program("sleep", "coreutils");
    let node = node(&format!(
        "{auto}\n[service.plain]\ncommand = [\"{sleep}\", \"1000\"]\ncontract = \"auto\"\nstate = \"shared\"\n"
    ));
    assert_eq!(settled(&node, "v0.2", None).await.binary_version.as_deref(), Some("0.2.13-test"));
    let plain = settled(&node, "plain", None).await;
    assert_eq!((plain.binary_version.as_deref(), plain.state), (Some("plain"), Some(StateKind::Shared)));
    node.end().await;
}

/// Its metrics stand beside what it serves, and are not among them; it does not pass for the supervisor.
#[tokio::test]
async fn an_older_childs_metrics_are_read_on_its_port_and_labelled() {
    let node = node(&service("first", "v0.2", "postgres"));
    let one = settled(&node, "v0.2", None).await;
    for _ in 0..3 {
        assert_eq!(node.get("/old/word").await.text(), "first");
    }
    let text = node.get_admin("/metrics").await.text();
    let labels = format!("{{service=\"old\",version=\"v0.2\",generation=\"{}\"}}", one.generation.0);
    for line in [format!("old_requests_total{labels} 3\n"), format!("versiond_child_metrics_up{labels} 1\n")] {
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(!text.contains("versiond_pretended"), "{text}");
    assert!(text.contains("versiond_child_metrics_conflicts 1\n"), "{text}");
    assert_eq!(node.status().await.slots[0].generations[0].inflight, 0);
    node.end().await;
}

/// F43: the older child's own drain is out of a client's reach.
#[tokio::test]
async fn f43_an_older_childs_drain_is_not_reachable_through_the_data_listener() {
    let node = node(&service("first", "v0.2", "sqlite"));
    let one = settled(&node, "v0.2", None).await;
    assert_eq!(one.state, Some(StateKind::Local));
    assert_eq!(node.get("/old/drain/status").await.status, 404);
    assert_eq!(node.get("/old/%64rain").await.status, 404);
    assert_eq!(node.get("/old/word").await.text(), "first");
    node.end().await;
}

/// F10, F16: what it does beside its requests is not visible. Its grace is part of what a hold takes: one that fits is
/// taken and cuts nothing, one that does not needs a window.
#[tokio::test]
async fn f10_f16_an_older_child_that_counts_nothing_is_held_only_when_its_grace_fits() {
    let counts_nothing = |word: &str| {
        let service = service(word, "v0.2", "sqlite").replace("STORAGE =", "COUNTS = \"no\", STORAGE =");
        format!("{service}[service.old.rollout]\njitter = \"none\"\n")
    };
    for (hold, fits) in [("20s", true), ("3s", false)] {
        let node = node_with(&counts_nothing("first"), &format!("[timing]\nhold = \"{hold}\"\n"));
        let before = settled(&node, "v0.2", None).await;
        assert_eq!(before.state, Some(StateKind::Local));
        let load = Load::start(&node, "/old/word");
        load.more(100).await;
        rewrite(&node, &counts_nothing("second"));
        node.signal(Signal::SIGHUP);
        if fits {
            let after = settled(&node, "v0.2", Some(&before)).await;
            load.more(100).await;
            assert_eq!(load.stop().await, ["first", "second"]);
            let receipt = node.until(|status| !status.receipts.is_empty()).await.receipts[0].clone();
            assert_eq!((receipt.generation, receipt.successor), (before.generation, Some(after.generation)));
            assert_eq!((receipt.outcome, receipt.cut.total()), (DrainOutcome::Drained, 0));
            assert!(node.last_words().contains("it has no /drain/status"), "{}", node.last_words());
        } else {
            node.until_why("v0.2", |reason| matches!(reason.code(), "quiescing" | "needs_window")).await;
            load.more(100).await;
            assert_eq!(load.stop().await, ["first"]);
            assert_eq!(serving(&node.status().await, "v0.2").unwrap().pid, before.pid);
        }
        node.end().await;
    }
}
