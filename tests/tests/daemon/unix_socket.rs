//! Children on a Unix socket: no port, and everything else as it is.

use std::fs;

use serde_json::Value;
use supervisor_protocol::admin::Phase;

use crate::http::EventStream;
use crate::mirror::Mirror;
use crate::node::{Node, serving};
use crate::releases::{Build, Document};

/// Whether the socket that was handed over to a process is of the file system.
fn is_on_a_unix_socket(pid: u32) -> bool {
    let link = fs::read_link(format!("/proc/{pid}/fd/3")).unwrap();
    let inode = link.to_str().unwrap().trim_start_matches("socket:[").trim_end_matches(']').to_owned();
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    table.lines().any(|line| line.contains(&format!(" {inode} ")) && line.ends_with("/serve.sock"))
}

/// F01: what a child holds goes on while it is replaced, and its socket goes with it.
#[tokio::test]
async fn f01_a_child_on_a_unix_socket_serves_streams_and_is_swapped() {
    let mirror = Mirror::start().await;
    let (first, second) = (mirror.offer(Build::A, "first"), mirror.offer(Build::B, "second"));
    let document = Document::of([("v0.3", first.clone())]);
    mirror.publish(&document);
    let node = Node::new(&mirror.as_source());
    node.set("[service.demo]\nlisten = \"unix\"\nready_path = \"/healthz\"\n");
    node.start();
    node.until_ready(|all| all.ready).await;
    let before = node.until_settled("v0.3", &first.sha256).await;
    assert!(is_on_a_unix_socket(before.pid.unwrap()));
    let stream = EventStream::open(node.host, "/v0.3", 3_000).await;
    mirror.publish(&document.with("v0.3", &second));
    node.until(|status| serving(status, "v0.3").is_some_and(|now| now.sha256.to_string() == second.sha256)).await;
    let hello: Value = node.get("/v0.3/hello").await.json();
    assert_eq!(hello["build"], "b");
    stream.finish().await.unwrap();
    let after = node.until_settled("v0.3", &second.sha256).await;
    assert_eq!(after.phase, Phase::Serving);
    assert!(is_on_a_unix_socket(after.pid.unwrap()));
    node.end().await;
}
