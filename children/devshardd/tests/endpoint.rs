//! The engine for OpenAI-compatible endpoints, against one that misbehaves on purpose.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use devshard_core::ids::{Epoch, ExecutionKey, InferenceId};
use devshard_core::sse::{DONE, EVENT_BYTES};
use devshardd::engine::openai::OpenAi;
use devshardd::engine::{Engine, EngineError, Job, Purpose};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

/// What an endpoint says, byte by byte.
#[derive(Debug, Clone)]
enum Says {
    /// These pieces, each in a write of its own; the connection stays.
    Pieces(Vec<Vec<u8>>),
    /// These, and once the asker has heard `[DONE]` the end of the stream; the connection stays.
    EndsLater(Vec<Vec<u8>>),
    /// These, and then it hangs up.
    BreaksOff(Vec<Vec<u8>>),
    /// These, and then nothing until the asker hangs up.
    Hangs(Vec<Vec<u8>>),
}

/// An endpoint that answers every request the same, and keeps what it was asked.
struct Endpoint {
    engine: Engine,
    seen: Arc<Seen>,
    hung_up: mpsc::UnboundedReceiver<()>,
}

struct Seen {
    /// Each request, and on which connection it came.
    asked: Mutex<Vec<(u32, String)>>,
    /// How often an asker has heard `[DONE]`.
    done: Semaphore,
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const END: &str = "0\r\n\r\n";

impl Endpoint {
    async fn start(says: Says) -> Endpoint {
        // Whoever comes first installs one; a second is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Seen { asked: Mutex::default(), done: Semaphore::new(0) });
        let (tell, hung_up) = mpsc::unbounded_channel();
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            for connection in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(socket, connection, says.clone(), Arc::clone(&kept), tell.clone()));
            }
        });
        Endpoint { engine: Engine::OpenAi(OpenAi::new(&url).unwrap()), seen, hung_up }
    }

    async fn run(&self, job: &Job) -> (Result<(), EngineError>, Vec<String>) {
        let (sender, mut payloads) = mpsc::channel::<Bytes>(64);
        let said = async {
            let mut said = Vec::new();
            while let Some(payload) = payloads.recv().await {
                if payload == DONE {
                    self.seen.done.add_permits(1);
                }
                said.push(String::from_utf8(payload.to_vec()).unwrap());
            }
            said
        };
        tokio::join!(self.engine.run(job, sender), said)
    }

    /// The endpoint sees its connection end.
    async fn is_left(&mut self) {
        let left = tokio::time::timeout(Duration::from_secs(20), self.hung_up.recv()).await;
        assert!(matches!(left, Ok(Some(()))), "the connection stays open");
    }

    fn first_asked(&self) -> (String, Value) {
        self.asked(0)
    }

    /// The head of a request, and its body.
    fn asked(&self, at: usize) -> (String, Value) {
        let (_, asked) = self.seen.asked.lock()[at].clone();
        let (head, body) = asked.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), serde_json::from_str(body).unwrap())
    }
}

/// Reads whole requests, and answers each.
async fn serve(mut socket: TcpStream, connection: u32, says: Says, seen: Arc<Seen>, tell: mpsc::UnboundedSender<()>) {
    let mut buffer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&buffer).into_owned();
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
            length.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| body.len() >= length)
        });
        if !whole {
            match socket.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => continue,
                _ => return,
            }
        }
        seen.asked.lock().push((connection, text));
        buffer.clear();
        let (Says::Pieces(pieces) | Says::EndsLater(pieces) | Says::BreaksOff(pieces) | Says::Hangs(pieces)) = &says;
        for piece in pieces {
            if socket.write_all(piece).await.is_err() || socket.flush().await.is_err() {
                tell.send(()).ok();
                return;
            }
            tokio::task::yield_now().await;
        }
        match &says {
            Says::Pieces(_) => {}
            Says::EndsLater(_) => {
                seen.done.acquire().await.unwrap().forget();
                if socket.write_all(END.as_bytes()).await.is_err() {
                    return;
                }
            }
            Says::BreaksOff(_) => return,
            Says::Hangs(_) => {
                // Nothing more comes from the asker but its end.
                while socket.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {}
                tell.send(()).ok();
                return;
            }
        }
    }
}

/// These texts, each a piece.
fn pieces(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A stream of this text, in chunks of so many bytes, without its end.
fn stream(text: &str, size: usize) -> Vec<Vec<u8>> {
    let chunks = text.as_bytes().chunks(size).map(|bytes| {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend(bytes);
        chunk.extend(b"\r\n");
        chunk
    });
    pieces(&[STREAM]).into_iter().chain(chunks).collect()
}

/// The same, with its end.
fn ended(text: &str, size: usize) -> Vec<Vec<u8>> {
    let mut pieces = stream(text, size);
    pieces.push(END.as_bytes().to_vec());
    pieces
}

fn job(prompt: &str) -> Job {
    Job {
        key: ExecutionKey { epoch: Epoch(7), escrow: "e-1".parse().unwrap(), inference: InferenceId(3) },
        model: "llama".to_owned(),
        prompt: Bytes::copy_from_slice(prompt.as_bytes()),
        max_tokens: 5,
        stream: true,
        within: Duration::from_secs(20),
        purpose: Purpose::Answer,
    }
}

/// Which error it is, and whether the model may be asked again.
fn kind(error: &EngineError) -> (&'static str, bool) {
    let kind = match error {
        EngineError::NotReached(_) => "not reached",
        EngineError::Refused { .. } => "refused",
        EngineError::BrokenOff(_) => "broken off",
        EngineError::TooSlow(_) => "too slow",
        EngineError::Cancelled => "cancelled",
    };
    (kind, error.has_not_run())
}

#[tokio::test]
async fn a_stream_is_its_payloads_however_it_is_cut() {
    let text = "data: {\"a\":\"é…\"}\r\n\r\n: beat\r\n\r\nevent: x\r\ndata: b\r\ndata: c\r\n\r\ndata: [DONE]\r\n\r\n";
    for text in [text.to_owned(), text.replace("\r\n", "\n")] {
        for size in 1..=text.len() {
            let endpoint = Endpoint::start(Says::Pieces(ended(&text, size))).await;
            let (ran, said) = endpoint.run(&job("x")).await;
            ran.unwrap();
            assert_eq!(said, ["{\"a\":\"é…\"}", "b\nc", "[DONE]"], "in chunks of {size}");
        }
    }
}

#[tokio::test]
async fn a_model_is_asked_for_what_the_session_says() {
    let endpoint = Endpoint::start(Says::Pieces(ended("data: [DONE]\n\n", 99))).await;
    endpoint.run(&job("one two")).await.0.unwrap();
    let (head, body) = endpoint.first_asked();
    assert!(head.starts_with("post /v1/chat/completions http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nidempotency-key: devshard-e-1-3\r\n"), "{head}");
    let expected = json!({
        "messages": [{"role": "user", "content": "one two"}],
        "model": "llama", "max_tokens": 5, "seed": 3, "stream": true, "stream_options": {"include_usage": true},
    });
    assert_eq!(body, expected);
    // An answer of another that is checked is asked for under another name.
    endpoint.run(&Job { purpose: Purpose::Check, ..job("one two") }).await.0.unwrap();
    let head = endpoint.asked(1).0;
    assert!(head.contains("\r\nidempotency-key: devshard-e-1-3-check\r\n"), "{head}");
}

/// What is sealed is the model's alone: it goes on as it came.
#[tokio::test]
async fn a_sealed_request_is_passed_on_to_the_byte() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n";
    let endpoint = Endpoint::start(Says::Pieces(pieces(&[head, "{}"]))).await;
    let sealed = r#"{ "version": 1, "messages": [], "ciphertext": "…" }"#;
    let (ran, said) = endpoint.run(&Job { purpose: Purpose::Sealed, ..job(sealed) }).await;
    ran.unwrap();
    assert_eq!(said, ["{}", "[DONE]"]);
    let (head, body) = endpoint.first_asked();
    assert!(head.starts_with("post /api/v1/encrypted/chat/completions http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nidempotency-key: devshard-e-1-3\r\n"), "{head}");
    assert_eq!(body, serde_json::from_str::<Value>(sealed).unwrap());
}

#[tokio::test]
async fn a_body_that_is_one_already_is_kept_but_for_what_the_session_says() {
    let endpoint = Endpoint::start(Says::Pieces(ended("data: [DONE]\n\n", 99))).await;
    let prompt = r#"{"messages":[{"role":"system","content":"s"}],"temperature":0.5,"seed":99,"model":"other",
        "max_tokens":900,"stream":false,"stream_options":{"include_usage":false},"n":9,"max_completion_tokens":900}"#;
    endpoint.run(&job(prompt)).await.0.unwrap();
    let expected = json!({
        "messages": [{"role": "system", "content": "s"}], "temperature": 0.5,
        "model": "llama", "max_tokens": 5, "seed": 3, "stream": true, "stream_options": {"include_usage": true},
    });
    assert_eq!(endpoint.first_asked().1, expected);
}

#[tokio::test]
async fn an_answer_in_one_piece_is_one_event() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n";
    let endpoint = Endpoint::start(Says::Pieces(pieces(&[head, "{\"choi", "ces\":[]}\n"]))).await;
    let (ran, said) = endpoint.run(&Job { stream: false, ..job("x") }).await;
    ran.unwrap();
    assert_eq!(said, ["{\"choices\":[]}", "[DONE]"]);
    assert_eq!(endpoint.first_asked().1["stream"], false);
}

/// The end of a stream comes behind its last event. Whoever does not take it loses the connection with each job.
#[tokio::test]
async fn jobs_one_after_the_other_share_connections() {
    const JOBS: usize = 20;
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    for says in [Says::EndsLater(stream("data: [DONE]\n\n", 99)), Says::Pieces(pieces(&[json]))] {
        let endpoint = Endpoint::start(says.clone()).await;
        for _ in 0..JOBS {
            endpoint.run(&job("x")).await.0.unwrap();
        }
        let asked = endpoint.seen.asked.lock();
        let connections: BTreeSet<u32> = asked.iter().map(|(connection, _)| *connection).collect();
        assert_eq!(asked.len(), JOBS, "each job is asked once");
        // A new one may be faster than one that is about to be free.
        assert!(connections.len() <= JOBS / 4, "{says:?}: {connections:?}");
    }
}

/// What is whole is whole, also when its connection hangs.
#[tokio::test]
async fn a_stream_that_says_done_and_stays_open_is_done() {
    let mut endpoint = Endpoint::start(Says::Hangs(stream("data: a\n\ndata: [DONE]\n\n", 99))).await;
    let (ran, said) = endpoint.run(&job("x")).await;
    ran.unwrap();
    assert_eq!(said, ["a", "[DONE]"]);
    endpoint.is_left().await;
}

/// Whether an inference may be run again follows from how it failed.
#[tokio::test]
async fn what_has_not_begun_is_told_from_what_may_have() {
    let status = |line: &str| Says::Pieces(pieces(&[line]));
    let (refused, broken_off) = (("refused", true), ("broken off", false));
    let large = format!("data: a\n\ndata: {}", "x".repeat(EVENT_BYTES));
    for (says, expected, heard) in [
        (status("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"), refused, &[][..]),
        (status("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"), refused, &[]),
        (status("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), refused, &[]),
        (status("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"), broken_off, &[]),
        (status("HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"), broken_off, &[]),
        (status("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), broken_off, &[]),
        (status("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"), broken_off, &[]),
        (status("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"), broken_off, &[]),
        (status("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{"), broken_off, &[]),
        (Says::BreaksOff(vec![]), broken_off, &[]),
        (Says::BreaksOff(stream("data: a\n\ndata: b", 4)), broken_off, &["a"]),
        // A whole stream that lacks its last event, or the end of that.
        (Says::Pieces(ended("data: a\n\n", 4)), broken_off, &["a"]),
        (Says::Pieces(ended("data: a\n\ndata: [DONE]\n", 4)), broken_off, &["a"]),
        (Says::Hangs(stream(&large, 1 << 16)), broken_off, &["a"]),
    ] {
        let endpoint = Endpoint::start(says).await;
        let (ran, said) = endpoint.run(&job("x")).await;
        let error = ran.unwrap_err();
        assert_eq!(kind(&error), expected, "{error:?}");
        assert_eq!(said, heard, "{error:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let engine = Engine::OpenAi(OpenAi::new(&format!("http://{nobody}")).unwrap());
    let (sender, _payloads) = mpsc::channel::<Bytes>(1);
    let error = engine.run(&job("x"), sender).await.unwrap_err();
    assert_eq!(kind(&error), ("not reached", true), "{error:?}");
}

/// A refusal stays one, whatever comes of its words: the model may be asked again.
#[tokio::test]
async fn the_words_of_a_refusal_are_not_waited_for() {
    let head = "HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("258\r\n{}\r\n", "x".repeat(600));
    for (words, told) in [("4\r\nbusy\r\n", "busy".to_owned()), (long.as_str(), "x".repeat(512))] {
        let endpoint = Endpoint::start(Says::Hangs(pieces(&[head, words]))).await;
        match endpoint.run(&job("x")).await.0 {
            Err(EngineError::Refused { status, body }) => assert_eq!((status, body), (503, told)),
            other => panic!("not refused: {other:?}"),
        }
    }
}

/// What hangs: before its head, within a stream, within an answer in one piece.
fn hanging() -> [(Vec<Vec<u8>>, &'static [&'static str]); 3] {
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{";
    [(vec![], &[]), (stream("data: a\n\n", 99), &["a"]), (pieces(&[json]), &[])]
}

#[tokio::test]
async fn a_model_that_does_not_end_is_ended() {
    for (begun, heard) in hanging() {
        let mut endpoint = Endpoint::start(Says::Hangs(begun)).await;
        let slow = Job { within: Duration::from_millis(300), ..job("x") };
        let (ran, said) = endpoint.run(&slow).await;
        assert_eq!(kind(&ran.unwrap_err()), ("too slow", false), "after {heard:?}");
        assert_eq!(said, heard);
        endpoint.is_left().await;
    }
}

#[tokio::test]
async fn a_job_that_nobody_waits_for_ends_at_the_endpoint() {
    for (begun, heard) in hanging() {
        let mut endpoint = Endpoint::start(Says::Hangs(begun)).await;
        let (sender, mut payloads) = mpsc::channel::<Bytes>(1);
        let (engine, job) = (endpoint.engine.clone(), job("x"));
        let running = tokio::spawn(async move { engine.run(&job, sender).await });
        for expected in heard {
            assert_eq!(payloads.recv().await.unwrap(), expected.as_bytes());
        }
        while endpoint.seen.asked.lock().is_empty() {
            assert!(!running.is_finished(), "it ends before it has asked");
            tokio::task::yield_now().await;
        }
        drop(payloads);
        assert_eq!(kind(&running.await.unwrap().unwrap_err()), ("cancelled", false), "after {heard:?}");
        endpoint.is_left().await;
    }
}
