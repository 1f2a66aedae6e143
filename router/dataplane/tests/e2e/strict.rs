//! The grammar at the door, seen from a raw socket: what is refused never reaches a child.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Uri;

use crate::common::*;

async fn counting(count: Arc<AtomicU64>) -> std::net::SocketAddr {
    origin(move |mut peer| {
        let count = count.clone();
        async move {
            while peer.request().await.is_some() {
                count.fetch_add(1, Ordering::Relaxed);
                if peer.answer("ok").await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

// F54: one smuggled request would be counted by the child.
#[tokio::test]
async fn f54_ambiguous_heads_are_refused_and_reach_no_child() {
    let rig = Rig::new();
    let count = Arc::new(AtomicU64::new(0));
    rig.publish(counting(count.clone()).await);
    let path = "/devshard/v1/x";
    let smuggled = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let post = |headers: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n0\r\n\r\n{smuggled}");
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n{smuggled}");
    let table = [
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n"), 400),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n"), 400),
        (post("Content-Length: +5\r\n"), 400),
        (post("Content-Length: 5,5\r\n"), 400),
        (post("Transfer-Encoding: xchunked\r\n"), 400),
        (post("Transfer-Encoding: chunked, identity\r\n"), 400),
        (post("Transfer-Encoding : chunked\r\n"), 400),
        (post("Transfer-Encoding:\r\n chunked\r\n"), 400),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n"), 400),
        (post("X: a\nTransfer-Encoding: chunked\r\n"), 400),
        (post("X: a\rTransfer-Encoding: chunked\r\n"), 400),
        (post("X: a\0\r\n"), 400),
        (post("Host: b\r\n"), 400),
        (format!("GET {path} HTTP/1.1\r\n\r\n{smuggled}"), 400),
        (format!("GET {path} HTTP/1.1\nHost: a\n\n{smuggled}"), 400),
        (format!("POST {path} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"), 400),
        (get("http://other/devshard/v1/x"), 400),
        (get("/devshard/v1/../v2/x"), 400),
        (get("/devshard/v1/%2e%2e/x"), 400),
        (get("/devshard/v1%2fx"), 400),
        (get("/devshard/v1/a%5cb"), 400),
        (get("/devshard/v1/a%00"), 400),
        (get("/devshard/v1/x#f"), 400),
        (get("devshard/v1/x"), 400),
        (get("*"), 400),
        (format!("GET {path} HTTP/3.0\r\nHost: a\r\n\r\n{smuggled}"), 501),
        (format!("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n{smuggled}"), 501),
        (format!("PRI * HTTP/2.0\r\n\r\nXM\r\n\r\n{smuggled}"), 501),
        (format!("GET {path} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n{smuggled}", "a".repeat(70_000)), 431),
        (format!("GET {path} HTTP/1.1\r\nHost: a\r\n{}\r\n{smuggled}", "X: a\r\n".repeat(101)), 431),
    ];
    for (number, (text, status)) in table.iter().enumerate() {
        let shown = &text[..text.len().min(120)];
        // Alone on a connection, and behind a good request in one write: the good one is answered first.
        for good in [0, 1] {
            let mut client = rig.client().await;
            client.send(format!("{}{text}", smuggled.repeat(good))).await;
            for _ in 0..good {
                assert_eq!(client.reply().await.status, 200, "{shown:?}");
            }
            let reply = client.reply().await;
            assert_eq!(reply.status, *status, "{shown:?}");
            assert_eq!(reply.header("connection"), Some("close"), "{shown:?}");
            assert!(soon(client.fill()).await.is_none(), "{shown:?}");
        }
        assert_eq!(count.load(Ordering::Relaxed), number as u64 + 1, "{shown:?}");
    }
}

#[tokio::test]
async fn f54_a_chunked_body_that_breaks_the_grammar_is_refused_midway() {
    let rig = Rig::new();
    let target = rig.publish(named("ok").await);
    for broken in ["x\r\n", "1\r\nabc", "1;\n", "1\r\na\n0\r\n\r\n", "0\r\nContent-Length: 1\r\n\r\n"] {
        let mut client = rig.client().await;
        client.send("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n").await;
        client.send(broken).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "bad_head"), "{broken:?}");
        assert!(soon(client.fill()).await.is_none());
    }
    until("ended", || target.load().inflight == 0).await;
    assert_eq!(target.load().ended.finished.total(), 0);
}

// F54: a head that comes byte by byte.
#[tokio::test]
async fn f54_a_slow_head_times_out_and_an_idle_connection_is_closed_without_a_word() {
    let rig = Rig::with(|config| {
        config.limits.head_timeout = Duration::from_millis(100);
        config.limits.keep_alive = Duration::from_millis(300);
    });
    rig.publish(named("ok").await);
    let mut slow = rig.client().await;
    slow.send("GET /devshard/v1/x HT").await;
    let reply = slow.reply().await;
    assert_eq!((reply.status, reply.code().as_str()), (408, "head_timeout"));
    let mut idle = rig.client().await;
    assert_eq!(idle.get("/devshard/v1/x").await.status, 200);
    assert!(soon(idle.fill()).await.is_none());
    assert_eq!(idle.buffer, b"");
    until("closed", || rig.plane.counters().connections_now == 0).await;
}

#[tokio::test]
async fn heads_that_come_in_pieces_are_served() {
    let rig = Rig::new();
    rig.publish(named("ok").await);
    let mut client = rig.client().await;
    for byte in b"POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.reply().await.text(), "ok");
    assert_eq!(client.get("/devshard/v1/x").await.text(), "ok");
}

/// hyper must accept every target that the strict grammar passes, or its answer would be untyped.
#[test]
fn the_strict_grammar_is_no_looser_than_what_stands_behind_it() {
    use router_core::head::{HeadScanner, Step};
    for byte in 0x21u8..0x7f {
        for target in [format!("/a{}b", char::from(byte)), format!("/a?b{}c", char::from(byte))] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            if let Step::Head(_) = HeadScanner::new().feed(text.as_bytes()).step {
                assert!(target.parse::<Uri>().is_ok(), "{target}");
            }
        }
    }
}
