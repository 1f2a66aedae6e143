//! The store as an operator handles it: fetched ahead, listed, collected, taken over from upstream.

use supervisor_protocol::admin::{ArtifactList, ArtifactRole, ArtifactState, GcReport};
use versiond_demo::artifacts::sha256;

use crate::mirror::Mirror;
use crate::node::Node;
use crate::releases::{Build, Document, Release};
use crate::tools::{run, versionctl};

async fn artifacts(node: &Node) -> ArtifactList {
    node.get_admin("/v1/artifacts").await.json()
}

/// What nothing needs goes, but for the three newest; what a slot needs stays, and its data in any case.
#[tokio::test]
async fn what_is_fetched_ahead_is_listed_and_collected_and_no_data_with_it() {
    let mirror = Mirror::start().await;
    let live = mirror.offer(Build::Local, "live");
    let node = Node::following(&mirror, &Document::of([("v0.3", live.clone())])).await;
    let data = node.folder().join("state/data/demo/v0.3");
    std::fs::write(data.join("rows"), "1").unwrap();
    let others: Vec<Release> = ["1", "2", "3", "4", "5"].map(|mark| mirror.offer(Build::A, mark)).to_vec();
    for Release { url, sha256 } in &others {
        let said = versionctl(&node, &["fetch", url, "--sha256", sha256]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.contains(sha256), "{said:?}");
    }
    let slot = versionctl(&node, &["fetch", "demo/v0.3"]).await;
    assert_eq!(slot.code, Some(0), "{slot:?}");
    let none = versionctl(&node, &["fetch", "demo/v9"]).await;
    assert_eq!(none.code, Some(4), "{none:?}");

    let dry = versionctl(&node, &["gc", "--dry-run", "--json"]).await;
    let dry: GcReport = serde_json::from_str(&dry.out).unwrap();
    assert!(dry.dry_run);
    let said = versionctl(&node, &["gc"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("demo/v0.3 live"), "{said:?}");
    let left = artifacts(&node).await.artifacts;
    let installed = left.iter().filter(|one| one.state == ArtifactState::Installed);
    let installed: Vec<String> = installed.map(|one| one.sha256.to_string()).collect();
    assert_eq!(installed.len(), 4, "{left:#?}");
    let is_kept = |release: &Release| installed.contains(&release.sha256);
    assert!(is_kept(&live) && others[2..].iter().all(is_kept), "{left:#?}");
    let served = left.iter().find(|one| one.sha256.to_string() == live.sha256).unwrap();
    assert!(served.used.iter().any(|used| used.how == ArtifactRole::Live), "{served:?}");
    assert_eq!(std::fs::read_to_string(data.join("rows")).unwrap(), "1");
    assert_eq!(node.get("/v0.3/hello").await.status, 200);
    node.end().await;
}

/// What the slot has never known, and the store has.
#[tokio::test]
async fn a_slot_is_pinned_to_what_the_store_has_and_stays_so_over_a_kill() {
    let mirror = Mirror::start().await;
    let live = mirror.offer(Build::B, "live");
    let node = Node::following(&mirror, &Document::of([("v0.3", live.clone())])).await;
    let other = mirror.offer(Build::A, "other");
    let unknown = versionctl(&node, &["pin", "demo/v0.3", &other.sha256]).await;
    assert_eq!(unknown.code, Some(4), "{unknown:?}");
    assert!(unknown.err.contains("unknown_artifact") && unknown.err.contains("the store does not have"), "{unknown:?}");
    assert!(unknown.err.contains(&live.sha256[..8]), "it names what is known: {unknown:?}");

    let fetched = versionctl(&node, &["fetch", &other.url, "--sha256", &other.sha256]).await;
    assert_eq!(fetched.code, Some(0), "{fetched:?}");
    let pinned = versionctl(&node, &["pin", "demo/v0.3", &other.sha256]).await;
    assert_eq!(pinned.code, Some(0), "{pinned:?}");
    node.until_settled("v0.3", &other.sha256).await;
    let boot = node.status().await.boot;
    node.supervisor.kill_and_restart(|| ()).await.unwrap();
    node.until_ready(|all| all.boot != boot && all.slots.iter().all(|slot| slot.ready)).await;
    node.until_settled("v0.3", &other.sha256).await;
    node.until_why("v0.3", |reason| reason.code() == "pinned").await;
    node.end().await;
}

/// F18: bytes that are not the ones that were named are said to be so, and not fetched again over a restart.
#[tokio::test]
async fn f18_wrong_bytes_are_told_with_their_pause_and_remembered_over_a_restart() {
    let mirror = Mirror::start().await;
    let (first, second) = (mirror.offer(Build::A, "first"), mirror.offer(Build::B, "second"));
    let node = Node::following(&mirror, &Document::of([("v0.3", first.clone())])).await;
    let wrong = Release { url: second.url.clone(), sha256: "ab".repeat(32) };
    mirror.publish(&Document::of([("v0.3", first.clone())]).with("v0.4", &wrong));
    node.until_why("v0.4", |reason| reason.code() == "hash_mismatch").await;
    let said = versionctl(&node, &["fetch", &wrong.url, "--sha256", &wrong.sha256]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("hash_mismatch"), "{said:?}");
    node.signal(nix::sys::signal::Signal::SIGTERM);
    node.supervisor.stop(std::time::Duration::from_secs(90)).await.unwrap();
    node.start();
    node.until_ready(|all| all.slots.iter().any(|slot| slot.ready)).await;
    node.until_why("v0.4", |reason| reason.code() == "hash_mismatch").await;
    let listed =
        artifacts(&node).await.artifacts.into_iter().find(|one| one.sha256.to_string() == wrong.sha256).unwrap();
    assert_eq!(listed.reason.unwrap().code(), "hash_mismatch");
    assert_eq!(node.get("/v0.3/hello").await.status, 200);
    node.end().await;
}

/// What upstream has installed starts although its archive cannot be had any more.
#[tokio::test]
async fn what_upstream_has_installed_is_served_without_its_archive() {
    let node = Node::new("");
    let upstream = node.folder().join("upstream");
    let program = std::fs::read(Build::A.program()).unwrap();
    let archive = "cd".repeat(32);
    let install = upstream.join(format!("bin/v0.3/{archive}"));
    std::fs::create_dir_all(&install).unwrap();
    std::fs::write(install.join("devshard"), &program).unwrap();
    let note = serde_json::json!({"archive_sha256": archive, "binary_sha256": sha256(&program)});
    std::fs::write(install.join("install.json"), note.to_string()).unwrap();
    std::fs::create_dir_all(upstream.join("data/v0.3")).unwrap();
    std::fs::write(upstream.join("data/v0.3/rows"), "1").unwrap();
    let settings = node.settings();
    let args = ["import-upstream", upstream.as_str(), "--config", settings.as_str()];
    let imported = run("versionctl", args).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    node.publish(&Document::of([(
        "v0.3",
        Release { url: "http://127.0.0.1:9/gone".to_owned(), sha256: archive.clone() },
    )]));
    node.start();
    node.until_ready(|all| all.slots.iter().any(|slot| slot.ready)).await;
    node.until_settled("v0.3", &archive).await;
    assert_eq!(std::fs::read_to_string(node.folder().join("state/data/demo/v0.3/rows")).unwrap(), "1");
    let beside = run("versiond", args).await;
    assert_eq!(beside.code, Some(1), "{beside:?}");
    assert!(beside.out.contains("stop versiond first"), "{beside:?}");
    node.end().await;
}
