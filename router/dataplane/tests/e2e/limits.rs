//! What clients may have at once, and how long nothing may happen: each refusal has its name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use router_dataplane::PeerRanges;
use supervisor_protocol::{Refusal, StreamClass};
use tokio::sync::Notify;

use crate::common::*;
use crate::http2::{Http2, get, whole};

/// Nothing comes of what is asked here until it is told to go on.
async fn slow() -> (SocketAddr, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let told = go.clone();
    let address = origin(move |mut peer| {
        let told = told.clone();
        async move {
            while peer.request().await.is_some() {
                told.notified().await;
                if peer.answer("ok").await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (address, go)
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_whether_its_length_is_said_or_not() {
    let rig = Rig::with(|config| config.limits.body = Some(10));
    let child = origin(|mut peer| async move {
        while let Some(seen) = peer.request().await {
            if peer.answer(&String::from_utf8_lossy(&seen.body)).await.is_err() {
                return;
            }
        }
    })
    .await;
    let target = rig.publish(child);
    assert_eq!(rig.client().await.post("/devshard/v1/x", "0123456789").await.text(), "0123456789");
    let reply = rig.client().await.post("/devshard/v1/x", "0123456789a").await;
    assert_eq!((reply.status, reply.code().as_str()), (413, "body_too_large"));
    assert_eq!(target.load().admitted, 1);
    let mut chunked = rig.client().await;
    chunked.send("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    chunked.send("6\r\n012345\r\n6\r\n678901\r\n0\r\n\r\n").await;
    let reply = chunked.reply().await;
    assert_eq!((reply.status, reply.code().as_str()), (413, "body_too_large"));

    let mut http2 = Http2::connect(rig.address).await;
    let post = || Request::post("http://a/devshard/v1/x").body(()).unwrap();
    assert_eq!(http2.send(post(), Some("0123456789a")).await.unwrap().status(), 413);
    assert_eq!(whole(http2.send(post(), Some("0123456789")).await.unwrap()).await.unwrap().0, "0123456789");
    assert_eq!(rig.plane.counters().refused[&Refusal::BodyTooLarge], 3);
}

// F61: what is beyond the limit costs nothing, and is not for another host to do.
#[tokio::test]
async fn f61_more_in_flight_than_may_be_is_shed_before_any_work() {
    let rig = Rig::with(|config| config.limits.inflight = 2);
    let (child, go) = slow().await;
    let target = rig.publish(child);
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut client = rig.client().await;
        client.send_get("/devshard/v1/x").await;
        busy.push(client);
    }
    until("two in flight", || target.load().inflight == 2).await;
    for _ in 0..5 {
        let reply = rig.get("/devshard/v1/x").await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "overloaded"));
        assert_eq!((reply.header("retry-after"), reply.header("versiond-not-admitted")), (Some("1"), None));
    }
    assert_eq!(target.load().admitted, 2);
    assert_eq!(rig.plane.counters().inflight_now, 2);
    go.notify_waiters();
    for mut client in busy {
        assert_eq!(client.reply().await.text(), "ok");
    }
    until("none in flight", || rig.plane.counters().inflight_now == 0).await;
    let mut client = rig.client().await;
    client.send_get("/devshard/v1/x").await;
    until("admitted", || target.load().inflight == 1).await;
    client.reset();
    until("none in flight", || rig.plane.counters().inflight_now == 0).await;
}

#[tokio::test]
async fn an_address_has_as_many_connections_as_it_may_unless_it_is_trusted() {
    let strange = |config: &mut router_dataplane::PlaneConfig| {
        config.limits.connections_per_address = Some(2);
        config.trusted = PeerRanges::none();
    };
    let rig = Rig::with(strange);
    rig.publish(named("ok").await);
    let (mut one, mut two) = (rig.client().await, rig.client().await);
    assert_eq!((one.get("/devshard/v1/x").await.status, two.get("/devshard/v1/x").await.status), (200, 200));
    let mut third = rig.client().await;
    let reply = third.reply().await;
    assert_eq!((reply.status, reply.code().as_str()), (429, "too_many_connections"));
    assert!(soon(third.fill()).await.is_none());
    drop(one);
    until("there is room", || rig.plane.counters().connections_now == 1).await;
    assert_eq!(rig.get("/devshard/v1/x").await.status, 200);

    let trusted = Rig::with(|config| config.limits.connections_per_address = Some(1));
    trusted.publish(named("ok").await);
    let _one = trusted.client().await;
    assert_eq!(trusted.get("/devshard/v1/x").await.status, 200);
}

#[tokio::test]
async fn a_child_that_says_nothing_for_too_long_is_not_waited_for() {
    let idle = Duration::from_millis(100);
    let rig = Rig::with(|config| {
        config.limits.idle.request = idle;
        config.limits.idle.stream = idle * 2;
        config.limits.idle.upgrade = idle;
    });
    let child = origin(move |mut peer| async move {
        let seen = peer.request().await.unwrap();
        match seen.line.split(' ').nth(1).unwrap() {
            "/silent" => {}
            "/stops" => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234").await.unwrap(),
            "/socket" => {
                peer.send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await.unwrap()
            }
            _ => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                peer.send(head).await.unwrap();
                // Slower than a request may be, and quick enough for a stream.
                for _ in 0..4 {
                    tokio::time::sleep(idle * 3 / 2).await;
                    peer.send("1\r\n.\r\n").await.unwrap();
                }
            }
        }
        peer.closed().await;
    })
    .await;
    let target = rig.publish(child);
    let reply = rig.get("/devshard/v1/silent").await;
    assert_eq!((reply.status, reply.code().as_str()), (504, "child_silent"));
    let reply = rig.get("/devshard/v1/stops").await;
    assert_eq!((reply.status, reply.complete, reply.text().as_str()), (200, false, "1234"));
    let mut socket = rig.client().await;
    socket.send("GET /devshard/v1/socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    assert_eq!(soon(socket.head()).await.unwrap().status, 101);
    assert!(soon(socket.fill()).await.is_none());
    let mut events = rig.client().await;
    events.send_get("/devshard/v1/events").await;
    assert_eq!(soon(events.head()).await.unwrap().status, 200);
    for _ in 0..4 {
        assert_eq!(soon(events.chunk()).await.unwrap(), b".");
    }
    assert_eq!(soon(events.chunk()).await, None);
    let mut http2 = Http2::connect(rig.address).await;
    let mut body = http2.get("/devshard/v1/stops").await.into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), Bytes::from_static(b"1234"));
    soon(body.data()).await.unwrap().unwrap_err();
    assert_eq!(http2.send(get("/devshard/v1/silent"), None).await.unwrap().status(), 504);
    let cut = target.load().ended.cut;
    let of = |class: StreamClass| *cut.get(class);
    assert_eq!((of(StreamClass::Request), of(StreamClass::Stream), of(StreamClass::Upgrade)), (4, 1, 1));
}

/// Progress of the request is not silence.
#[tokio::test]
async fn a_slow_upload_is_waited_for_as_long_as_it_goes_on() {
    let rig = Rig::with(|config| config.limits.idle.request = Duration::from_millis(150));
    rig.publish(named("ok").await);
    let mut client = rig.client().await;
    client.send("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n").await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(75)).await;
        client.send("x").await;
    }
    assert_eq!(client.reply().await.text(), "ok");
}
