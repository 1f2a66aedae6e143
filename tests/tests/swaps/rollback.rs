//! Builds that turn out bad once they serve: taken back, or left alone, by the facts.

use demo_child::{Behaviour, Crash, DataFormats, StateKind, Unready};
use serde_json::json;
use supervisor_protocol::Reason;
use supervisor_protocol::admin::Phase;

use crate::http::get;
use crate::node::serving;
use crate::stage::{SLOT, Stage, plain};

fn good() -> Behaviour {
    Behaviour::named("good")
}

/// F15: it crashes with its first request, which its predecessor then answers.
#[tokio::test]
async fn f15_a_build_that_crashes_after_it_was_published_is_taken_back() {
    let (mut stage, old) = Stage::with(&good(), "[timing]\nbake = \"60s\"\n").await;
    let bad = stage.offer(&Behaviour { crash: Some(Crash::FirstRequest), ..Behaviour::named("bad") });
    stage.publish(&bad);
    stage.serves(&bad).await;
    assert_eq!(stage.hello().await, "good");
    let why = stage.why("rolled_back").await;
    assert!(why.contains(&bad.sha256[..8]), "{why}");
    stage.serves(&old).await;

    // Nor is it tried again by itself, also after a restart of the host.
    stage.killed_and_restarted().await;
    assert_eq!(stage.hello().await, "good");
    stage.why("rolled_back").await;
    let of_bad = |phase: Phase| matches!(phase, Phase::Starting | Phase::Warming | Phase::Ready | Phase::Serving);
    let slot = stage.slot().await;
    let tried = |one: &&supervisor_protocol::admin::GenerationStatus| one.sha256.to_string() == bad.sha256;
    assert!(!slot.generations.iter().filter(tried).any(|one| of_bad(one.phase)), "{slot:#?}");
    // A better one is.
    let better = stage.offer(&Behaviour::named("better"));
    stage.publish(&better);
    stage.serves(&better).await;
    assert_eq!(stage.hello().await, "better");
    stage.end().await;
}

/// F15, F22: it was ready, is no more, and its predecessor is.
#[tokio::test]
async fn f15_f22_a_build_that_becomes_unready_while_its_predecessor_is_ready_is_taken_back() {
    let (mut stage, old) = Stage::with(&good(), "[timing]\nbake = \"60s\"\n").await;
    let bad = stage.offer(&Behaviour { unready: Some(Unready::File("gone".to_owned())), ..Behaviour::named("bad") });
    stage.publish(&bad);
    stage.serves(&bad).await;
    assert_eq!(stage.hello().await, "bad");
    std::fs::write(stage.data("gone"), "").unwrap();
    stage.serves(&old).await;
    let why = stage.why("rolled_back").await;
    assert!(why.contains("its backend is gone"), "{why}");
    stage.says("good").await;
    stage.end().await;
}

/// F15, F60: what fails the old one as well is no fault of the new one.
#[tokio::test]
async fn f15_f60_a_build_that_fails_for_a_cause_that_its_predecessor_shares_is_left_alone() {
    let shares = |build: &str| Behaviour { unready: Some(Unready::File("gone".to_owned())), ..Behaviour::named(build) };
    let (mut stage, _) = Stage::with(&shares("good"), "[timing]\nbake = \"20s\"\n").await;
    let new = stage.offer(&shares("new"));
    stage.publish(&new);
    let before = stage.serves(&new).await;
    std::fs::write(stage.data("gone"), "").unwrap();
    stage.why("unready").await;
    std::fs::remove_file(stage.data("gone")).unwrap();
    let ready =
        |status: &_| serving(status, SLOT).is_some() && crate::node::slot(status, SLOT).is_some_and(|slot| slot.ready);
    stage.node.until(ready).await;
    // It passes its trial in the end, and its predecessor is let go.
    let after = stage.baked(&new).await;
    assert_eq!((before.generation, before.pid), (after.generation, after.pid));
    assert_eq!(stage.hello().await, "new");
    stage.end().await;
}

fn fails(build: &str, errors_percent: u8) -> Behaviour {
    Behaviour { errors_percent, ..Behaviour::named(build) }
}

/// Asks so often that a rate can be told, and gives the number of errors.
async fn errors_of_100(stage: &Stage) -> u32 {
    let mut errors = 0;
    for _ in 0..100 {
        errors += u32::from(stage.node.get(&format!("/{SLOT}/work")).await.status == 500);
    }
    errors
}

const BY_ERRORS: &str = "[service.demo.rollout]\nerror_rate = \"5%\"\n";

/// F15: it answers, and half of its answers are errors.
#[tokio::test]
async fn f15_a_build_that_makes_errors_is_taken_back_where_that_is_asked_for() {
    let (mut stage, old) = Stage::with(&good(), &format!("{BY_ERRORS}[timing]\nbake = \"60s\"\n")).await;
    assert_eq!(errors_of_100(&stage).await, 0);
    let bad = stage.offer(&fails("bad", 50));
    stage.publish(&bad);
    stage.serves(&bad).await;
    let way = stage.slot().await.way_back.unwrap();
    assert_eq!((way.sha256.to_string(), way.warm), (old.sha256.clone(), way.generation.is_some()));
    assert!(errors_of_100(&stage).await > 0);
    let why = stage.why("rolled_back").await;
    assert!(why.contains("were errors"), "{why}");
    stage.serves(&old).await;
    stage.says("good").await;
    assert_eq!(errors_of_100(&stage).await, 0);
    for (name, labels, count) in [
        ("versiond_rollbacks_total", vec!["cause=\"errors\""], 1.0),
        ("versiond_rollbacks_total", vec!["cause=\"crash\""], 0.0),
        ("versiond_swaps_total", vec!["strategy=\"overlap\"", "outcome=\"done\""], 1.0),
        ("versiond_swaps_total", vec!["strategy=\"overlap\"", "outcome=\"rolled_back\""], 1.0),
    ] {
        assert_eq!(stage.counted(name, &labels).await, count, "{name} {labels:?}");
    }
    stage.end().await;
}

/// F15, F60: what its predecessor has made as well is a common cause.
#[tokio::test]
async fn f15_f60_a_build_that_makes_no_more_errors_than_its_predecessor_is_left_alone() {
    let (mut stage, _) = Stage::with(&fails("good", 50), &format!("{BY_ERRORS}[timing]\nbake = \"20s\"\n")).await;
    assert_eq!(errors_of_100(&stage).await, 50);
    let new = stage.offer(&fails("new", 50));
    stage.publish(&new);
    let before = stage.serves(&new).await;
    assert_eq!(errors_of_100(&stage).await, 50);
    let after = stage.baked(&new).await;
    assert_eq!((before.generation, before.pid), (after.generation, after.pid));
    stage.end().await;
}

/// F15: without the setting errors take nothing back.
#[tokio::test]
async fn f15_a_build_that_answers_errors_is_left_alone() {
    let (mut stage, _) = Stage::with(&good(), "[timing]\nbake = \"10s\"\n").await;
    assert_eq!(errors_of_100(&stage).await, 0);
    let new = stage.offer(&fails("new", 50));
    stage.publish(&new);
    let before = stage.serves(&new).await;
    assert_eq!(errors_of_100(&stage).await, 50);
    let after = stage.baked(&new).await;
    assert_eq!((before.generation, before.pid), (after.generation, after.pid));
    stage.end().await;
}

fn data(build: &str, reads: [u32; 2], writes: u32) -> Behaviour {
    let data = Some(DataFormats { reads, writes });
    Behaviour { state: StateKind::Local, locks: true, data, ..Behaviour::named(build) }
}

/// F15, F68: the new one has written a format that the old one does not read.
#[tokio::test]
async fn f15_f68_a_build_that_has_migrated_local_data_is_not_taken_back_without_force() {
    let (mut stage, old) = Stage::with(&data("old", [3, 3], 3), "[timing]\nbake = \"60s\"\n").await;
    stage.hello().await;
    let bad = stage.offer(&Behaviour { crash: Some(Crash::FirstRequest), ..data("bad", [3, 4], 4) });
    stage.publish(&bad);
    let first = stage.serves(&bad).await;
    assert_eq!(std::fs::read_to_string(stage.data("format")).unwrap(), "4\n");
    // It crashes with this one; who asks for an answer waits for its next life, which crashes with it too.
    let host = stage.node.host;
    let asked = tokio::spawn(async move { get(host, &format!("/{SLOT}/hello")).await });
    let why = stage.why("rollback_unsafe").await;
    assert!(why.contains("writes format 4") && why.contains("reads 3 to 3"), "{why}");
    asked.await.unwrap().unwrap();
    let next = stage.node.until(|status| serving(status, SLOT).is_some_and(|one| one.generation > first.generation));
    let next = serving(&next.await, SLOT).unwrap().clone();
    assert_eq!(next.sha256.to_string(), bad.sha256, "it is tried again, and not the old one");

    assert_eq!(stage.refused("rollback", plain()).await, "rollback_unsafe");
    // The operator has put back what the old one can read, and says so.
    std::fs::write(stage.data("format"), "3\n").unwrap();
    stage.order("rollback", json!({"force": true})).await;
    stage.serves(&old).await;
    assert_eq!(stage.hello().await, "old");
    stage.why("rolled_back").await;
    stage.end().await;
}

/// F68: within what the old one reads, local data are no reason against going back.
#[tokio::test]
async fn f68_a_build_whose_data_its_predecessor_reads_is_taken_back() {
    let (mut stage, old) = Stage::with(&data("old", [3, 4], 3), "[timing]\nbake = \"60s\"\n").await;
    stage.hello().await;
    let bad = stage.offer(&Behaviour { crash: Some(Crash::FirstRequest), ..data("bad", [3, 4], 4) });
    stage.publish(&bad);
    stage.serves(&bad).await;
    let host = stage.node.host;
    let asked = tokio::spawn(async move { get(host, &format!("/{SLOT}/hello")).await });
    stage.serves(&old).await;
    let reasons = stage.slot().await.reasons;
    assert!(reasons.iter().any(|reason| matches!(reason, Reason::RolledBack { .. })), "{reasons:?}");
    assert_eq!(asked.await.unwrap().unwrap().status, 200);
    stage.end().await;
}
