//! The configuration read again: refused whole, or in force at once.

use nix::sys::signal::Signal;
use serde_json::Value;
use supervisor_protocol::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::guest::{node, program, rewrite, settled};
use crate::node::Node;
use crate::releases::{Build, Document};

fn sleeper(name: &str, more: &str) -> String {
    format!("[service.{name}]\ncommand = [\"{}\", \"1000\"]\nstate = \"none\"\n{more}", program("sleep", "coreutils"))
}

/// `POST /v1/reload`.
async fn reload(node: &Node) -> (u16, Value) {
    let mut stream = UnixStream::connect(node.admin()).await.unwrap();
    let request = "POST /v1/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}")))
}

async fn said(node: &Node) -> Vec<Reason> {
    node.why().await.host
}

#[tokio::test]
async fn a_configuration_that_is_not_valid_is_refused_whole_and_says_so_until_one_is() {
    let node = node(&sleeper("one", ""));
    let before = settled(&node, "one", None).await;
    let good = std::fs::read_to_string(node.settings()).unwrap();
    let broken = format!("{}\n{}", sleeper("two", ""), sleeper("three", "contract = \"v9\"\n"));
    rewrite(&node, &broken);
    let (status, body) = reload(&node).await;
    assert_eq!((status, body["code"].as_str()), (422, Some("reload_refused")), "{body}");
    assert!(body["message"].as_str().unwrap().contains("service.three.contract"), "{body}");
    assert!(
        matches!(&said(&node).await[..], [Reason::ReloadRefused { detail }] if detail.contains("service.three.contract"))
    );
    // A program that is not there is found by the same reading.
    rewrite(&node, "[service.one]\ncommand = [\"/nonexistent/program\"]\n");
    let (status, body) = reload(&node).await;
    assert_eq!(status, 422, "{body}");
    assert!(body["message"].as_str().unwrap().contains("[service.one] command"), "{body}");
    assert_eq!(settled(&node, "one", None).await.pid, before.pid, "what ran goes on");

    std::fs::write(node.settings(), good).unwrap();
    let (status, body) = reload(&node).await;
    assert_eq!((status, &body["changed"]), (200, &Value::Array(Vec::new())), "{body}");
    assert_eq!(said(&node).await, []);
    assert_eq!(settled(&node, "one", None).await.pid, before.pid);
    node.end().await;
}

#[tokio::test]
async fn services_come_and_go_and_what_needs_a_restart_is_named() {
    let node = node(&sleeper("one", ""));
    settled(&node, "one", None).await;
    let text = std::fs::read_to_string(node.settings()).unwrap();
    let listen = format!("listen = \"{}\"", node.host);
    assert!(text.contains(&listen), "{text}");
    std::fs::write(node.settings(), text.replace(&listen, "listen = \"127.0.0.1:1\"")).unwrap();
    rewrite(&node, &sleeper("two", ""));
    let (status, body) = reload(&node).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!((&body["added"][0], &body["removed"][0]), (&"two".into(), &"one".into()), "{body}");
    assert_eq!(body["restart_needed"], serde_json::json!(["host.listen"]));
    assert_eq!(said(&node).await, [Reason::RestartNeeded { keys: vec!["host.listen".to_owned()] }]);
    settled(&node, "two", None).await;
    node.until(|status| status.slots.iter().all(|slot| slot.slot.name.as_str() != "one")).await;
    assert_eq!(node.processes().len(), 1);
    node.end().await;
}

#[tokio::test]
async fn what_changes_beside_the_program_takes_another_life_of_it() {
    let node = node(&sleeper("one", ""));
    let before = settled(&node, "one", None).await;
    rewrite(&node, &sleeper("one", "stop_signal = \"INT\"\n"));
    let (status, body) = reload(&node).await;
    assert_eq!((status, &body["changed"][0]), (200, &"one".into()), "{body}");
    let after = settled(&node, "one", Some(&before)).await;
    assert_eq!(after.sha256, before.sha256);
    rewrite(&node, &sleeper("one", "stop_signal = \"INT\"\nlimits = { pids_max = 100 }\n"));
    let (status, body) = reload(&node).await;
    assert_eq!((status, &body["changed"][0]), (200, &"one".into()), "{body}");
    settled(&node, "one", Some(&after)).await;
    node.end().await;
}

/// A service of the catalog that comes with a reload is followed at once, though its document was read before.
#[tokio::test]
async fn a_service_of_the_catalog_may_come_with_a_reload() {
    let node = node(&sleeper("one", ""));
    settled(&node, "one", None).await;
    node.publish(&Document::of([("v0.3", Build::A.in_place())]).with("v0.4", &Build::B.in_place()));
    rewrite(&node, &format!("{}\n[service.demo]\nroute = \"/{{version}}\"\n", sleeper("one", "")));
    node.signal(Signal::SIGHUP);
    settled(&node, "v0.3", None).await;
    assert_eq!(node.get("/v0.3/hello").await.status, 200);
    assert_eq!(node.get("/v0.4/hello").await.status, 200);
    node.end().await;
}
