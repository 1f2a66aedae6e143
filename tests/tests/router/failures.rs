//! Hosts that die, and routers that are restarted, while clients go on.

use std::time::Instant;

use ::http::Method;
use nix::sys::signal::Signal;

use crate::fleet::{Fleet, SLOT, role};
use crate::http::EventStream;
use crate::load::Load;

/// The POSTs that a host has begun.
async fn executions(fleet: &Fleet, id: &str) -> u64 {
    let answer = fleet.host(id).get(&format!("/{SLOT}/executions")).await;
    answer.json::<serde_json::Value>()["executions"].as_u64().unwrap()
}

/// F52, F53: a host dies without a word. What was in flight there breaks, visibly; nothing else does, and no POST is
/// executed twice.
#[tokio::test]
async fn f52_f53_a_host_that_is_killed_takes_its_own_requests_alone_and_no_post_runs_twice() {
    const CLIENTS: usize = 10;
    let fleet = Fleet::of(3).await;
    let load = Load::begin(&fleet, CLIENTS, &Method::POST);
    load.goes_on(100).await;
    let before = load.so_far().answered;
    let executed = executions(&fleet, "gpu-2").await;
    fleet.host("gpu-2").signal(Signal::SIGKILL);
    let killed = Instant::now();
    fleet
        .until_each("it is out", |hosts| hosts.iter().all(|host| host.role.is_some() || host.health == "silent"))
        .await;
    println!("a host that was killed was out of both routers after {} ms", killed.elapsed().as_millis());
    load.goes_on(200).await;
    let met = load.end().await;
    // At most what each client had in flight there; each is a broken transfer or a typed refusal of what may have run.
    assert!(met.failed.len() <= CLIENTS, "{:#?}", met.failed);
    let is_of_a_dead_host =
        |why: &String| why.contains("child_broke") || why.contains("broke off") || why.contains("no answer");
    assert!(met.failed.iter().all(is_of_a_dead_host), "{:#?}", met.failed);
    let survivors = executions(&fleet, "gpu-1").await + executions(&fleet, "gpu-3").await;
    let sent = met.answered + u64::try_from(met.failed.len()).unwrap();
    // What the dead one had executed before its last words is among the answered; after them it may have begun more.
    assert!(survivors + executed <= sent, "{survivors} + {executed} executions of {sent} requests, {before} before");
    fleet.end().await;
}

/// A router that is told to stop finishes its streams; its clients go through the other meanwhile, and one that
/// begins anew knows its members before it has asked them.
#[tokio::test]
async fn f50_routers_are_restarted_in_turn_without_a_failure() {
    let fleet = Fleet::of(2).await;
    let load = Load::begin(&fleet, 8, &Method::GET);
    for router in &fleet.routers {
        load.goes_on(30).await;
        let stream = EventStream::session(router.address, &format!("/devshard/{SLOT}"), "7", 2_000).await;
        router.signal(Signal::SIGTERM);
        stream.finish().await.unwrap();
        assert_eq!(router.ended().await.code(), Some(0), "{}", router.log());
        load.goes_on(30).await;
        router.run();
        router.until("it is back", |hosts| ["gpu-1", "gpu-2"].iter().all(|id| role(hosts, id) == Some("ready"))).await;
    }
    load.goes_on(30).await;
    let met = load.end().await;
    assert_eq!(met.failed, Vec::<String>::new(), "of {}", met.answered);
    fleet.end().await;
}
