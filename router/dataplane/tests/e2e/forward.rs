//! Requests pass through whole, and what the host keeps for itself does not.

use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use router_dataplane::{BoxFuture, LocalEndpoints, LocalRequest, PeerRanges, Upstream};
use supervisor_protocol::Refusal;

/// Answers with what it has read: the request line, one header per line, and the body.
async fn echo() -> std::net::SocketAddr {
    origin(|mut peer| async move {
        while let Some(seen) = peer.request().await {
            let mut text = format!("{}\n", seen.line);
            for (name, value) in &seen.headers {
                text.push_str(&format!("{name}: {value}\n"));
            }
            text.push_str(&String::from_utf8_lossy(&seen.body));
            let head = format!("HTTP/1.1 200 OK\r\nX-Body: {}\r\nContent-Length: {}\r\n", seen.body.len(), text.len());
            let text = if seen.line.starts_with("HEAD ") { String::new() } else { text };
            if peer.send(format!("{head}\r\n{text}")).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_prefix_is_stripped_and_the_path_is_untouched() {
    let rig = Rig::new();
    rig.publish(echo().await);
    let mut client = rig.client().await;
    for (asked, seen) in [
        ("/devshard/v1/chat?a=%2F..&b", "GET /chat?a=%2F..&b HTTP/1.1"),
        ("/devshard/v1", "GET / HTTP/1.1"),
        ("/devshard/v1?x", "GET /?x HTTP/1.1"),
        ("/devshard/v1/a%20b//c/", "GET /a%20b//c/ HTTP/1.1"),
    ] {
        let reply = client.get(asked).await;
        assert_eq!(reply.status, 200, "{asked}");
        assert_eq!(reply.text().lines().next(), Some(seen));
    }
    assert_eq!(client.get("/devshard/v2/chat").await.code(), "not_found");
    assert_eq!(client.get("/devshard/v1/chat").await.status, 200);
    assert_eq!(rig.plane.counters().connections, 1);
    assert_eq!(rig.plane.counters().upstream_connections, 1);
    assert_eq!(rig.plane.counters().refused[&Refusal::NotFound], 1);
}

#[tokio::test]
async fn headers_of_the_connection_end_here_and_those_of_the_way_are_added() {
    let rig = Rig::with(|config| config.trusted = PeerRanges::none());
    rig.publish(echo().await);
    let mut client = rig.client().await;
    client
        .send(
            "GET /devshard/v1/x HTTP/1.1\r\nHost: a:1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n\
             X-Forwarded-For: 9.9.9.9\r\nVersiond-Last-Resort: 1\r\n\r\n",
        )
        .await;
    let reply = client.reply().await;
    let text = reply.text();
    for line in ["host: a:1", "x-end: 2", "x-forwarded-for: 127.0.0.1", "x-forwarded-host: a:1", "x-real-ip: 127.0.0.1"]
    {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    assert!(!text.contains("x-hop") && !text.contains("versiond-") && !text.contains("9.9.9.9"), "{text}");
    assert_eq!(reply.header("versiond-host"), None);
}

#[tokio::test]
async fn a_trusted_peer_learns_which_host_answers() {
    let rig = Rig::new();
    rig.publish(echo().await);
    assert_eq!(rig.get("/devshard/v1/x").await.header("versiond-host"), Some("host-1; boot=boot1"));
    assert_eq!(rig.get("/nowhere").await.header("versiond-host"), Some("host-1; boot=boot1"));
}

#[tokio::test]
async fn bodies_pass_in_both_framings_and_pipelined_requests_keep_their_order() {
    let rig = Rig::new();
    rig.publish(echo().await);
    let mut client = rig.client().await;
    assert!(client.post("/devshard/v1/x", "hello").await.text().ends_with("hello"));
    client
        .send(
            "POST /devshard/v1/one HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n\
             GET /devshard/v1/two HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /devshard/v1/three HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy",
        )
        .await;
    assert!(client.reply().await.text().ends_with("abcde"));
    assert!(client.reply().await.text().starts_with("GET /two"));
    assert!(client.reply().await.text().ends_with("xy"));
    // Where a method promises nothing about a body, its framing must say that there is one.
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let mut client = rig.client().await;
        client
            .send(format!(
                "{method} /devshard/v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            ))
            .await;
        if method != "HEAD" {
            assert!(client.reply().await.text().ends_with("abc"), "{method}");
        } else {
            assert_eq!(soon(client.head()).await.unwrap().header("x-body"), Some("3"));
        }
    }
    let large = "0123456789".repeat(100_000);
    assert!(client.post("/devshard/v1/large", &large).await.text().ends_with(&large));
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_when_the_body_is_wanted() {
    let rig = Rig::new();
    rig.publish(echo().await);
    let mut client = rig.client().await;
    let head = "Host: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    client.send(format!("POST /devshard/v1/x HTTP/1.1\r\n{head}")).await;
    assert_eq!(soon(client.head()).await.unwrap().status, 100);
    client.send("abc").await;
    assert!(client.reply().await.text().ends_with("abc"));

    let mut client = rig.client().await;
    client.send(format!("POST /nowhere HTTP/1.1\r\n{head}")).await;
    assert_eq!(soon(client.head()).await.unwrap().status, 404);
}

#[tokio::test]
async fn a_child_behind_a_unix_socket_is_reached() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("child.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while find(&request, b"\r\n\r\n").is_none() {
            stream.read_buf(&mut request).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix").await.unwrap();
    });
    rig.slot.publish(rig.target(Upstream::Unix(path)));
    assert_eq!(rig.get("/devshard/v1/x").await.text(), "unix");
}

struct Own;

impl LocalEndpoints for Own {
    fn answer(&self, request: LocalRequest) -> BoxFuture<'static, Option<Response<Full<Bytes>>>> {
        Box::pin(async move {
            match request.path.as_str() {
                "/healthz" => Some(Response::new(Full::from(format!("{} {:?}", request.method, request.query)))),
                "/readyz" => std::future::pending().await,
                _ => None,
            }
        })
    }
}

#[tokio::test]
async fn f43_the_hosts_own_paths_are_never_forwarded() {
    let rig = Rig::full(|_| {}, Arc::new(Own));
    rig.publish(echo().await);
    assert_eq!(rig.get("/healthz?a=1").await.text(), "GET Some(\"a=1\")");
    let mut client = rig.client().await;
    let paths = [
        "/drain",
        "/drain/status",
        "/devshard/v1/drain",
        "/devshard/v1//drain",
        "/devshard/v1/drain/status",
        "/%64rain",
        "/devshard/v1/%64rain",
        "/devshard/v1/%44%52%61%69%6e/status",
        "/devshard/v1//dr%61in",
    ];
    for path in paths {
        assert_eq!(client.post(path, "").await.status, 404, "{path}");
    }
    assert_eq!(client.get("/devshard/v1/drains").await.status, 200);
    assert_eq!(rig.plane.counters().answered, 1);

    // The future of a long poll ends with its client.
    let mut waiting = rig.client().await;
    waiting.send_get("/readyz").await;
    until("asked", || rig.plane.counters().requests == paths.len() as u64 + 3).await;
    drop(waiting);
    until("gone", || rig.plane.counters().connections_now == 1).await;
}

#[tokio::test]
async fn announcing_closes_connections_with_their_answers_and_leaves_idle_ones_open() {
    let rig = Rig::new();
    rig.publish(named("a").await);
    let mut idle = rig.client().await;
    assert_eq!(idle.get("/devshard/v1/x").await.header("connection"), None);
    rig.plane.announce(true);
    let reply = idle.get("/devshard/v1/x").await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert!(soon(idle.fill()).await.is_none());
    rig.plane.announce(false);
    assert_eq!(rig.get("/devshard/v1/x").await.header("connection"), None);
}

#[tokio::test]
async fn closed_admission_refuses_with_the_word_that_any_host_may_take_it() {
    let rig = Rig::full(|_| {}, Arc::new(Own));
    let mut held = rig.client().await;
    held.send_get("/devshard/v1/x").await;
    until("held", || rig.plane.counters().held_now == 1).await;
    rig.plane.close_admission(Refusal::HostStopping);
    assert_eq!(held.reply().await.code(), "host_stopping");
    rig.publish(named("a").await);
    let reply = rig.get("/devshard/v1/x").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "host_stopping"));
    assert_eq!(reply.header("versiond-not-admitted"), Some("host_stopping; nonce=boot1"));
    assert_eq!(rig.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_shutdown_lets_admitted_requests_finish_and_aborts_the_rest_at_its_deadline() {
    let release = Arc::new(tokio::sync::Notify::new());
    let slow = {
        let release = release.clone();
        origin(move |mut peer| {
            let release = release.clone();
            async move {
                let seen = peer.request().await.unwrap();
                if seen.line.contains("finite") {
                    release.notified().await;
                    let _ = peer.answer("done").await;
                }
                std::future::pending::<()>().await;
            }
        })
        .await
    };
    let rig = Rig::new();
    let target = rig.publish(slow);
    let (mut finite, mut endless, mut idle) = (rig.client().await, rig.client().await, rig.client().await);
    finite.send_get("/devshard/v1/finite").await;
    endless.send_get("/devshard/v1/endless").await;
    until("both admitted", || target.load().inflight == 2).await;
    let Rig { plane, address, .. } = rig;
    let shutdown = tokio::spawn(async move { plane.shutdown(Duration::from_secs(1)).await });
    assert!(soon(idle.fill()).await.is_none());
    release.notify_one();
    assert_eq!(finite.reply().await.text(), "done");
    assert_eq!(endless.reply().await.status, 0);
    soon(shutdown).await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    assert_eq!(target.load().inflight, 0);
}

/// F69: a client that has connected and not asked yet does not lose its request to a stop, and one that the kernel alone
/// has let in does not either.
#[tokio::test]
async fn f69_whoever_has_connected_before_the_stop_is_answered_after_it() {
    let rig = Rig::with(|config| config.first_request = Duration::from_secs(20));
    rig.publish(echo().await);
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(rig.client().await);
    }
    let Rig { plane, address, .. } = rig;
    let shutdown = tokio::spawn(async move { plane.shutdown(Duration::from_secs(20)).await });
    soon(async { while tokio::net::TcpStream::connect(address).await.is_ok() {} }).await;
    for client in &mut clients {
        let reply = client.get("/devshard/v1/x").await;
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    }
    soon(shutdown).await.unwrap();
}
