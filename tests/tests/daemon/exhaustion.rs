//! Something has run out: ports, descriptors, the network. What serves goes on, and the reason is told.

use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use supervisor_protocol::Reason;
use tokio::net::TcpStream;

use crate::common::release;
use crate::node::{Node, serving};
use crate::releases::{Build, Document};

/// A program that is versiond in surroundings that `setup`, a line of shell, makes.
pub(crate) fn inside(setup: &str, folder: &Utf8Path) -> Utf8PathBuf {
    let program = folder.join("versiond-elsewhere");
    let versiond = release("versiond").canonicalize().unwrap();
    std::fs::write(&program, format!("#!/bin/sh\n{setup} {} \"$@\"\n", versiond.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// With room for one child alone, the second waits for a port by name, and gets it once the first is gone.
#[tokio::test]
async fn ports_exhausted_is_a_reason_and_ends_by_itself() {
    let node = Node::new("");
    let port = node.host.port() + 1;
    node.set(&format!("[host]\nchild_ports = \"{port}-{port}\"\n"));
    let first = Document::of([("v0.3", Build::A.in_place())]);
    node.publish(&first);
    node.start();
    node.until_ready(|all| all.ready).await;
    let both = first.with("v0.4", &Build::A.in_place());
    node.publish(&both);
    let reason = node.until_why("v0.4", |reason| matches!(reason, Reason::PortsExhausted { .. })).await;
    assert!(reason.to_string().contains(&format!("{port}-{port}")), "{reason}");
    assert_eq!(node.get("/v0.3/hello").await.status, 200, "what serves goes on");
    node.publish(&both.without("v0.3"));
    node.until(|status| serving(status, "v0.4").is_some()).await;
    assert_eq!(node.get("/v0.4/hello").await.status, 200);
    node.end().await;
}

/// F47: with every descriptor taken by idle clients versiond lives, its child lives, and both serve again once
/// there is one.
#[tokio::test]
async fn f47_a_host_without_a_descriptor_left_recovers_when_there_is_one() {
    const DESCRIPTORS: usize = 128;
    let folder = tempfile::tempdir().unwrap();
    let place = Utf8Path::from_path(folder.path()).unwrap();
    let node = Node::of(&inside(&format!("ulimit -n {DESCRIPTORS}\nexec"), place), "");
    node.publish(&Document::of([("v0.3", Build::A.in_place())]));
    node.start();
    node.until_ready(|all| all.ready).await;
    let generation = serving(&node.status().await, "v0.3").unwrap().generation;

    // More than it can hold; the listener's queue takes what it cannot.
    let mut idle = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        match tokio::time::timeout(std::time::Duration::from_secs(1), TcpStream::connect(node.host)).await {
            Ok(Ok(stream)) => idle.push(stream),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    assert!(idle.len() > DESCRIPTORS, "only {} connections: nothing was exhausted", idle.len());
    assert!(node.supervisor.exited().is_none(), "{}", node.last_words());
    drop(idle);

    let status = node.until(|status| serving(status, "v0.3").is_some() && status.ready).await;
    assert_eq!(serving(&status, "v0.3").unwrap().generation, generation, "its child was not replaced");
    assert_eq!(node.get("/v0.3/hello").await.status, 200);
    node.end().await;
}

/// F25: cut off from everything but itself, a host that knew its catalog serves it; one that never did says so.
#[tokio::test]
async fn f25_without_any_network_a_host_serves_what_it_knew_and_says_what_it_misses() {
    let folder = tempfile::tempdir().unwrap();
    let place = Utf8Path::from_path(folder.path()).unwrap();
    let cut_off = inside("ip link set lo up\nexec", place);
    // The namespace has a loopback of its own, so it is asked through its socket alone.
    let wrapper = place.join("cut-off");
    std::fs::write(&wrapper, format!("#!/bin/sh\nexec unshare --net {cut_off} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();

    let never = Node::of(&wrapper, "[catalog]\nsource = \"https://releases.example/catalog.json\"\n");
    never.start();
    let status = never.until_admin(|status| matches!(status.catalog.reason, Some(Reason::NoCatalog { .. }))).await;
    assert!(status.slots.is_empty() && !status.ready, "{status:#?}");
    never.end().await;

    let knew = Node::of(&wrapper, "");
    knew.publish(&Document::of([("v0.3", Build::A.in_place())]));
    knew.start();
    let status = knew.until_admin(|status| status.ready).await;
    let boot = status.boot;
    std::fs::remove_file(knew.folder().join("catalog.json")).unwrap();
    knew.supervisor.kill_and_restart(|| ()).await.unwrap();
    let status = knew.until_admin(|status| status.boot != boot && status.ready).await;
    assert!(matches!(status.catalog.reason, Some(Reason::CatalogUnreachable { .. })), "{:?}", status.catalog);
    knew.end().await;
}
