//! The clients against a server that misbehaves on purpose: each kind of harm is noticed and named.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use versiond_demo::clients::{short, stream, upload, websocket};
use versiond_demo::options::Lengths;
use versiond_demo::scenario::{Build, Slot};
use versiond_demo::tally::{Counts, Kind};
use versiond_demo::world::World;

/// A stream of two events takes half a second: long enough to be cut.
const LENGTHS: Lengths = Lengths { min_ms: 500, max_ms: 500 };
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn event(n: u64) -> String {
    chunk(&format!("id: {n}\ndata: {{\"n\":{n},\"build\":\"a\",\"generation\":1}}\n\n"))
}

fn done(events: u64) -> String {
    chunk(&format!("event: done\ndata: {{\"events\":{events},\"build\":\"a\",\"generation\":1}}\n\n"))
}

fn json(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Answers every connection with these bytes after its first request, and closes it.
async fn server(answer: String, pause: Duration) -> std::net::SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(reply(socket, answer.clone(), pause));
        }
    });
    address
}

async fn reply(mut socket: TcpStream, answer: String, pause: Duration) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    // To the end of the body where there is one: its end is a pause.
    while matches!(tokio::time::timeout(pause, socket.read(&mut buffer)).await, Ok(Ok(1..))) {}
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await?;
    while socket.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Runs one client against an answer until the first operation has ended.
async fn first<F: Future<Output = ()> + Send + 'static>(
    kind: Kind,
    answer: String,
    client: impl FnOnce(Arc<World>) -> F,
) -> (Counts, String) {
    // Pieces of an upload come every 40 ms.
    let pause = Duration::from_millis(if kind == Kind::Upload { 400 } else { 20 });
    let world = Arc::new(World::new(server(answer, pause).await, &[Build::A]));
    let client = tokio::spawn(client(Arc::clone(&world)));
    let ended = async {
        while world.book.lock().tally.of(kind).ended() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("an operation comes to an end");
    world.stop.cancel();
    client.await.unwrap();
    let book = world.book.lock();
    let what = book.tally.failures().next().map(|failure| failure.what.clone()).unwrap_or_default();
    (book.tally.of(kind), what)
}

async fn follow(answer: String) -> (Counts, String) {
    first(Kind::Stream, answer, |world| stream::run(world, Slot(0), LENGTHS, Duration::ZERO, 1)).await
}

async fn ask(answer: String) -> (Counts, String) {
    first(Kind::Short, answer, |world| short::run(world, Slot(0), Duration::from_millis(10), 1)).await
}

#[tokio::test]
async fn a_whole_stream_counts_as_whole() {
    let answer = format!("{HEAD}{}{}{}0\r\n\r\n", event(0), event(1), done(2));
    let (counts, what) = follow(answer).await;
    assert!(counts.whole > 0 && counts.cut + counts.failed == 0, "{counts:?} {what}");
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_cut() {
    let (counts, what) = follow(format!("{HEAD}{}", event(0))).await;
    assert_eq!((counts.whole, counts.cut > 0, counts.failed), (0, true, 0), "{what}");
}

#[tokio::test]
async fn a_stream_that_ends_cleanly_without_its_final_event_is_cut() {
    let (counts, what) = follow(format!("{HEAD}{}{}0\r\n\r\n", event(0), event(1))).await;
    assert_eq!((counts.whole, counts.cut > 0, counts.failed), (0, true, 0), "{what}");
}

#[tokio::test]
async fn a_stream_that_breaks_off_after_its_final_event_is_cut() {
    let (counts, what) = follow(format!("{HEAD}{}{}{}", event(0), event(1), done(2))).await;
    assert_eq!((counts.whole, counts.cut > 0, counts.failed), (0, true, 0), "{what}");
    assert!(what.starts_with("broken off after 2 of 2 events and the final one"), "{what}");
}

#[tokio::test]
async fn a_stream_with_a_hole_has_failed() {
    let (counts, what) = follow(format!("{HEAD}{}{}0\r\n\r\n", event(0), done(2))).await;
    assert_eq!((counts.whole, counts.cut, counts.failed > 0), (0, 0, true), "{what}");
    let (counts, what) = follow(format!("{HEAD}{}{}{}0\r\n\r\n", event(0), event(2), done(2))).await;
    assert_eq!((counts.whole, counts.cut, counts.failed > 0), (0, 0, true), "{what}");
}

#[tokio::test]
async fn a_refusal_has_failed_and_says_which() {
    let (counts, what) = ask("HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy".to_owned()).await;
    assert!(counts.failed > 0 && counts.whole == 0, "{counts:?}");
    assert_eq!(what, "status 503: busy");
}

#[tokio::test]
async fn a_404_of_an_approved_name_has_failed() {
    let (counts, _) = ask("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
    assert!(counts.failed > 0 && counts.not_found == 0, "{counts:?}");
}

#[tokio::test]
async fn a_build_that_is_not_approved_is_a_wrong_binary() {
    let (counts, _) = ask(json(r#"{"build":"b","generation":1}"#)).await;
    assert!(counts.wrong_binary > 0 && counts.whole == 0, "{counts:?}");
}

#[tokio::test]
async fn half_an_answer_is_cut() {
    let (counts, _) = ask("HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{\"build\":".to_owned()).await;
    assert!(counts.cut > 0 && counts.whole == 0, "{counts:?}");
}

#[tokio::test]
async fn an_upload_that_arrived_otherwise_has_failed() {
    let answer = json(&format!(r#"{{"bytes":1,"sha256":"{}","build":"a","generation":1}}"#, "0".repeat(64)));
    let (counts, what) = first(Kind::Upload, answer, |world| upload::run(world, Slot(0), 1)).await;
    assert!(counts.failed > 0 && counts.whole == 0, "{counts:?} {what}");
    assert!(what.contains("arrived"), "{what}");
}

#[tokio::test]
async fn a_websocket_that_is_refused_has_failed() {
    let answer = "HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy".to_owned();
    let (counts, what) = first(Kind::WebSocket, answer, |world| websocket::run(world, Slot(0), LENGTHS, 1)).await;
    assert!(counts.failed > 0 && counts.whole == 0, "{counts:?}");
    assert!(what.starts_with("status 503"), "{what}");
}
