//! Requests for an approved slot that nothing serves: held within bounds, then refused by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use router_dataplane::{Absence, RouteTable, SlotRoute, Upstream, WaitCounts, WaitEnd};
use supervisor_protocol::{Refusal, ServiceName, Tick, VersionName};
use tokio::io::AsyncWriteExt;

use crate::common::*;

// F16: neither 404 nor 503 for an approved version while something will serve it within the bound.
#[tokio::test]
async fn f16_requests_wait_for_the_next_generation_whatever_their_method() {
    let rig = Rig::new();
    let mut clients = Vec::new();
    for n in 0..40 {
        let mut client = rig.client().await;
        let verb = if n % 2 == 0 { "GET" } else { "POST" };
        client.send(format!("{verb} /devshard/v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")).await;
        clients.push(client);
    }
    until("held", || rig.plane.counters().held_now == 40).await;
    assert_eq!(rig.slot.waiting(), 40);
    rig.publish(named("new").await);
    for mut client in clients {
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "new"));
    }
    let counters = rig.plane.counters();
    assert_eq!((counters.held_now, counters.held_bytes_now, counters.held, rig.slot.waiting()), (0, 0, 40, 0));
    assert_eq!(counters.held_longest_ms, rig.slot.held().longest_ms);
    let waits = rig.slot.waits();
    assert_eq!((ended(&waits), waits.waits), (vec![(WaitEnd::Admitted, 40)], 40));
    assert!(counters.refused.values().all(|count| *count == 0));
}

#[tokio::test]
async fn f16_a_crash_between_two_generations_is_waited_out() {
    let rig = Rig::with(|config| config.not_admitted_wait = PATIENCE);
    // Nothing listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    rig.publish(gone);
    let mut client = rig.client().await;
    client.send("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
    until("held", || rig.plane.counters().held_now == 1).await;
    rig.slot.withdraw(Absence::Hold { forecast: None }).unwrap().retire();
    rig.publish(named("new").await);
    assert_eq!(client.reply().await.text(), "new");
}

// F16: between the start of a host and its first table nothing is known not to exist.
#[tokio::test]
async fn f16_requests_wait_for_the_first_table_of_routes() {
    let rig = Rig::pending(|_| {});
    rig.publish(named("new").await);
    let (mut known, mut unknown, mut gone) = (rig.client().await, rig.client().await, rig.client().await);
    known.send("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
    unknown.send_get("/devshard/v2/x").await;
    gone.send_get("/devshard/v1/x").await;
    until("held", || rig.plane.counters().held_now == 3).await;
    // The host's own paths depend on no table.
    assert_eq!(rig.get("/healthz").await.status, 404);
    gone.reset();
    until("gone", || rig.plane.counters().held_now == 2).await;

    rig.plane.replace_table(rig.table.clone());
    assert_eq!(known.reply().await.text(), "new");
    assert_eq!(unknown.reply().await.status, 404);
    assert_eq!((rig.plane.counters().held_now, rig.slot.current().unwrap().load().admitted), (0, 1));
}

#[tokio::test]
async fn f16_without_a_table_of_routes_the_refusal_is_typed() {
    let rig = Rig::pending(|config| config.hold.time = Duration::from_millis(50));
    let reply = rig.get("/devshard/v1/x").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "not_serving"));
    assert_eq!(reply.header("versiond-not-admitted"), Some("not_serving; nonce=boot1"));

    let rig = Rig::pending(|config| config.hold.requests = 1);
    let mut waiting = rig.client().await;
    waiting.send_get("/devshard/v1/x").await;
    until("held", || rig.plane.counters().held_now == 1).await;
    assert_eq!(rig.get("/devshard/v1/x").await.code(), "hold_full");
    rig.plane.close_admission(Refusal::HostStopping);
    assert_eq!(waiting.reply().await.code(), "host_stopping");
}

#[tokio::test]
async fn a_hold_ends_at_its_bound_with_a_typed_refusal() {
    let rig = Rig::with(|config| config.hold.time = Duration::from_millis(50));
    let reply = rig.get("/devshard/v1/x").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "hold_expired"));
    assert_eq!(reply.header("versiond-not-admitted"), Some("hold_expired; nonce=boot1"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(rig.plane.counters().held_now, 0);
    let waits = rig.slot.waits();
    assert_eq!(ended(&waits), [(WaitEnd::Expired, 1)]);
    assert!(waits.sum_ms >= 50, "{waits:?}");
}

#[tokio::test]
async fn a_forecast_beyond_the_bound_refuses_at_once_those_that_come_and_those_that_wait() {
    let rig = Rig::new();
    let mut waiting = rig.client().await;
    waiting.send_get("/devshard/v1/x").await;
    until("held", || rig.plane.counters().held_now == 1).await;
    let forecast = Tick(rig.clock.now().0 + 60_000);
    rig.slot.withdraw(Absence::Hold { forecast: Some(forecast) });
    for reply in [waiting.reply().await, rig.get("/devshard/v1/x").await] {
        assert_eq!((reply.status, reply.code().as_str()), (503, "not_serving"));
        let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((50..=60).contains(&seconds), "{seconds}");
    }
    assert_eq!(ended(&rig.slot.waits()), [(WaitEnd::Refused, 2)]);

    rig.slot.withdraw(Absence::Refuse { refusal: Refusal::NotServing, retry_after_s: Some(7) });
    assert_eq!(rig.get("/devshard/v1/x").await.header("retry-after"), Some("7"));
    rig.slot.withdraw(Absence::Refuse { refusal: Refusal::NotFound, retry_after_s: None });
    assert_eq!(rig.get("/devshard/v1/x").await.status, 404);
}

#[tokio::test]
async fn the_hold_is_bounded_in_number_and_a_client_that_leaves_frees_its_place() {
    let rig = Rig::with(|config| config.hold.requests = 2);
    let mut first = rig.client().await;
    let mut second = rig.client().await;
    first.send_get("/devshard/v1/x").await;
    second.send_get("/devshard/v1/x").await;
    until("full", || rig.plane.counters().held_now == 2).await;
    assert_eq!(rig.get("/devshard/v1/x").await.code(), "hold_full");
    first.reset();
    until("left", || rig.plane.counters().held_now == 1).await;
    let mut third = rig.client().await;
    third.send_get("/devshard/v1/x").await;
    until("full again", || rig.plane.counters().held_now == 2).await;
    rig.publish(named("new").await);
    assert_eq!((second.reply().await.text(), third.reply().await.text()), ("new".into(), "new".into()));
    assert_eq!(rig.slot.current().unwrap().load().admitted, 2);
    let waits = rig.slot.waits();
    assert_eq!(ended(&waits), [(WaitEnd::Admitted, 2), (WaitEnd::ClientGone, 1), (WaitEnd::Full, 1)]);
    assert_eq!(waits.waits, 3, "what found no room has not waited");
}

/// The ends that have happened, and how often.
fn ended(waits: &WaitCounts) -> Vec<(WaitEnd, u64)> {
    WaitEnd::ALL.into_iter().zip(waits.ends).filter(|(_, count)| *count > 0).collect()
}

// F55: the end of input behind a whole request is not a hang-up, while it waits as little as later.
#[tokio::test]
async fn f55_a_held_request_is_answered_although_its_client_has_ended_its_input() {
    let rig = Rig::new();
    let mut half = rig.client().await;
    half.send_get("/devshard/v1/x").await;
    until("held", || rig.plane.counters().held_now == 1).await;
    half.stream.shutdown().await.unwrap();
    // One round trip through each worker and more, for the end of input to be noticed.
    for _ in 0..8 {
        assert_eq!(rig.get("/nowhere").await.status, 404);
    }
    assert_eq!(rig.slot.waiting(), 1);
    rig.publish(named("new").await);
    assert_eq!(half.reply().await.text(), "new");
}

#[tokio::test]
async fn a_target_that_is_retired_and_not_replaced_counts_as_absent() {
    let rig = Rig::new();
    let target = rig.target(Upstream::Tcp(named("old").await));
    rig.slot.publish(target.clone());
    target.retire();
    let mut client = rig.client().await;
    client.send_get("/devshard/v1/x").await;
    until("held", || rig.plane.counters().held_now == 1).await;
    rig.publish(named("new").await);
    assert_eq!(client.reply().await.text(), "new");
}

/// Answers every request, and knows of none that was left.
async fn calm() -> std::net::SocketAddr {
    origin(|mut peer| async move {
        while peer.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(3)).await;
            if peer.answer("calm").await.is_err() {
                return;
            }
        }
    })
    .await
}

// F01, F10: the old generation of a hold may come back when it does not empty in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_f10_a_generation_that_is_withdrawn_and_comes_back_fails_no_request() {
    let rig = Rig::new();
    let target = rig.publish(calm().await);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..16)
        .map(|n| {
            let (stop, address) = (stop.clone(), rig.address);
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                let mut served = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    let reply = match n % 2 {
                        0 => client.get("/devshard/v1/x").await,
                        _ => client.post("/devshard/v1/x", "body").await,
                    };
                    assert_eq!((reply.status, reply.text().as_str(), reply.complete), (200, "calm", true));
                    served += 1;
                }
                served
            })
        })
        .collect();
    for round in 0..50 {
        let before = target.load().admitted;
        until("traffic", || target.load().admitted > before + 20).await;
        rig.slot.withdraw(Absence::Hold { forecast: None }).unwrap().retire();
        // Sooner or later than its work is over.
        if round % 2 == 0 {
            soon(target.idle()).await;
            let (load, later) = (target.load(), rig.get("/nowhere").await);
            assert_eq!((load.inflight, later.status, target.load().admitted), (0, 404, load.admitted));
        }
        target.restore();
        assert!(rig.slot.publish(target.clone()).is_none());
    }
    stop.store(true, Ordering::Relaxed);
    let mut served = 0;
    for client in clients {
        served += client.await.unwrap();
    }
    let load = target.load();
    assert_eq!((load.admitted, load.ended.finished.request, load.inflight), (served, served, 0));
    assert!(rig.plane.counters().refused.values().sum::<u64>() <= 25, "but for the 404s of this test");
}

#[tokio::test]
async fn the_hold_is_bounded_in_bytes() {
    let rig = Rig::with(|config| config.hold.bytes = 2_000);
    let mut first = rig.client().await;
    let padding = "a".repeat(1_000);
    first.send(format!("GET /devshard/v1/x HTTP/1.1\r\nHost: a\r\nX-Padding: {padding}\r\n\r\n")).await;
    until("held", || rig.plane.counters().held_now == 1).await;
    assert!((1_000..1_200).contains(&rig.plane.counters().held_bytes_now));
    // Its body may come along with its head, up to a whole buffer of it.
    assert_eq!(rig.client().await.post("/devshard/v1/x", &padding).await.code(), "hold_full");
    let mut small = rig.client().await;
    small.send_get("/devshard/v1/x").await;
    until("held", || rig.plane.counters().held_now == 2).await;
    rig.publish(named("new").await);
    assert_eq!((first.reply().await.text(), small.reply().await.text()), ("new".into(), "new".into()));
    assert_eq!((rig.plane.counters().held_bytes_now, rig.slot.held().bytes), (0, 0));
}

// F16: of the room of the host a slot that is away for long leaves a part to the others.
#[tokio::test]
async fn f16_a_slot_cannot_take_all_the_room_that_there_is_to_wait() {
    let rig = Rig::with(|config| config.hold.requests = 4);
    let (service, other) = (ServiceName::new("devshardd").unwrap(), SlotRoute::new(Absence::Hold { forecast: None }));
    let slots = [("v1", rig.slot.clone()), ("v2", other.clone())]
        .map(|(name, slot)| ((service.clone(), VersionName::new(name).unwrap()), slot));
    let routes = vec![("/devshard/{version}".parse().unwrap(), service)];
    rig.plane.replace_table(Arc::new(RouteTable::new(routes, BTreeMap::from(slots))));
    let mut greedy = Vec::new();
    for n in 1..=3 {
        let mut client = rig.client().await;
        client.send_get("/devshard/v1/x").await;
        until("held", || rig.slot.held().requests == n).await;
        greedy.push(client);
    }
    assert_eq!(rig.get("/devshard/v1/x").await.code(), "hold_full");
    let mut modest = rig.client().await;
    modest.send_get("/devshard/v2/x").await;
    until("held", || other.held().requests == 1).await;
    assert_eq!(rig.get("/devshard/v2/x").await.code(), "hold_full");
    assert_eq!(rig.plane.counters().refused[&Refusal::HoldFull], 2);
    rig.publish(named("new").await);
    for mut client in greedy {
        assert_eq!(client.reply().await.text(), "new");
    }
    assert_eq!((rig.plane.counters().held_now, other.held().requests), (1, 1));
}

/// Nobody is refused because the turns after a publication are spread over time.
#[tokio::test]
async fn whoever_runs_out_of_time_before_its_turn_is_admitted_all_the_same() {
    // The turns of 300 take longer.
    let rig = Rig::with(|config| config.hold.time = Duration::from_millis(400));
    let mut clients = Vec::new();
    for _ in 0..300 {
        let mut client = rig.client().await;
        client.send_get("/devshard/v1/x").await;
        clients.push(client);
    }
    until("held", || rig.plane.counters().held == 300).await;
    rig.publish(named("new").await);
    // On a machine that is busy enough some ran out of time before the publication; none does after it.
    let expired = rig.plane.counters().refused[&Refusal::HoldExpired];
    let mut served = 0;
    for mut client in clients {
        let reply = client.reply().await;
        assert!(reply.status == 200 || reply.code() == "hold_expired", "{} {}", reply.status, reply.text());
        served += u64::from(reply.status == 200);
    }
    assert_eq!(served, 300 - expired);
}
