//! Children that do not do as they are told.

use demo_child::Behaviour;

use crate::node::slot;
use crate::stage::{SLOT, Stage};

/// F35: a stop signal that is ignored is followed by a kill.
#[tokio::test]
async fn f35_a_child_that_ignores_its_stop_signal_is_killed_after_its_grace() {
    let stays = Behaviour { ignores_stop: true, undrain: false, ..Behaviour::named("stays") };
    let (mut stage, _) = Stage::with(&stays, "[timing]\nstop_grace = \"1s\"\n").await;
    let new = stage.offer(&Behaviour::named("new"));
    stage.publish(&new);
    stage.baked(&new).await;
    let processes = stage.node.processes();
    assert_eq!(processes.len(), 1, "{processes:?}");
    assert_eq!(stage.hello().await, "new");
    stage.end().await;
}

/// F18: stopped long before it is gone, it is counted all the same: as a build that failed, and as a swap that did.
#[tokio::test]
async fn f18_a_build_that_never_gets_ready_is_counted_as_failed() {
    let (mut stage, old) = Stage::with(&Behaviour::named("old"), "[timing]\nready_window = \"1s\"\n").await;
    let loads = Behaviour { never_ready: Some("loading".to_owned()), ..Behaviour::named("loads") };
    let loads = stage.offer(&loads);
    stage.publish(&loads);
    stage.why("never_ready").await;
    // It is tried again before long.
    assert!(stage.counted("versiond_generation_failures_total", &["reason=\"never_ready\""]).await >= 1.0);
    assert!(stage.counted("versiond_swaps_total", &["outcome=\"failed\""]).await >= 1.0);
    assert_eq!(stage.serves(&old).await.sha256.to_string(), old.sha256);
    stage.end().await;
}

/// F40, F41: what it leaves behind is found and ended, and the reason is there to be read.
#[tokio::test]
async fn f40_f41_a_child_that_daemonises_and_leaves_is_found_out_and_nothing_of_it_is_left() {
    let (mut stage, old) = Stage::with(&Behaviour::named("old"), "").await;
    let leaves = stage.offer(&Behaviour { daemonises: true, ..Behaviour::named("leaves") });
    stage.publish(&leaves);
    let why = stage.why("start_failed").await;
    assert!(why.contains("exit code 0"), "{why}");
    let only = |status: &_| slot(status, SLOT).is_some_and(|slot| slot.generations.len() == 1);
    stage.node.until(|status| only(status) && stage.node.processes().len() == 1).await;
    assert_eq!(stage.serves(&old).await.sha256.to_string(), old.sha256);
    assert_eq!(stage.hello().await, "old");
    stage.end().await;
}

/// F45, F64: it serves on, whatever it says.
#[tokio::test]
async fn f64_a_child_that_floods_its_log_is_swapped_like_any_other() {
    let (mut stage, _) = Stage::with(&Behaviour { floods: 10_000, ..Behaviour::named("floods") }, "").await;
    let new = stage.offer(&Behaviour::named("calm"));
    stage.publish(&new);
    stage.baked(&new).await;
    assert_eq!(stage.node.processes().len(), 1);
    stage.end().await;
}
