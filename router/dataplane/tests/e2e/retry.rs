//! What is tried again, what never is, and what a client sees when a child breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use router_dataplane::PeerRanges;
use tokio::sync::{Notify, mpsc};

use crate::common::*;

/// Refuses every request before admission, in the name of `nonce`, and counts them.
async fn refusing(nonce: &'static str, count: Arc<AtomicU64>) -> std::net::SocketAddr {
    origin(move |mut peer| {
        let count = count.clone();
        async move {
            while peer.request().await.is_some() {
                count.fetch_add(1, Ordering::Relaxed);
                let head = format!("HTTP/1.1 503 No\r\nVersiond-Not-Admitted: draining; nonce={nonce}\r\n");
                peer.send(format!("{head}Content-Length: 4\r\n\r\nbusy")).await.unwrap();
            }
        }
    })
    .await
}

// F63: what no child has begun is taken by the next one, whatever the method, with its body.
#[tokio::test]
async fn f63_a_refusal_before_admission_is_tried_on_the_next_generation() {
    let rig = Rig::with(|config| config.not_admitted_wait = PATIENCE);
    let refused = Arc::new(AtomicU64::new(0));
    rig.publish(refusing("nonce1", refused.clone()).await);
    let body = "x".repeat(60_000);
    let mut client = rig.client().await;
    let request = format!("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.send(request).await;
    until("refused", || refused.load(Ordering::Relaxed) == 1).await;
    let (sender, mut seen) = mpsc::unbounded_channel();
    let next = origin(move |mut peer| {
        let sender = sender.clone();
        async move {
            let request = peer.request().await.unwrap();
            sender.send(request.body).unwrap();
            peer.answer("taken").await.unwrap();
        }
    })
    .await;
    rig.publish(next);
    assert_eq!(client.reply().await.text(), "taken");
    assert_eq!(soon(seen.recv()).await.unwrap(), body.as_bytes());
    assert_eq!((refused.load(Ordering::Relaxed), rig.plane.counters().retries), (1, 1));
}

/// F63: the second attempt may still have most of the kept body to send when its answer begins.
#[tokio::test]
async fn f63_a_child_that_answers_before_it_has_read_still_gets_the_whole_body() {
    const CHUNK: usize = 64 * 1024;
    // More than the kernel's buffers on the way take.
    const CHUNKS: usize = 256;
    let rig = Rig::with(|config| {
        config.not_admitted_wait = PATIENCE;
        config.replay_buffer = 2 * CHUNK * CHUNKS;
    });
    let refused = Arc::new(AtomicU64::new(0));
    rig.publish(refusing("nonce1", refused.clone()).await);
    let mut client = rig.client().await;
    client.send("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for n in 0..CHUNKS {
        let letter = b'a' + u8::try_from(n % 26).unwrap();
        client.send(format!("{CHUNK:x}\r\n")).await;
        client.send([letter; CHUNK]).await;
        client.send("\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    until("refused", || refused.load(Ordering::Relaxed) == 1).await;

    let read = Arc::new(Notify::new());
    let (sender, mut seen) = mpsc::unbounded_channel();
    let next = {
        let read = read.clone();
        origin(move |mut peer| {
            let (sender, read) = (sender.clone(), read.clone());
            async move {
                let head = peer.head().await.unwrap();
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await.unwrap();
                read.notified().await;
                sender.send(peer.body(head).await.map(|seen| seen.body)).unwrap();
                peer.send("ok").await.unwrap();
            }
        })
        .await
    };
    rig.publish(next);
    assert_eq!(soon(client.head()).await.unwrap().status, 200);
    read.notify_one();
    let body = soon(seen.recv()).await.unwrap().expect("a whole body");
    let expected: Vec<u8> = (0..CHUNKS).flat_map(|n| [b'a' + u8::try_from(n % 26).unwrap(); CHUNK]).collect();
    assert_eq!(body.len(), expected.len());
    assert!(body == expected);
    assert_eq!(client.read_exactly(2).await, b"ok");
}

#[tokio::test]
async fn f63_without_another_generation_the_refusal_goes_on_in_our_own_name() {
    let rig = Rig::new();
    let refused = Arc::new(AtomicU64::new(0));
    rig.publish(refusing("nonce1", refused.clone()).await);
    let reply = rig.client().await.post("/devshard/v1/x", "x").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "child_draining"));
    assert_eq!(reply.header("versiond-not-admitted"), Some("child_draining; nonce=boot1"));
    assert_eq!(refused.load(Ordering::Relaxed), 1);

    let distant = Rig::with(|config| config.trusted = PeerRanges::none());
    distant.publish(refusing("nonce1", refused).await);
    let reply = distant.get("/devshard/v1/x").await;
    assert_eq!((reply.status, reply.header("versiond-not-admitted")), (503, None));
}

// F52: a plain 503, or one in the name of another nonce, is an answer.
#[tokio::test]
async fn f52_a_503_that_is_an_answer_is_passed_on_and_not_repeated() {
    let rig = Rig::new();
    let count = Arc::new(AtomicU64::new(0));
    rig.publish(refusing("forged", count.clone()).await);
    let reply = rig.get("/devshard/v1/x").await;
    assert_eq!((reply.status, reply.text().as_str()), (503, "busy"));
    assert_eq!(reply.header("versiond-not-admitted"), None);
    assert_eq!((count.load(Ordering::Relaxed), rig.plane.counters().retries), (1, 0));
}

/// Reads a request, and resets the connection `times` times before it answers.
async fn breaking(times: u64, count: Arc<AtomicU64>) -> std::net::SocketAddr {
    origin(move |mut peer| {
        let count = count.clone();
        async move {
            while peer.request().await.is_some() {
                if count.fetch_add(1, Ordering::Relaxed) < times {
                    peer.reset();
                    return;
                }
                peer.answer("at last").await.unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn f52_what_may_have_been_executed_is_not_repeated_unless_that_is_harmless() {
    let rig = Rig::new();
    let count = Arc::new(AtomicU64::new(0));
    rig.publish(breaking(1, count.clone()).await);
    let reply = rig.client().await.post("/devshard/v1/x", "once").await;
    assert_eq!((reply.status, reply.code().as_str()), (502, "child_broke"));
    assert_eq!(reply.header("versiond-not-admitted"), None);
    assert_eq!(count.load(Ordering::Relaxed), 1);

    let count = Arc::new(AtomicU64::new(0));
    let target = rig.publish(breaking(2, count.clone()).await);
    assert_eq!(rig.get("/devshard/v1/x").await.text(), "at last");
    assert_eq!(count.load(Ordering::Relaxed), 3);
    let load = target.load();
    assert_eq!((load.admitted, load.ended.upstream_broke.request, load.ended.finished.request), (3, 2, 1));

    let count = Arc::new(AtomicU64::new(0));
    rig.publish(breaking(u64::MAX, count.clone()).await);
    assert_eq!(rig.get("/devshard/v1/x").await.code(), "child_broke");
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

/// F15, F52: a process that is dying still takes connections. It gets one attempt; the others are its successor's.
#[tokio::test]
async fn f15_f52_a_dying_child_does_not_use_up_the_attempts() {
    let rig = Rig::with(|config| config.not_admitted_wait = PATIENCE);
    let count = Arc::new(AtomicU64::new(0));
    rig.publish(breaking(u64::MAX, count.clone()).await);
    let mut client = rig.client().await;
    client.send("GET /devshard/v1/x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("waits for another", || rig.slot.waiting() == 1).await;
    rig.publish(breaking(0, Arc::default()).await);
    assert_eq!(client.reply().await.text(), "at last");
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_child_that_nobody_replaces_is_reported_unreachable() {
    let rig = Rig::new();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = rig.publish(gone);
    let reply = rig.client().await.post("/devshard/v1/x", "x").await;
    assert_eq!((reply.status, reply.code().as_str()), (502, "child_unreachable"));
    assert_eq!(reply.header("versiond-not-admitted"), Some("child_unreachable; nonce=boot1"));
    assert_eq!(target.load().inflight, 0);
}

// F57: the child closes a kept connection just as a POST is sent.
#[tokio::test]
async fn f57_a_kept_connection_that_was_closed_costs_no_post() {
    let rig = Rig::new();
    let count = Arc::new(AtomicU64::new(0));
    let hasty = {
        let count = count.clone();
        origin(move |mut peer| {
            let count = count.clone();
            async move {
                // Promises to keep the connection, and closes it.
                peer.request().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                peer.answer("ok").await.unwrap();
            }
        })
        .await
    };
    rig.publish(hasty);
    let mut client = rig.client().await;
    for _ in 0..300 {
        let reply = client.post("/devshard/v1/x", "exactly once").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    }
    assert_eq!(count.load(Ordering::Relaxed), 300);
}

// F53: the head is out, then the child dies.
#[tokio::test]
async fn f53_a_response_that_breaks_off_arrives_broken() {
    let rig = Rig::new();
    for (framing, part) in [
        ("Content-Length: 10\r\n", "12345"),
        ("Transfer-Encoding: chunked\r\n", "5\r\n12345\r\n"),
        ("Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n", "5\r\n12345\r\n"),
    ] {
        for version in ["1.1", "1.0"] {
            let die = Arc::new(Notify::new());
            let told = die.clone();
            let dying = origin(move |mut peer| {
                let told = told.clone();
                async move {
                    peer.request().await.unwrap();
                    peer.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n{part}")).await.unwrap();
                    told.notified().await;
                    peer.reset();
                }
            })
            .await;
            let target = rig.publish(dying);
            let mut client = rig.client().await;
            client.send(format!("GET /devshard/v1/x HTTP/{version}\r\nHost: a\r\n\r\n")).await;
            let head = soon(client.head()).await.unwrap();
            assert_eq!(head.status, 200);
            while client.buffer.is_empty() {
                soon(client.fill()).await.expect("some of the body");
            }
            die.notify_one();
            let ended = soon(read_on(&mut client)).await;
            let text = String::from_utf8_lossy(&client.buffer).into_owned();
            assert!(text.contains("12345"), "{text}");
            match (version, framing.contains("Content-Length")) {
                // Short of what was declared, or without the last chunk.
                ("1.1", true) => assert_eq!(text, "12345"),
                ("1.1", false) => assert!(!text.ends_with("0\r\n\r\n"), "{text}"),
                // Where only the end of the connection ends a body, it must not be a clean one.
                (_, true) => assert_eq!(text, "12345"),
                (_, false) => assert!(ended.is_err(), "{framing}"),
            }
            until("ended", || target.load().inflight == 0).await;
            assert_eq!(target.load().ended.upstream_broke.total(), 1);
        }
    }
}

/// Reads to the end of the connection: clean, or not.
async fn read_on(client: &mut Client) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt;
    while client.stream.read_buf(&mut client.buffer).await? > 0 {}
    Ok(())
}
