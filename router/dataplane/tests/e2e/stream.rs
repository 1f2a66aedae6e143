//! Streams: passed on at once, ended with their client, held back by a stalled one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc};

use crate::common::*;

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Sends one event for each message, and says when the plane has hung up.
async fn events() -> (std::net::SocketAddr, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel::<()>(1);
    let (hang_up, hung_up) = mpsc::channel::<()>(1);
    let told = Arc::new(tokio::sync::Mutex::new(told));
    let address = origin(move |mut peer| {
        let (told, hang_up) = (told.clone(), hang_up.clone());
        async move {
            peer.request().await.unwrap();
            peer.send(EVENTS).await.unwrap();
            let mut told = told.lock().await;
            loop {
                tokio::select! {
                    () = peer.closed() => break,
                    message = told.recv() => match message {
                        Some(()) => peer.send("7\r\nevent\n\n\r\n").await.unwrap(),
                        None => {
                            peer.send("0\r\n\r\n").await.unwrap();
                            break;
                        }
                    }
                }
            }
            hang_up.send(()).await.unwrap();
        }
    })
    .await;
    (address, tell, hung_up)
}

#[tokio::test]
async fn each_event_passes_at_once_and_the_lease_lasts_to_the_last_byte() {
    let rig = Rig::new();
    let (address, tell, _) = events().await;
    let target = rig.publish(address);
    let mut client = rig.client().await;
    client.send_get("/devshard/v1/x").await;
    assert_eq!(soon(client.head()).await.unwrap().status, 200);
    for _ in 0..20 {
        tell.send(()).await.unwrap();
        assert_eq!(soon(client.chunk()).await.unwrap(), b"event\n\n");
    }
    let load = target.load();
    assert_eq!((load.by_class.stream, load.by_class.request), (1, 0));
    drop(tell);
    assert_eq!(soon(client.chunk()).await.unwrap(), b"");
    until("ended", || target.load().inflight == 0).await;
    assert_eq!(target.load().ended.finished.stream, 1);
}

// F55: the child learns that nobody listens, and the lease ends.
#[tokio::test]
async fn f55_a_client_that_hangs_up_ends_its_stream_at_the_child() {
    for half in [false, true] {
        let rig = Rig::new();
        let (address, tell, mut hung_up) = events().await;
        let target = rig.publish(address);
        let mut client = rig.client().await;
        client.send_get("/devshard/v1/x").await;
        // A request behind it does not hide the end of input.
        client.send_get("/devshard/v1/y").await;
        tell.send(()).await.unwrap();
        soon(client.head()).await.unwrap();
        soon(client.chunk()).await.unwrap();
        if half {
            client.stream.shutdown().await.unwrap();
        } else {
            drop(client);
        }
        soon(hung_up.recv()).await.unwrap();
        until("ended", || target.load().inflight == 0).await;
        assert_eq!(target.load().ended.client_gone.stream, 1);
    }
}

// F55: a client that is gone without a word, its machine with it, is asked for.
#[tokio::test]
async fn f55_an_idle_client_is_asked_whether_it_is_there() {
    let rig = Rig::new();
    let client = rig.client().await;
    let (here, there) = (rig.address.port(), client.stream.local_addr().unwrap().port());
    let (local, remote) = (format!(":{here:04X}"), format!(":{there:04X}"));
    until("the keep-alive timer, within a minute", || {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.len() > 5 && row[1].ends_with(&local) && row[2].ends_with(&remote));
        // 2 is the keep-alive timer; then how long until it rings, in hundredths of a second.
        let left = row.and_then(|row| u64::from_str_radix(row[5].strip_prefix("02:")?, 16).ok());
        left.is_some_and(|left| left <= 6_000)
    })
    .await;
}

// F55: before the response head the class is request, so only a reset is a hang-up.
#[tokio::test]
async fn f55_the_end_of_input_after_a_request_lets_it_finish_and_a_reset_cancels_it() {
    let release = Arc::new(Notify::new());
    let (gone, mut seen_gone) = mpsc::channel::<()>(1);
    let slow = {
        let release = release.clone();
        origin(move |mut peer| {
            let (release, gone) = (release.clone(), gone.clone());
            async move {
                peer.request().await.unwrap();
                tokio::select! {
                    () = release.notified() => peer.answer("done").await.unwrap(),
                    () = peer.closed() => gone.send(()).await.unwrap(),
                }
            }
        })
        .await
    };
    let rig = Rig::new();
    let target = rig.publish(slow);
    let mut half = rig.client().await;
    half.send_get("/devshard/v1/x").await;
    half.stream.shutdown().await.unwrap();
    until("admitted", || target.load().inflight == 1).await;
    release.notify_one();
    assert_eq!(half.reply().await.text(), "done");
    until("ended", || target.load().inflight == 0).await;
    assert_eq!(target.load().ended.finished.request, 1);

    let mut reset = rig.client().await;
    reset.send_get("/devshard/v1/x").await;
    until("admitted", || target.load().inflight == 1).await;
    reset.reset();
    soon(seen_gone.recv()).await.unwrap();
    until("ended", || target.load().inflight == 0).await;
    assert_eq!(target.load().ended.client_gone.request, 1);
}

#[tokio::test]
async fn f55_a_client_that_leaves_in_the_middle_of_its_upload_is_not_answered_for() {
    let (ended, mut whole) = mpsc::channel::<bool>(1);
    let reading = origin(move |mut peer| {
        let ended = ended.clone();
        async move { ended.send(peer.request().await.is_some()).await.unwrap() }
    })
    .await;
    let rig = Rig::new();
    let target = rig.publish(reading);
    let mut client = rig.client().await;
    client.send("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n").await;
    until("admitted", || target.load().inflight == 1).await;
    drop(client);
    assert!(!soon(whole.recv()).await.unwrap());
    until("ended", || target.load().inflight == 0).await;
    assert_eq!(target.load().ended.finished.total(), 0);
}

// F56: a reader that stalls holds the child back; what lies between stays bounded.
#[tokio::test]
async fn f56_a_stalled_reader_holds_the_child_back_and_then_gets_everything() {
    const BLOCK: usize = 64 * 1024;
    const BLOCKS: u64 = 1_000;
    let written = Arc::new(AtomicU64::new(0));
    let fire_hose = {
        let written = written.clone();
        origin(move |mut peer| {
            let written = written.clone();
            async move {
                socket2::SockRef::from(&peer.stream).set_send_buffer_size(BLOCK).unwrap();
                peer.request().await.unwrap();
                let length = BLOCK as u64 * BLOCKS;
                peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await.unwrap();
                let block = vec![b'x'; BLOCK];
                for _ in 0..BLOCKS {
                    peer.send(&block).await.unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                }
                peer.closed().await;
            }
        })
        .await
    };
    let rig = Rig::new();
    let target = rig.publish(fire_hose);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(BLOCK).unwrap();
    socket.connect(&rig.address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut client = Client { stream: tokio::net::TcpStream::from_std(socket.into()).unwrap(), buffer: Vec::new() };
    client.send_get("/devshard/v1/x").await;

    // The child stops when every buffer on the way is full: no progress over several looks.
    let mut last = u64::MAX;
    let mut still = 0;
    let stalled = async {
        while still < 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = written.load(Ordering::Relaxed);
            still = if now == last && now > 0 { still + 1 } else { 0 };
            last = now;
        }
    };
    tokio::time::timeout(PATIENCE, stalled).await.unwrap();
    // The kernel's own buffers grow to some megabytes; of the 64 MiB most must still be at the child.
    assert!(last < BLOCKS / 3, "{last} blocks went into the void");
    assert_eq!(target.load().inflight, 1);

    let reply = client.reply().await;
    assert!(reply.complete);
    assert_eq!(reply.body.len() as u64, BLOCK as u64 * BLOCKS);
    until("ended", || target.load().ended.finished.request == 1).await;
}

#[tokio::test]
async fn f56_an_upload_is_held_back_by_a_child_that_does_not_read() {
    let resume = Arc::new(Notify::new());
    let stalled = {
        let resume = resume.clone();
        origin(move |mut peer| {
            let resume = resume.clone();
            async move {
                socket2::SockRef::from(&peer.stream).set_recv_buffer_size(64 * 1024).unwrap();
                let head = peer.head().await.unwrap();
                assert!(head.headers.contains_key("content-length"));
                resume.notified().await;
                peer.answer("enough").await.unwrap();
            }
        })
        .await
    };
    let rig = Rig::new();
    rig.publish(stalled);
    let mut client = rig.client().await;
    socket2::SockRef::from(&client.stream).set_send_buffer_size(64 * 1024).unwrap();
    client.send("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").await;
    let sent = AtomicU64::new(0);
    let block = vec![0u8; 64 * 1024];
    let full = AtomicBool::new(false);
    let upload = async {
        while tokio::time::timeout(Duration::from_millis(300), client.stream.write_all(&block)).await.is_ok() {
            sent.fetch_add(1, Ordering::Relaxed);
        }
        full.store(true, Ordering::Relaxed);
    };
    soon(upload).await;
    assert!(full.load(Ordering::Relaxed));
    assert!(sent.load(Ordering::Relaxed) < 500, "{} blocks went into the void", sent.load(Ordering::Relaxed));
    resume.notify_one();
    assert_eq!(client.reply().await.text(), "enough");
}
