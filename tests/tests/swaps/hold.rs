//! Builds that keep their state in the slot's data directory, as a program over SQLite does: old and new take turns,
//! and requests wait meanwhile.

use std::time::Duration;

use demo_child::{Behaviour, Role, StateKind};
use serde_json::json;
use supervisor_protocol::admin::{DrainCause, DrainOutcome, Phase};

use crate::load::{Load, failed, longest};
use crate::node::serving;
use crate::stage::{SLOT, Stage};

/// As the configuration of every test says.
const HOLD: Duration = Duration::from_secs(20);

/// It holds the lock on its database for as long as it lives.
fn sqlite_like(build: &str, work_ms: u64) -> Behaviour {
    Behaviour { state: StateKind::Local, locks: true, work_ms, ..Behaviour::named(build) }
}

/// F10, F16, P4, P5: of 200 requests a second none fails, and none waits as long as it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_f16_p4_p5_local_state_changes_hands_under_load_and_no_request_fails() {
    let (mut stage, _) = Stage::with(&sqlite_like("old", 100), "").await;
    let new = stage.offer(&sqlite_like("new", 100));
    let load = Load::start(stage.node.host, &format!("/{SLOT}/work"), 200);
    // Its forecast rests on what it has seen.
    stage.node.until(|status| serving(status, SLOT).is_some_and(|serving| serving.admitted > 200)).await;
    let before = stage.node.status().await;
    stage.publish(&new);
    stage.serves(&new).await;
    let admitted = |more: u64| move |status: &_| serving(status, SLOT).is_some_and(|serving| serving.admitted > more);
    stage.node.until(admitted(200)).await;
    let asked = load.end().await;

    assert_eq!(failed(&asked).len(), 0, "{:?}", failed(&asked));
    let longest = longest(&asked);
    eprintln!("of {} requests the longest took {} ms", asked.len(), longest.as_millis());
    assert!(longest < HOLD, "{longest:?}");
    let by = |build: &str| asked.iter().filter(|asked| asked.is_by(build)).count();
    assert!(by("old") > 200 && by("new") > 200, "{} by the old one, {} by the new one", by("old"), by("new"));
    let after = stage.baked(&new).await;
    assert!(after.generation > serving(&before, SLOT).unwrap().generation);
    let receipt = stage.node.status().await.receipts[0].clone();
    assert_eq!((receipt.cause, receipt.outcome, receipt.cut.total()), (DrainCause::Swap, DrainOutcome::Drained, 0));
    let of_hold = ["strategy=\"hold\"", "outcome=\"done\""];
    assert_eq!(stage.counted("versiond_swaps_total", &of_hold).await, 1.0);
    assert_eq!(stage.counted("versiond_swap_seconds_count", &of_hold[..1]).await, 1.0);
    let admitted = stage.counted("versiond_hold_ends_total", &["outcome=\"admitted\""]).await;
    assert!(admitted > 0.0 && stage.counted("versiond_hold_seconds_count", &[]).await >= admitted);
    stage.end().await;
}

/// F16: work that outlasts the hold is not interrupted without a yes, and the plan says for how long it would be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_p4_work_longer_than_the_hold_needs_a_window_and_goes_through_with_a_yes() {
    let (mut stage, _) = Stage::with(&sqlite_like("old", 30_000), "[timing]\nhold = \"5s\"\n").await;
    let new = stage.offer(&sqlite_like("new", 10));
    let load = Load::start(stage.node.host, &format!("/{SLOT}/work"), 5);
    stage.node.until(|status| serving(status, SLOT).is_some_and(|serving| serving.inflight > 20)).await;
    let old = serving(&stage.node.status().await, SLOT).unwrap().clone();
    stage.publish(&new);
    let why = stage.why("needs_window").await;
    eprintln!("{why}");
    assert!(why.contains("nothing would serve for about"), "{why}");
    let slot = stage.slot().await;
    assert!(slot.ready, "{slot:#?}");
    assert!(slot.generations.iter().any(|one| one.phase == Phase::Serving && one.pid == old.pid), "{slot:#?}");
    assert_eq!(stage.hello().await, "old");

    stage.order("approve", json!({"accept_downtime": true})).await;
    stage.baked(&new).await;
    assert_eq!(stage.hello().await, "new");
    let asked = load.end().await;
    // What was admitted came to its own end; what came meanwhile was told when to come again, or waited.
    let refused: Vec<_> = failed(&asked);
    for asked in &refused {
        let Ok((status, body)) = &asked.outcome else { panic!("{asked:?}") };
        let typed = body.contains("\"not_serving\"") || body.contains("\"hold_expired\"");
        assert!(*status == 503 && typed, "{asked:?}");
    }
    let finished = asked.iter().filter(|asked| asked.is_by("old")).count();
    assert!(finished > 20, "{finished} of {}", asked.len());
    let receipt = stage.node.status().await.receipts[0].clone();
    assert_eq!((receipt.generation, receipt.cut.total()), (old.generation, 0), "{receipt:?}");
    stage.end().await;
}

/// F10: a worker has no requests to wait for. It ends the piece that it has begun, and only then its successor begins.
#[tokio::test]
async fn f10_a_worker_with_local_state_makes_room_for_its_successor_and_no_piece_is_cut() {
    let worker = |build: &str| Behaviour { role: Role::Worker, ..sqlite_like(build, 0) };
    let (mut stage, _) = Stage::with(&worker("old"), "").await;
    let path = stage.node.folder().join(format!("state/data/demo/{SLOT}/journal"));
    let journal = || std::fs::read_to_string(&path).unwrap_or_default();
    stage.node.until(|_| journal().contains(" ends ")).await;
    let old = serving(&stage.node.status().await, SLOT).unwrap().generation;
    let new = stage.offer(&worker("new"));
    stage.publish(&new);
    let after = stage.serves(&new).await;
    let of = |generation| format!("{generation} ");
    stage.node.until(|_| journal().contains(&format!("{} ends ", after.generation))).await;
    // Each line of the old one is before each of the new one, and each piece has its end.
    let text = journal();
    let (before, since) = text.split_at(text.find(&of(after.generation)).unwrap());
    assert!(!since.contains(&of(old)), "{text}");
    assert_eq!(before.matches(" begins ").count(), before.matches(" ends ").count(), "{text}");
    stage.baked(&new).await;
    let receipt = stage.node.status().await.receipts[0].clone();
    assert_eq!((receipt.generation, receipt.outcome), (old, DrainOutcome::Drained));
    stage.end().await;
}
