//! Cuts at a deadline: typed before the response has begun, visibly broken after.

use std::time::Duration;

use supervisor_protocol::StreamClass;
use tokio::io::AsyncReadExt;

use crate::common::*;
use crate::swap::HANDSHAKE;

/// Never answers `/mute`, never ends `/stream` and `/bulk`, switches protocols on `/ws`.
async fn endless() -> std::net::SocketAddr {
    origin(|mut peer| async move {
        let seen = peer.request().await.unwrap();
        let head = match seen.line.split(' ').nth(1).unwrap() {
            "/stream" => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent",
            "/bulk" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nevent",
            "/ws" => "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nevent",
            _ => "",
        };
        peer.send(head).await.unwrap();
        peer.closed().await;
    })
    .await
}

#[tokio::test]
async fn a_cut_before_the_response_is_a_typed_504() {
    let rig = Rig::new();
    let target = rig.publish(endless().await);
    let mut client = rig.client().await;
    client.send_get("/devshard/v1/mute").await;
    until("admitted", || target.load().inflight == 1).await;
    target.cut(StreamClass::Stream);
    assert_eq!(target.load().inflight, 1);
    target.cut(StreamClass::Request);
    assert_eq!((target.load().inflight, target.load().ended.cut.request), (0, 1));
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code().as_str()), (504, "deadline_cut"));
    assert_eq!(reply.header("versiond-not-admitted"), None);
    rig.publish(named("new").await);
    assert_eq!(client.get("/devshard/v1/x").await.text(), "new");
}

#[tokio::test]
async fn a_cut_after_the_response_has_begun_is_a_broken_transfer() {
    let rig = Rig::new();
    let target = rig.publish(endless().await);
    for (path, class, version) in [
        ("stream", StreamClass::Stream, "1.1"),
        ("stream", StreamClass::Stream, "1.0"),
        ("bulk", StreamClass::Request, "1.1"),
    ] {
        let mut client = rig.client().await;
        client.send(format!("GET /devshard/v1/{path} HTTP/{version}\r\nHost: a\r\n\r\n")).await;
        soon(client.head()).await.unwrap();
        while find(&client.buffer, b"event").is_none() {
            soon(client.fill()).await.unwrap();
        }
        assert_eq!(*target.load().by_class.get(class), 1);
        target.cut(class);
        assert_eq!(target.load().inflight, 0);
        let mut rest = Vec::new();
        let end = soon(client.stream.read_to_end(&mut rest)).await;
        assert!(find(&rest, b"0\r\n\r\n").is_none(), "{path}");
        assert!(version == "1.1" || end.is_err(), "a clean end");
    }
    let load = target.load();
    assert_eq!((load.ended.cut.stream, load.ended.cut.request, load.ended.total()), (2, 1, 3));
}

// F71: an idle WebSocket does not outlive its class deadline.
#[tokio::test]
async fn f71_a_cut_ends_an_idle_websocket_and_nothing_else() {
    let rig = Rig::new();
    let target = rig.publish(endless().await);
    let (mut socket, mut stream) = (rig.client().await, rig.client().await);
    socket.send(HANDSHAKE).await;
    stream.send_get("/devshard/v1/stream").await;
    assert_eq!(soon(socket.head()).await.unwrap().status, 101);
    soon(stream.head()).await.unwrap();
    until("both live", || target.load().by_class.upgrade == 1 && target.load().by_class.stream == 1).await;
    target.retire();
    target.cut(StreamClass::Upgrade);
    let mut rest = Vec::new();
    assert!(soon(socket.stream.read_to_end(&mut rest)).await.is_err(), "a clean end");
    assert!(tokio::time::timeout(Duration::from_millis(20), target.idle()).await.is_err());
    drop(stream);
    soon(target.idle()).await;
}

/// A reader that has stalled cannot hold up a cut.
#[tokio::test]
async fn a_cut_does_not_wait_for_a_stalled_reader() {
    let (gone, mut seen_gone) = tokio::sync::mpsc::channel::<()>(1);
    let fire_hose = origin(move |mut peer| {
        let gone = gone.clone();
        async move {
            peer.request().await.unwrap();
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await.unwrap();
            while peer.send([b'x'; 64 * 1024]).await.is_ok() {}
            gone.send(()).await.unwrap();
        }
    })
    .await;
    let rig = Rig::new();
    let target = rig.publish(fire_hose);
    let mut client = rig.client().await;
    client.send_get("/devshard/v1/x").await;
    until("streaming", || target.load().by_class.stream == 1).await;
    target.retire();
    target.cut(StreamClass::Stream);
    soon(target.idle()).await;
    soon(seen_gone.recv()).await.unwrap();
    until("closed", || rig.plane.counters().connections_now == 0).await;
    drop(client);
}
