//! The engine for OpenAI-compatible endpoints, against one that misbehaves on purpose.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use devshard_core::ids::{Epoch, ExecutionKey, InferenceId};
use devshardd::engine::openai::OpenAi;
use devshardd::engine::{Engine, EngineError, Job};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What an endpoint says, byte by byte.
#[derive(Debug, Clone)]
enum Says {
    /// These pieces, each in a write of its own; the connection stays.
    Pieces(Vec<&'static str>),
    /// These, and then it hangs up.
    BreaksOff(Vec<&'static str>),
    /// These, and then nothing until the asker hangs up.
    Hangs(Vec<&'static str>),
}

/// An endpoint that answers every request the same, and keeps what it was asked.
struct Endpoint {
    engine: Engine,
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<u32>>,
    hung_up: mpsc::UnboundedReceiver<()>,
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

impl Endpoint {
    async fn start(says: Says) -> Endpoint {
        // Whoever comes first installs one; a second is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, connections) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<u32>>::default());
        let (tell, hung_up) = mpsc::unbounded_channel();
        let (kept, counted) = (Arc::clone(&asked), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                *counted.lock() += 1;
                tokio::spawn(serve(socket, says.clone(), Arc::clone(&kept), tell.clone()));
            }
        });
        Endpoint { engine: Engine::OpenAi(OpenAi::new(&url).unwrap()), asked, connections, hung_up }
    }

    async fn run(&self, job: &Job) -> (Result<(), EngineError>, Vec<String>) {
        let (sender, mut payloads) = mpsc::channel::<Bytes>(64);
        let said = async {
            let mut said = Vec::new();
            while let Some(payload) = payloads.recv().await {
                said.push(String::from_utf8(payload.to_vec()).unwrap());
            }
            said
        };
        tokio::join!(self.engine.run(job, sender), said)
    }
}

/// Reads whole requests, and answers each.
async fn serve(mut socket: TcpStream, says: Says, asked: Arc<Mutex<Vec<String>>>, tell: mpsc::UnboundedSender<()>) {
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
        asked.lock().push(text);
        buffer.clear();
        let (Says::Pieces(pieces) | Says::BreaksOff(pieces) | Says::Hangs(pieces)) = &says;
        for piece in pieces {
            if socket.write_all(piece.as_bytes()).await.is_err() || socket.flush().await.is_err() {
                tell.send(()).ok();
                return;
            }
            tokio::task::yield_now().await;
        }
        match &says {
            Says::Pieces(_) => {}
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

fn job(prompt: &str) -> Job {
    Job {
        key: ExecutionKey { epoch: Epoch(7), escrow: "e-1".parse().unwrap(), inference: InferenceId(3) },
        model: "llama".to_owned(),
        prompt: Bytes::copy_from_slice(prompt.as_bytes()),
        max_tokens: 5,
        stream: true,
        within: Duration::from_secs(20),
    }
}

#[tokio::test]
async fn a_stream_is_its_payloads_however_it_is_cut() {
    let pieces = vec![
        STREAM,
        "1b\r\ndata: {\"a\":1}\r\n\r\n: beat\r\nda\r\n",
        "d\r\nta: {\"b\":2}\n\n\r\n",
        "e\r\ndata: [DONE]\n\n\r\n",
        "0\r\n\r\n",
    ];
    let endpoint = Endpoint::start(Says::Pieces(pieces)).await;
    for _ in 0..2 {
        let (ran, said) = endpoint.run(&job("one two")).await;
        ran.unwrap();
        assert_eq!(said, ["{\"a\":1}", "{\"b\":2}", "[DONE]"]);
    }
    let asked = endpoint.asked.lock().clone();
    let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1"), "{head}");
    assert!(head.to_ascii_lowercase().contains("idempotency-key: devshard-e-1-3"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    let expected = json!({
        "messages": [{"role": "user", "content": "one two"}],
        "model": "llama", "max_tokens": 5, "seed": 3, "stream": true,
    });
    assert_eq!(body, expected);
    assert!(*endpoint.connections.lock() <= 2, "connections are used again, or two were raced");
}

#[tokio::test]
async fn a_body_that_is_one_already_is_kept_but_for_what_the_session_says() {
    let endpoint = Endpoint::start(Says::Pieces(vec![STREAM, "e\r\ndata: [DONE]\n\n\r\n", "0\r\n\r\n"])).await;
    let prompt = r#"{"messages":[{"role":"system","content":"s"}],"temperature":0.5,"seed":99,"model":"other"}"#;
    endpoint.run(&job(prompt)).await.0.unwrap();
    let asked = endpoint.asked.lock()[0].clone();
    let body: Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&body["temperature"], &body["seed"], &body["model"]), (&json!(0.5), &json!(3), &json!("llama")));
    assert_eq!(body["messages"][0]["role"], "system");
}

#[tokio::test]
async fn an_answer_in_one_piece_is_one_event() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"choices\":[]}";
    let endpoint = Endpoint::start(Says::Pieces(vec![whole])).await;
    let (ran, said) = endpoint.run(&job("x")).await;
    ran.unwrap();
    assert_eq!(said, ["{\"choices\":[]}", "[DONE]"]);
}

/// Whether an inference may be run again follows from how it failed.
#[tokio::test]
async fn what_has_not_begun_is_told_from_what_may_have() {
    let status = |line: &'static str| Says::Pieces(vec![line]);
    for (says, has_not_run) in [
        (status("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"), true),
        (status("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"), true),
        (status("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), true),
        (status("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"), false),
        (status("HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"), false),
        (Says::BreaksOff(vec![STREAM, "f\r\ndata: {\"a\":1}\n\n\r\n"]), false),
        // A whole stream that lacks its end.
        (Says::Pieces(vec![STREAM, "f\r\ndata: {\"a\":1}\n\n\r\n", "0\r\n\r\n"]), false),
        (Says::BreaksOff(vec![]), false),
        (status("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"), false),
    ] {
        let endpoint = Endpoint::start(says.clone()).await;
        let error = endpoint.run(&job("x")).await.0.unwrap_err();
        assert_eq!(error.has_not_run(), has_not_run, "{says:?}: {error:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let engine = Engine::OpenAi(OpenAi::new(&format!("http://{nobody}")).unwrap());
    let (sender, _payloads) = mpsc::channel::<Bytes>(1);
    let error = engine.run(&job("x"), sender).await.unwrap_err();
    assert!(matches!(error, EngineError::NotReached(_)) && error.has_not_run(), "{error:?}");
}

#[tokio::test]
async fn a_model_that_does_not_end_is_ended() {
    let mut endpoint = Endpoint::start(Says::Hangs(vec![STREAM, "f\r\ndata: {\"a\":1}\n\n\r\n"])).await;
    let slow = Job { within: Duration::from_millis(300), ..job("x") };
    let (ran, said) = endpoint.run(&slow).await;
    assert!(matches!(ran, Err(EngineError::TooSlow(_))), "{ran:?}");
    assert_eq!(said, ["{\"a\":1}"]);
    endpoint.hung_up.recv().await.expect("the endpoint sees its connection end");
}

#[tokio::test]
async fn a_job_that_nobody_waits_for_ends_at_the_endpoint() {
    let mut endpoint = Endpoint::start(Says::Hangs(vec![STREAM, "f\r\ndata: {\"a\":1}\n\n\r\n"])).await;
    let (sender, mut payloads) = mpsc::channel::<Bytes>(1);
    let (engine, job) = (endpoint.engine.clone(), job("x"));
    let running = tokio::spawn(async move { engine.run(&job, sender).await });
    assert!(payloads.recv().await.is_some());
    drop(payloads);
    assert!(matches!(running.await.unwrap(), Err(EngineError::Cancelled)));
    endpoint.hung_up.recv().await.expect("the endpoint sees its connection end");
}
