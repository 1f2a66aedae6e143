//! What serves goes on whatever becomes of the store, why something waits is said, and it mends itself.

use supervisor_protocol::Reason;
use supervisor_protocol::admin::{ArtifactList, ArtifactState};

use crate::mirror::Mirror;
use crate::mount::Mount;
use crate::node::{Node, serving};
use crate::releases::{Build, Document, Release};

/// Larger than what two builds and the reserve of a fetch take.
const ROOMY: &str = "size=240m";

fn says(reason: &Reason, text: &str) -> bool {
    matches!(reason, Reason::FetchFailed { detail, .. } if detail.contains(text))
}

/// The first release serves, the second is on offer.
async fn serving_first(mirror: &Mirror, node: &Node) -> (Document, Release, Release) {
    let (first, second) = (mirror.offer(Build::A, "first"), mirror.offer(Build::B, "second"));
    let document = Document::of([("v0.3", first.clone())]);
    mirror.publish(&document);
    node.start();
    until_up(node).await;
    node.until_settled("v0.3", &first.sha256).await;
    (document, first, second)
}

/// It answers, and something serves.
async fn until_up(node: &Node) {
    node.until_ready(|all| all.slots.iter().any(|slot| slot.ready)).await;
}

/// The state of an artifact by the admin API.
async fn state_of(node: &Node, sha256: &str) -> Option<ArtifactState> {
    let list: ArtifactList = node.get_admin("/v1/artifacts").await.json();
    list.artifacts.into_iter().find(|one| one.sha256.to_string() == sha256).map(|one| one.state)
}

/// F45: no room for a release leaves room for those who serve, says so, and comes to it once there is some.
#[tokio::test]
async fn f45_a_full_disk_harms_nothing_that_serves_and_is_made_up_for() {
    let mirror = Mirror::start().await;
    let node = Node::new(&mirror.as_source());
    let Some(mount) = Mount::new(&node.folder().join("state"), ROOMY) else { return };
    let (document, first, second) = serving_first(&mirror, &node).await;
    let before = node.until_settled("v0.3", &first.sha256).await;

    let filler = mount.fill(30 << 20);
    mirror.publish(&document.with("v0.3", &second));
    node.until_why("v0.3", |reason| says(reason, "stay free")).await;
    assert_eq!(node.get("/v0.3/hello").await.status, 200);
    assert_eq!(node.get("/readyz").await.status, 200);
    assert_eq!(state_of(&node, &second.sha256).await, Some(ArtifactState::Failed));
    assert_eq!(serving(&node.status().await, "v0.3").unwrap().pid, before.pid);

    // Not even the reserve is left: the ledger has its room already, so that the host can be emptied and started.
    drop(filler);
    let filler = mount.fill(0);
    node.signal(nix::sys::signal::Signal::SIGKILL);
    node.supervisor.stop(std::time::Duration::from_secs(90)).await.unwrap();
    node.start();
    until_up(&node).await;
    node.until(|status| serving(status, "v0.3").is_some()).await;
    node.until_why("v0.3", |reason| says(reason, "stay free") || says(reason, "No space left")).await;
    assert_eq!(node.get("/v0.3/hello").await.status, 200);

    drop(filler);
    node.until_settled("v0.3", &second.sha256).await;
    node.end().await;
}

/// F45: a store that cannot be written gives out what it has.
#[tokio::test]
async fn f45_a_read_only_store_gives_out_what_it_has_and_is_made_up_for() {
    let mirror = Mirror::start().await;
    let node = Node::new(&mirror.as_source());
    let Some(mount) = Mount::new(&node.folder().join("state/store"), ROOMY) else { return };
    let (document, first, second) = serving_first(&mirror, &node).await;
    mount.change("ro");
    let next = document.with("v0.3", &second);
    mirror.publish(&next);
    node.until_why("v0.3", |reason| says(reason, "Read-only file system")).await;
    assert_eq!(node.get("/v0.3/hello").await.status, 200);
    // Another slot starts from it.
    let other = next.with("v0.4", &first);
    mirror.publish(&other);
    node.until_settled("v0.4", &first.sha256).await;
    mount.change("rw");
    node.until_settled("v0.3", &second.sha256).await;
    node.end().await;
}

/// What runs is a copy in memory: a store may be mounted so that nothing of it can be executed.
#[tokio::test]
async fn a_store_on_a_noexec_file_system_is_as_good_as_any() {
    let mirror = Mirror::start().await;
    let node = Node::new(&mirror.as_source());
    let Some(_mount) = Mount::new(&node.folder().join("state/store"), &format!("{ROOMY},noexec")) else { return };
    let (document, _, second) = serving_first(&mirror, &node).await;
    mirror.publish(&document.with("v0.3", &second));
    node.until_settled("v0.3", &second.sha256).await;
    node.end().await;
}

/// F45: with its store gone a host serves on, and fills another one with what it needs next.
#[tokio::test]
async fn f45_a_store_that_is_taken_away_is_made_anew() {
    let mirror = Mirror::start().await;
    let node = Node::new(&mirror.as_source());
    let (document, first, second) = serving_first(&mirror, &node).await;
    std::fs::remove_dir_all(node.folder().join("state/store")).unwrap();
    assert_eq!(node.get("/v0.3/hello").await.status, 200);
    let next = document.with("v0.3", &second);
    mirror.publish(&next);
    node.until_settled("v0.3", &second.sha256).await;
    mirror.publish(&next.with("v0.3", &first));
    node.until_settled("v0.3", &first.sha256).await;
    assert_eq!(state_of(&node, &first.sha256).await, Some(ArtifactState::Installed));
    node.end().await;
}

/// A cold start without any network: neither the source nor a mirror answers.
#[tokio::test]
async fn a_cold_start_without_a_network_serves_from_the_store() {
    let mirror = Mirror::start().await;
    let node = Node::new(&mirror.as_source());
    let (_, first, _) = serving_first(&mirror, &node).await;
    node.signal(nix::sys::signal::Signal::SIGTERM);
    node.supervisor.stop(std::time::Duration::from_secs(90)).await.unwrap();
    drop(mirror);
    node.start();
    until_up(&node).await;
    node.until(|status| serving(status, "v0.3").is_some_and(|serving| serving.sha256.to_string() == first.sha256))
        .await;
    let status = node.until(|status| status.catalog.reason.is_some()).await;
    assert_eq!(status.catalog.reason.unwrap().code(), "catalog_unreachable");
    assert_eq!(node.get("/v0.3/hello").await.status, 200);
    node.end().await;
}
