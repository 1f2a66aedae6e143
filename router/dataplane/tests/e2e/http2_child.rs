//! Children that speak HTTP/2: gRPC through and through, shared connections, and what they may refuse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use router_dataplane::{Dial, HttpVersion, Target, Upstream, UpstreamTls};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::common::*;
use crate::http2::{Http2, whole};

/// An origin that runs `behave` on every connection, each numbered.
async fn origin2<F, R>(behave: F) -> SocketAddr
where
    F: Fn(u64, Connection<TcpStream, Bytes>) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            let Ok(connection) = h2::server::handshake(stream).await else { continue };
            tokio::spawn(behave(number, connection));
        }
    });
    address
}

/// Answers every request by itself.
async fn each<F, R>(mut connection: Connection<TcpStream, Bytes>, answer: F)
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond));
    }
}

fn dial(address: SocketAddr) -> Dial {
    Dial { version: HttpVersion::Http2, ..Upstream::Tcp(address).into() }
}

fn publish(rig: &Rig, dial: Dial) -> Arc<Target> {
    let target = rig.target(dial);
    if let Some(old) = rig.slot.publish(target.clone()) {
        old.retire();
    }
    target
}

/// Gives back the body that it got, in a stream with trailers, as a gRPC service does.
async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let told = format!("{} {} {}", request.method(), request.uri(), request.headers().len());
    let te = request.headers().get("te").cloned().unwrap_or(HeaderValue::from_static("none"));
    let response =
        Response::builder().header("content-type", "application/grpc").header("told", told).header("te-was", te);
    let mut sender = respond.send_response(response.body(()).unwrap(), false).unwrap();
    let mut body = request.into_body();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        sender.send_data(data, false).unwrap();
    }
    let mut trailers = body.trailers().await.unwrap().unwrap_or_default();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    sender.send_trailers(trailers).unwrap();
}

#[tokio::test]
async fn grpc_goes_through_with_its_trailers_both_ways_at_once() {
    let rig = Rig::new();
    let target = publish(&rig, dial(origin2(|_, connection| each(connection, echo)).await));
    let client = Http2::connect(rig.address).await;
    let mut ready = client.sender.clone().ready().await.unwrap();
    let request = Request::post("http://a.example/devshard/v1/pkg.Service/Method")
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (response, mut sender) = ready.send_request(request, false).unwrap();
    let response = soon(response).await.unwrap();
    assert_eq!(response.headers()["te-was"], "trailers");
    assert!(response.headers()["told"].to_str().unwrap().starts_with("POST http://a.example/pkg.Service/Method "));
    let mut body = response.into_body();
    for message in ["one", "two", "three"] {
        sender.send_data(Bytes::from(message), false).unwrap();
        assert_eq!(soon(body.data()).await.unwrap().unwrap(), message);
        body.flow_control().release_capacity(message.len()).unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("last", HeaderValue::from_static("word"));
    sender.send_trailers(trailers).unwrap();
    while let Some(data) = soon(body.data()).await {
        assert!(data.unwrap().is_empty());
    }
    let trailers = soon(body.trailers()).await.unwrap().unwrap();
    assert_eq!((&trailers["grpc-status"], &trailers["last"]), (&"0".parse().unwrap(), &"word".parse().unwrap()));
    until("finished", || target.load().ended.finished.total() == 1).await;
}

#[tokio::test]
async fn a_client_of_http_1_reaches_such_a_child_too() {
    let rig = Rig::new();
    publish(&rig, dial(origin2(|_, connection| each(connection, echo)).await));
    let mut client = rig.client().await;
    for body in ["", "hello", &"x".repeat(300_000)] {
        let reply = client.post("/devshard/v1/x?y", body).await;
        assert_eq!((reply.status, reply.complete, reply.text() == body), (200, true, true));
        assert!(reply.header("told").unwrap().starts_with("POST http://a/x?y "), "{reply:?}");
    }
    client
        .send("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.text(), "ab");
    // It cannot become another protocol there: the child answers as it would without the wish.
    client.send("GET /devshard/v1/x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 200);
    assert_eq!(rig.plane.counters().upstream_connections, 1);
}

// F39: streams share a connection, and beyond what it may carry another one is made, which is counted.
#[tokio::test]
async fn f39_streams_share_connections_up_to_what_the_child_allows() {
    let rig = Rig::with(|config| config.workers = 1);
    let (go, seen) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
    let (released, count) = (go.clone(), seen.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut builder = h2::server::Builder::new();
            let connection = builder.max_concurrent_streams(3).handshake(stream).await.unwrap();
            let (go, count) = (released.clone(), count.clone());
            tokio::spawn(each(connection, move |_, mut respond| {
                let go = go.clone();
                count.fetch_add(1, Ordering::Relaxed);
                async move {
                    go.notified().await;
                    respond.send_response(Response::new(()), true).unwrap();
                }
            }));
        }
    });
    let target = publish(&rig, dial(address));
    assert_eq!(first(&rig, &go).await.status, 200);
    let mut waiting = Vec::new();
    for nth in 0..7 {
        let mut client = rig.client().await;
        client.send_get("/devshard/v1/x").await;
        waiting.push(client);
        // The child's settings come before it has seen anything.
        until("seen", || seen.load(Ordering::Relaxed) == nth + 2).await;
    }
    assert_eq!((target.load().inflight, rig.plane.counters().upstream_connections), (7, 3));
    let mut answered = 0;
    for mut client in waiting {
        go.notify_waiters();
        let reply = tokio::spawn(async move { client.reply().await.status });
        while !reply.is_finished() {
            go.notify_waiters();
            tokio::task::yield_now().await;
        }
        answered += u32::from(reply.await.unwrap() == 200);
    }
    assert_eq!((answered, rig.plane.counters().upstream_connections), (7, 3));
}

/// A request alone, so that the child's settings are known.
async fn first(rig: &Rig, go: &Notify) -> Reply {
    let mut client = rig.client().await;
    client.send_get("/devshard/v1/x").await;
    let reply = tokio::spawn(async move { client.reply().await });
    while !reply.is_finished() {
        go.notify_waiters();
        tokio::task::yield_now().await;
    }
    reply.await.unwrap()
}

// F52: what a child promises not to have looked at is sent again, whatever the method; nothing else is.
#[tokio::test]
async fn f52_only_what_was_refused_unseen_is_sent_again() {
    let rig = Rig::new();
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let behave = move |_, connection| {
        let counted = counted.clone();
        each(connection, move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let nth = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                match request.uri().path() {
                    "/refused" if nth.is_multiple_of(2) => respond.send_reset(Reason::REFUSED_STREAM),
                    "/broken" => respond.send_reset(Reason::INTERNAL_ERROR),
                    _ => drop(respond.send_response(Response::new(()), true).unwrap()),
                }
            }
        })
    };
    publish(&rig, dial(origin2(behave).await));
    let mut client = rig.client().await;
    assert_eq!(client.post("/devshard/v1/refused", "x").await.status, 200);
    assert_eq!(count.load(Ordering::Relaxed), 2);
    let reply = client.post("/devshard/v1/broken", "x").await;
    assert_eq!((reply.status, reply.code().as_str()), (502, "child_broke"));
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

// F57: a child that goes finishes what it has and loses nothing of what comes after.
#[tokio::test]
async fn f57_a_goaway_of_a_child_costs_no_post() {
    let rig = Rig::with(|config| config.workers = 1);
    let behave = |_, mut connection: Connection<TcpStream, Bytes>| async move {
        // Three requests each, the last of them after the word that it goes.
        for nth in 0..3 {
            let Some(Ok((_, mut respond))) = connection.accept().await else { return };
            if nth == 1 {
                connection.graceful_shutdown();
            }
            respond.send_response(Response::new(()), true).unwrap();
        }
        while connection.accept().await.is_some() {}
    };
    publish(&rig, dial(origin2(behave).await));
    let mut client = rig.client().await;
    for _ in 0..50 {
        assert_eq!(client.post("/devshard/v1/x", "x").await.status, 200);
    }
    let made = rig.plane.counters().upstream_connections;
    assert!((10..=50).contains(&made), "{made}");
}

// F53, F55: ends of streams are told across, and a shared connection outlives them.
#[tokio::test]
async fn f53_f55_an_end_on_either_side_is_told_to_the_other() {
    let rig = Rig::with(|config| config.workers = 1);
    let (resets, breaks) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let (seen, now) = (resets.clone(), breaks.clone());
    let behave = move |_, connection| {
        let (seen, now) = (seen.clone(), now.clone());
        each(connection, move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let (seen, now) = (seen.clone(), now.clone());
            async move {
                let response = Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
                let mut sender = respond.send_response(response, false).unwrap();
                sender.send_data(Bytes::from_static(b"event"), false).unwrap();
                if request.uri().path() == "/breaks" {
                    now.notified().await;
                    return sender.send_reset(Reason::INTERNAL_ERROR);
                }
                let reset = std::future::poll_fn(|cx| sender.poll_reset(cx)).await;
                assert_eq!(reset.unwrap(), Reason::CANCEL);
                seen.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let target = publish(&rig, dial(origin2(behave).await));
    let mut broken = rig.client().await;
    broken.send_get("/devshard/v1/breaks").await;
    assert_eq!(soon(broken.head()).await.unwrap().status, 200);
    assert_eq!(soon(broken.chunk()).await.unwrap(), b"event");
    breaks.notify_one();
    assert_eq!(soon(broken.chunk()).await, None);
    let mut left = rig.client().await;
    left.send_get("/devshard/v1/left").await;
    assert_eq!(soon(left.head()).await.unwrap().status, 200);
    drop(left);
    until("the child is told", || resets.load(Ordering::Relaxed) == 1).await;
    until("both have ended", || target.load().ended.total() == 2).await;
    let ended = target.load().ended;
    assert_eq!((ended.upstream_broke.stream, ended.client_gone.stream), (1, 1));
    assert_eq!(rig.plane.counters().upstream_connections, 1);
}

// F39: a child that is gone without a word does not hold its streams for ever.
#[tokio::test]
async fn f39_a_silent_child_is_given_up_with_its_streams() {
    let rig = Rig::with(|config| config.ping = Duration::from_millis(100));
    let behave = |_, mut connection: Connection<TcpStream, Bytes>| async move {
        let (_, respond) = connection.accept().await.unwrap().unwrap();
        // Neither answered nor driven any more.
        std::future::pending::<()>().await;
        drop((connection, respond));
    };
    publish(&rig, dial(origin2(behave).await));
    let reply = rig.client().await.post("/devshard/v1/x", "x").await;
    assert_eq!((reply.status, reply.code().as_str()), (502, "child_broke"));
}

#[tokio::test]
async fn a_retired_target_keeps_no_shared_connection_that_nobody_uses() {
    let rig = Rig::new();
    let ended = Arc::new(Notify::new());
    let end = ended.clone();
    let behave = move |_, connection| {
        let (end, served) = (end.clone(), each(connection, echo));
        async move {
            served.await;
            end.notify_one();
        }
    };
    let target = publish(&rig, dial(origin2(behave).await));
    assert_eq!(whole(Http2::connect(rig.address).await.get("/devshard/v1/x").await).await.unwrap().0, "");
    until("idle", || target.load().inflight == 0).await;
    target.retire();
    soon(ended.notified()).await;
}

#[tokio::test]
async fn a_child_behind_tls_must_be_who_it_is_expected_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["child.example".to_owned()]).unwrap();
    let (ca, key) = (folder.path().join("ca.pem"), folder.path().join("key.pem"));
    std::fs::write(&ca, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    // A plane is the child: it speaks both versions.
    let tls = Some(router_dataplane::TlsIdentity::read(&ca, &key).unwrap());
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let behind = Rig::listening(|_| {}, vec![router_dataplane::Listener { socket, tls }]);
    behind.publish(named("behind").await);

    let rig = Rig::new();
    for version in [HttpVersion::Http1, HttpVersion::Http2] {
        let tls = UpstreamTls::read(&ca, "child.example").unwrap();
        publish(&rig, Dial { to: Upstream::Tcp(address), version, tls: Some(tls) });
        let mut client = rig.client().await;
        for _ in 0..3 {
            let reply = client.post("/devshard/v1/devshard/v1/x", "x").await;
            assert_eq!((reply.status, reply.text().as_str()), (200, "behind"), "{version:?}");
        }
    }
    assert_eq!(behind.plane.counters().connections, 2);
    let other = UpstreamTls::read(&ca, "other.example").unwrap();
    publish(&rig, Dial { to: Upstream::Tcp(address), version: HttpVersion::Http1, tls: Some(other) });
    let reply = rig.get("/devshard/v1/x").await;
    assert_eq!((reply.status, reply.code().as_str()), (502, "child_unreachable"));
    UpstreamTls::read(&key, "child.example").unwrap_err();
}
