//! Redis as a worker: no HTTP, no route, its state in its data directory.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use supervisor_protocol::contract::{Role, StateKind};

use crate::guest::{node, node_alone, program, rewrite, settled};
use crate::node::send;

fn service(more: &str) -> String {
    let redis = program("redis-server", "redis-server");
    format!(
        r#"
[service.cache]
command = ["{redis}", "--bind", "127.0.0.1", "--port", "{{port}}", "--dir", "{{data_dir}}", "--appendonly", "yes", "--appendfsync", "always"{more}]
state = "local"
"#
    )
}

/// One command, and the first line of its answer.
fn ask(port: u16, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "{command}\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    if line.starts_with('$') && !line.starts_with("$-1") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    line.trim_end().to_owned()
}

#[tokio::test]
async fn redis_comes_back_after_a_kill_with_what_it_had() {
    let node = node_alone(&service(""));
    let before = settled(&node, "cache", None).await;
    assert_eq!((before.role, before.state), (Some(Role::Worker), Some(StateKind::Local)));
    assert_eq!(ask(before.port.unwrap(), "SET word kept"), "+OK");
    assert_eq!(node.get("/cache").await.status, 404, "a worker has no route");
    send(before.pid.unwrap(), Signal::SIGKILL);
    let after = settled(&node, "cache", Some(&before)).await;
    assert_eq!(after.sha256, before.sha256);
    assert_eq!(ask(after.port.unwrap(), "GET word"), "kept");
    node.end().await;
}

/// P5: the data directory of a program that says so is never shared, not even for a change of its arguments.
#[tokio::test]
async fn p5_redis_is_not_replaced_beside_itself() {
    let node = node(&service(""));
    let before = settled(&node, "cache", None).await;
    assert_eq!(ask(before.port.unwrap(), "SET word kept"), "+OK");
    rewrite(&node, &service(", \"--databases\", \"3\""));
    node.signal(Signal::SIGHUP);
    node.until(|status| {
        let slot = crate::node::slot(status, "cache").unwrap();
        slot.desired != Some(before.sha256)
    })
    .await;
    let most = std::cell::Cell::new(0);
    let node_ref = &node;
    node.until(|status| {
        most.set(most.get().max(node_ref.processes().len()));
        let slot = crate::node::slot(status, "cache").unwrap();
        let swapped = slot
            .generations
            .iter()
            .any(|one| one.sha256 != before.sha256 && one.phase == supervisor_protocol::admin::Phase::Serving);
        swapped || slot.reasons.iter().any(|reason| reason.code() == "needs_window")
    })
    .await;
    assert!(most.get() <= 1, "{} processes at once", most.get());
    node.end().await;
}
