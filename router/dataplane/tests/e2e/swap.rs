//! Swaps under load: nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::*;

/// Answers with its name after a moment, and refuses once it has been told to drain.
async fn child(name: &'static str, draining: Arc<AtomicBool>) -> std::net::SocketAddr {
    origin(move |mut peer| {
        let draining = draining.clone();
        async move {
            while peer.request().await.is_some() {
                let drains = draining.load(Ordering::Acquire);
                tokio::time::sleep(Duration::from_millis(3)).await;
                let sent = if drains {
                    peer.send("HTTP/1.1 503 Draining\r\nContent-Length: 0\r\n\r\n").await
                } else {
                    peer.answer(name).await
                };
                if sent.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

// F01: a child drains only after its last lease, so no admitted request meets a draining child.
// F02: a successor is visible before its predecessor is retired, so no request finds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_f02_no_request_fails_through_fifty_swaps() {
    let rig = Rig::new();
    let first = Arc::new(AtomicBool::new(false));
    rig.publish(child("child", first.clone()).await);
    let mut old_flag = first;

    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..16)
        .map(|n| {
            let (stop, served, address) = (stop.clone(), served.clone(), rig.address);
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                while !stop.load(Ordering::Relaxed) {
                    let reply = match n % 2 {
                        0 => client.get("/devshard/v1/x").await,
                        _ => client.post("/devshard/v1/x", "body").await,
                    };
                    assert_eq!((reply.status, reply.text().as_str(), reply.complete), (200, "child", true));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    for _ in 0..50 {
        let before = served.load(Ordering::Relaxed);
        until("traffic", || served.load(Ordering::Relaxed) > before + 20).await;
        let old = rig.slot.current().unwrap();
        let flag = Arc::new(AtomicBool::new(false));
        rig.publish(child("child", flag.clone()).await);
        soon(old.idle()).await;
        old_flag.store(true, Ordering::Release);
        old_flag = flag;
        let load = old.load();
        assert_eq!((load.inflight, load.ended.finished.request), (0, load.admitted), "{load:?}");
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(rig.plane.counters().refused.values().all(|count| *count == 0));
    assert_eq!(rig.plane.counters().answered, served.load(Ordering::Relaxed));
}

#[tokio::test]
async fn an_admitted_request_ends_on_the_generation_that_admitted_it() {
    let release = Arc::new(tokio::sync::Notify::new());
    let slow = {
        let release = release.clone();
        origin(move |mut peer| {
            let release = release.clone();
            async move {
                peer.request().await.unwrap();
                release.notified().await;
                peer.answer("old").await.unwrap();
                peer.closed().await;
            }
        })
        .await
    };
    let rig = Rig::new();
    let old = rig.publish(slow);
    let mut client = rig.client().await;
    client.send_get("/devshard/v1/x").await;
    until("admitted", || old.load().inflight == 1).await;
    rig.publish(named("new").await);
    assert_eq!(rig.get("/devshard/v1/x").await.text(), "new");
    assert!(tokio::time::timeout(Duration::from_millis(20), old.idle()).await.is_err());
    release.notify_one();
    assert_eq!(client.reply().await.text(), "old");
    soon(old.idle()).await;
    assert_eq!(client.get("/devshard/v1/x").await.text(), "new");
}

#[tokio::test]
async fn a_retired_target_keeps_no_unused_connection() {
    let (closed, mut seen) = tokio::sync::mpsc::channel(1);
    let old = origin(move |mut peer| {
        let closed = closed.clone();
        async move {
            peer.request().await.unwrap();
            peer.answer("old").await.unwrap();
            peer.closed().await;
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let rig = Rig::new();
    rig.publish(old);
    assert_eq!(rig.get("/devshard/v1/x").await.text(), "old");
    rig.publish(named("new").await);
    soon(seen.recv()).await.unwrap();
}

/// A WebSocket handshake, and an echo of every byte after it.
async fn echoing() -> std::net::SocketAddr {
    origin(|mut peer| async move {
        let seen = peer.request().await.unwrap();
        assert_eq!((seen.headers["connection"].as_str(), seen.headers["upgrade"].as_str()), ("upgrade", "websocket"));
        peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
            .await
            .unwrap();
        let mut buffer = [0u8; 1024];
        while let Ok(read @ 1..) = peer.stream.read(&mut buffer).await {
            peer.stream.write_all(&buffer[..read]).await.unwrap();
        }
    })
    .await
}

pub(crate) const HANDSHAKE: &str =
    "GET /devshard/v1/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn a_websocket_speaks_on_through_a_swap_and_its_close_ends_the_lease() {
    let rig = Rig::new();
    let old = rig.publish(echoing().await);
    let mut client = rig.client().await;
    // The first frame may be there before the answer: it waits for it.
    client.send(HANDSHAKE).await;
    client.send("early\0\r\nbytes").await;
    let head = soon(client.head()).await.unwrap();
    assert_eq!((head.status, head.header("upgrade")), (101, Some("websocket")));
    assert_eq!(client.read_exactly(18).await, b"helloearly\0\r\nbytes");
    assert_eq!(old.load().by_class.upgrade, 1);

    rig.publish(named("new").await);
    assert_eq!(rig.get("/devshard/v1/x").await.text(), "new");
    for n in 0..100u32 {
        client.send(n.to_be_bytes()).await;
        assert_eq!(client.read_exactly(4).await, n.to_be_bytes());
    }
    assert_eq!(old.load().inflight, 1);
    client.stream.shutdown().await.unwrap();
    assert!(soon(client.fill()).await.is_none());
    soon(old.idle()).await;
    assert_eq!(old.load().ended.finished.upgrade, 1);
}

// F47: a tunnel holds a descriptor like any other connection, and counts as one.
#[tokio::test]
async fn f47_a_tunnel_counts_as_a_connection_until_it_ends() {
    let rig = Rig::with(|config| {
        config.workers = 1;
        config.limits.connections = 1;
    });
    rig.publish(echoing().await);
    let mut client = rig.client().await;
    client.send(HANDSHAKE).await;
    assert_eq!(soon(client.head()).await.unwrap().status, 101);
    client.send("!").await;
    assert_eq!(client.read_exactly(6).await, b"hello!");
    assert_eq!(rig.plane.counters().connections_now, 1);
    let mut second = rig.client().await;
    second.send_get("/nowhere").await;
    assert!(tokio::time::timeout(Duration::from_millis(50), second.fill()).await.is_err());
    assert_eq!((rig.plane.counters().connections_now, rig.plane.counters().connections), (1, 1));
    drop(client);
    assert_eq!(second.reply().await.status, 404);
    drop(second);
    until("closed", || rig.plane.counters().connections_now == 0).await;
}

#[tokio::test]
async fn an_upgrade_that_is_not_granted_leaves_the_connection_usable() {
    let rig = Rig::new();
    rig.publish(named("plain").await);
    let mut client = rig.client().await;
    client.send(HANDSHAKE).await;
    client.send_get("/devshard/v1/next").await;
    assert_eq!(client.reply().await.text(), "plain");
    assert_eq!(client.reply().await.text(), "plain");
    assert_eq!(client.get("/devshard/v1/x").await.text(), "plain");
    assert_eq!(rig.plane.counters().connections, 1);
}
