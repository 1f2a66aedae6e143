//! The demo builds as real processes: every endpoint, and how each build behaves at its start.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../supervisor-protocol/sdk/tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{Answer, Running, Stream, eventually};

const A: &str = env!("CARGO_BIN_EXE_demo-child-a");
const B: &str = env!("CARGO_BIN_EXE_demo-child-b");
const STUCK: &str = env!("CARGO_BIN_EXE_demo-child-stuck");
const SERVE: &[&str] = &["--port", "0"];

fn launch(program: &str, args: &[&str]) -> Running {
    Running::start_in(tempfile::tempdir().unwrap(), Path::new(program), args, &[])
}

fn signed(build: &str, mut fields: Value) -> Value {
    fields["build"] = json!(build);
    fields["generation"] = json!(7);
    fields
}

/// The `data:` lines, each with the event's name or id before it.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    let event = |block: &str| {
        let (name, data) = block.split_once('\n').unwrap();
        (name.to_owned(), serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap())
    };
    answer.text().split_terminator("\n\n").map(event).collect()
}

#[test]
fn the_two_builds_differ_in_their_tag_and_in_their_bytes() {
    for (program, build) in [(A, "a"), (B, "b")] {
        let child = Running::start(Path::new(program), SERVE, &[]);
        let first = child.get("/hello?x=1").json();
        assert_eq!(
            (&first["build"], &first["version"], &first["generation"]),
            (&json!(build), &json!("v1"), &json!(7))
        );
        assert_eq!((&first["seq"], &child.get("/hello").json()["seq"]), (&json!(1), &json!(2)));
    }
    assert_ne!(Sha256::digest(std::fs::read(A).unwrap()), Sha256::digest(std::fs::read(B).unwrap()));
}

#[test]
fn a_stream_is_numbered_paced_and_says_when_it_is_done() {
    let child = Running::start(Path::new(A), SERVE, &[]);
    for method in ["GET", "POST"] {
        let began = Instant::now();
        let answer = child.ask(method, "/sessions/s1/stream?ms=200&events=4", &[], b"");
        assert!(began.elapsed() >= Duration::from_millis(200));
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        let mut expected: Vec<(String, Value)> =
            (0..4).map(|n| (format!("id: {n}"), signed("a", json!({"n": n})))).collect();
        expected.push(("event: done".to_owned(), signed("a", json!({"events": 4}))));
        assert_eq!(events(&answer), expected);
    }
    // Only the POST was executed.
    assert_eq!(child.get("/executions").json(), signed("a", json!({"executions": 1})));
    assert_eq!(child.get("/sessions/s1/stream?events=0").status, 400);
}

#[test]
fn the_first_event_comes_at_once_and_the_stream_is_counted_as_one() {
    let child = Running::start(Path::new(A), SERVE, &[]);
    let began = Instant::now();
    let stream = child.open("/sessions/s1/stream?ms=60000&events=2", "id: 0");
    assert!(began.elapsed() < Duration::from_secs(30), "the second event is due only then");
    assert_eq!(child.inflight("stream"), 1);
    drop(stream);
}

#[test]
fn an_upload_is_read_whole_and_counted_once() {
    let child = Running::start(Path::new(B), SERVE, &[]);
    let body: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
    let sha256: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    for method in ["POST", "PUT"] {
        let answer = child.ask(method, "/upload", &[], &body).json();
        assert_eq!(answer, signed("b", json!({"bytes": body.len(), "sha256": sha256})));
    }
    assert_eq!(child.get("/executions").json()["executions"], 2);
}

#[test]
fn f55_an_upload_that_breaks_off_ends_its_lease_and_executes_nothing() {
    let child = Running::start(Path::new(A), SERVE, &[]);
    let mut socket = child.connect();
    socket.write_all(b"PUT /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf").unwrap();
    eventually("it is admitted", || child.inflight("request") == 1);
    drop(socket);
    eventually("it has ended", || child.status()["inflight"] == 0);
    assert_eq!(child.get("/executions").json()["executions"], 0);
}

#[test]
fn a_websocket_numbers_its_messages_until_the_client_closes() {
    let child = Running::start(Path::new(A), SERVE, &[]);
    let mut socket = child.connect();
    socket
        .write_all(
            b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut stream = Stream { socket, read: Vec::new() };
    stream.until("\r\n\r\n");
    for n in 1..=3 {
        stream.socket.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).unwrap();
        let mut head = [0; 2];
        stream.socket.read_exact(&mut head).unwrap();
        let mut text = vec![0; usize::from(head[1])];
        stream.socket.read_exact(&mut text).unwrap();
        let answer: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(answer, signed("a", json!({"n": n, "text": "hi"})));
    }
    assert_eq!(child.inflight("upgrade"), 1);
    // A masked close frame; the child answers it and lets go.
    stream.socket.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
    let mut rest = Vec::new();
    stream.socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.first(), Some(&0x88));
    eventually("nothing in flight", || child.status()["inflight"] == 0);
}

// F19, F20: what is on its way says `initializing`; what is stuck says something else.
#[test]
fn f19_f20_a_slow_start_and_a_stuck_one_can_be_told_apart() {
    let slow = launch(A, &["--port", "0", "--ready-after", "300"]);
    let mut said = Vec::new();
    eventually("it is ready", || {
        let ready = slow.admin("GET", "/ready", "");
        said.push((ready.status, ready.json()["reason"].as_str().unwrap_or_default().to_owned()));
        ready.status == 200
    });
    assert_eq!(said.pop(), Some((200, String::new())));
    assert!(
        !said.is_empty() && said.iter().all(|(status, reason)| *status == 503 && reason == "initializing"),
        "{said:?}"
    );

    let stuck = launch(STUCK, SERVE);
    eventually("it says why", || stuck.admin("GET", "/ready", "").json()["reason"] == "model missing");
    assert_eq!(stuck.admin("GET", "/ready", "").status, 503);
    assert_eq!(stuck.get("/healthz").status, 200);
}

#[test]
fn a_crash_is_a_crash_and_a_bad_value_ends_the_start() {
    let mut crashing = launch(A, &["--port", "0", "--crash-after", "50"]);
    assert_eq!(crashing.wait().code(), None, "ended by a signal");
    let output = std::process::Command::new(A).args(["--port", "0", "--ready-after", "soon"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

/// F55: a stream that has nothing to write notices all the same that nobody listens any more.
#[test]
fn f55_a_silent_stream_ends_with_its_client() {
    let child = Running::start(Path::new(A), SERVE, &[]);
    // What stands unread before the end of input does not hide it.
    for (extra, hang_up) in ["", "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n"]
        .into_iter()
        .flat_map(|extra| [None, Some(Shutdown::Write)].map(|hang_up| (extra, hang_up)))
    {
        let mut socket = child.connect();
        socket.write_all(b"GET /sessions/s/stream?ms=600000&events=2 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut stream = Stream { socket, read: Vec::new() };
        stream.until("data: ");
        assert_eq!(child.inflight("stream"), 1);
        stream.socket.write_all(extra.as_bytes()).unwrap();
        match hang_up {
            Some(half) => stream.socket.shutdown(half).unwrap(),
            None => drop(stream),
        }
        eventually("f55: the lease has ended", || child.inflight("stream") == 0);
    }
}
