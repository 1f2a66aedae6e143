//! What operators order, and that it outlives a SIGKILL of versiond where it must.

use demo_child::Behaviour;
use serde_json::json;

use crate::http::EventStream;
use crate::node::{serving, slot};
use crate::stage::{SLOT, Stage, plain};

fn named(build: &str) -> Behaviour {
    Behaviour::named(build)
}

const STAGED: &str = "[service.demo.rollout]\nmode = \"staged\"\n";
const MANUAL: &str = "[service.demo.rollout]\nmode = \"manual\"\n";

#[tokio::test]
async fn a_staged_release_is_got_ready_and_waits_for_a_yes_that_outlives_a_kill() {
    let (mut stage, old) = Stage::with(&named("old"), STAGED).await;
    let new = stage.offer(&named("new"));
    stage.publish(&new);
    let why = stage.why("awaiting_approval").await;
    assert!(why.contains(&new.sha256[..8]), "{why}");
    // It is here, and has said what it is.
    let described = |one: &supervisor_protocol::admin::GenerationStatus| {
        one.sha256.to_string() == new.sha256 && one.binary_version.is_some() && one.pid.is_none()
    };
    stage.node.until(|status| slot(status, SLOT).is_some_and(|slot| slot.generations.iter().any(described))).await;
    assert_eq!(stage.hello().await, "old");
    stage.killed_and_restarted().await;
    stage.why("awaiting_approval").await;
    assert_eq!(stage.serves(&old).await.sha256.to_string(), old.sha256);

    stage.order("approve", plain()).await;
    stage.baked(&new).await;
    assert_eq!(stage.hello().await, "new");
    assert_eq!(stage.refused("approve", plain()).await, "nothing_to_do");
    stage.killed_and_restarted().await;
    assert_eq!(stage.hello().await, "new");
    stage.end().await;
}

#[tokio::test]
async fn a_manual_release_is_not_even_fetched_without_a_yes() {
    let (mut stage, _) = Stage::with(&named("old"), STAGED).await;
    // The first start of a manual one waits as well, so that it begins as staged.
    stage.reconfigured(MANUAL).await;
    let new = stage.offer(&named("new"));
    stage.publish(&new);
    stage.why("awaiting_approval").await;
    let slot = stage.slot().await;
    assert!(slot.generations.iter().all(|one| one.sha256.to_string() != new.sha256), "{slot:#?}");
    stage.order("approve", plain()).await;
    stage.baked(&new).await;
    stage.end().await;
}

/// A window that is closed now and for hours.
fn closed_window() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // Three days from now, whatever the day.
    let day = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from((now / 86_400 + 3) % 7).unwrap()];
    format!("[service.demo.rollout]\nwindow = \"{day} 09:00-10:00 UTC\"\n")
}

#[tokio::test]
async fn a_change_waits_for_its_window_to_open() {
    let (mut stage, _) = Stage::with(&named("old"), &closed_window()).await;
    let new = stage.offer(&named("new"));
    stage.publish(&new);
    let why = stage.why("window_closed").await;
    assert!(why.contains("opens in"), "{why}");
    assert_eq!(stage.hello().await, "old");
    stage.reconfigured("[service.demo.rollout]\nwindow = \"Mon-Sun 00:00-24:00 UTC\"\n").await;
    stage.baked(&new).await;
    stage.end().await;
}

#[tokio::test]
async fn a_held_slot_stays_as_it_is_over_a_kill_until_it_is_released() {
    let (mut stage, _) = Stage::with(&named("old"), "").await;
    stage.order("hold", plain()).await;
    let new = stage.offer(&named("new"));
    stage.publish(&new);
    stage.why("held_by_operator").await;
    stage.killed_and_restarted().await;
    stage.why("held_by_operator").await;
    assert_eq!(stage.hello().await, "old");
    stage.order("release", plain()).await;
    stage.baked(&new).await;
    assert_eq!(stage.refused("release", plain()).await, "nothing_to_do");
    stage.end().await;
}

#[tokio::test]
async fn a_pinned_slot_runs_what_it_was_pinned_to_over_a_kill_until_it_is_unpinned() {
    let (mut stage, old) = Stage::with(&named("old"), "").await;
    stage.order("pin", plain()).await;
    let new = stage.offer(&named("new"));
    stage.publish(&new);
    let why = stage.why("pinned").await;
    assert!(why.contains(&old.sha256[..8]), "{why}");
    stage.killed_and_restarted().await;
    stage.why("pinned").await;
    assert_eq!(stage.hello().await, "old");
    assert_eq!(stage.refused("pin", json!({"sha256": "ab".repeat(32)})).await, "unknown_artifact");
    stage.order("unpin", plain()).await;
    stage.baked(&new).await;
    stage.order("pin", json!({"sha256": old.sha256})).await;
    stage.baked(&old).await;
    assert_eq!(stage.hello().await, "old");
    stage.end().await;
}

/// F71: a fix need not wait for a day because of one idle stream.
#[tokio::test]
async fn f71_a_superseded_drain_ends_soon_and_the_next_change_comes() {
    let (mut stage, _) = Stage::with(&named("old"), "").await;
    let stream = EventStream::open(stage.node.host, &format!("/{SLOT}"), 90_000).await;
    assert_eq!(stage.refused("supersede", plain()).await, "nothing_to_do");
    let (second, third) = (stage.offer(&named("second")), stage.offer(&named("third")));
    stage.publish(&second);
    stage.serves(&second).await;
    stage.publish(&third);
    stage.why("predecessor_present").await;
    stage.order("supersede", plain()).await;
    stage.baked(&third).await;
    let cut = stream.finish().await.unwrap_err();
    let receipts = stage.node.status().await.receipts;
    let receipt =
        receipts.iter().find(|receipt| receipt.cut.total() > 0).unwrap_or_else(|| panic!("{cut}: {receipts:?}"));
    assert_eq!((receipt.cut.stream, receipt.at_start.stream), (1, 1));
    stage.end().await;
}

/// F15: what was taken back is tried again when an operator says so.
#[tokio::test]
async fn f15_a_retry_tries_what_was_taken_back() {
    let (mut stage, old) = Stage::with(&named("old"), "").await;
    let gone = demo_child::Unready::File("gone".to_owned());
    let new = stage.offer(&Behaviour { unready: Some(gone), ..named("new") });
    stage.publish(&new);
    stage.serves(&new).await;
    std::fs::write(stage.data("gone"), "").unwrap();
    stage.why("rolled_back").await;
    stage.serves(&old).await;
    std::fs::remove_file(stage.data("gone")).unwrap();
    stage.order("retry", plain()).await;
    stage.baked(&new).await;
    assert_eq!(stage.refused("retry", plain()).await, "nothing_to_do");
    stage.end().await;
}

#[tokio::test]
async fn a_restart_is_another_life_of_the_same_bytes_and_no_request_fails() {
    let (stage, old) = Stage::with(&named("old"), "").await;
    let before = serving(&stage.node.status().await, SLOT).unwrap().clone();
    let load = crate::load::Load::start(stage.node.host, &format!("/{SLOT}/hello"), 50);
    stage.order("restart", plain()).await;
    stage.node.until(|status| serving(status, SLOT).is_some_and(|now| now.generation > before.generation)).await;
    let after = stage.baked(&old).await;
    let asked = load.end().await;
    assert_eq!(crate::load::failed(&asked).len(), 0, "{:?}", crate::load::failed(&asked));
    assert_ne!(before.pid, after.pid);
    stage.end().await;
}
