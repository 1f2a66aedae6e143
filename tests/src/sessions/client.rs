//! A client of session hosts, written from the contract and not with the product's own code.
//!
//! Must not live here: what is expected of a host beyond that contract.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k256::ecdsa::SigningKey;
use ripemd::{Digest as _, Ripemd160};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpStream;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::step::{Inference, content};

const WITHIN: Duration = Duration::from_secs(60);
/// A stream says something at least this often.
const SILENCE: Duration = Duration::from_secs(30);

/// A session: whoever has its key may ask.
#[derive(Debug, Clone)]
pub struct Session {
    key: SigningKey,
    pub escrow: String,
}

/// A signed request, which may be sent more than once.
#[derive(Debug, Clone)]
pub struct Asked {
    path: String,
    body: Bytes,
    signature: String,
    timestamp: String,
    /// Sent beside those of the contract.
    header: Option<(&'static str, &'static str)>,
}

/// What a client has heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub status: u16,
    /// The id and the data of each event.
    pub events: Vec<(String, String)>,
    pub end: End,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With the meta event.
    Whole,
    /// With a typed code: of an event, or of a refusal.
    Typed(String),
    /// In the middle of it.
    Cut(String),
}

impl Session {
    pub fn new(escrow: &str) -> Session {
        Session::of(escrow, escrow)
    }

    /// The same session in the eyes of whoever has this secret.
    pub fn of(escrow: &str, secret: &str) -> Session {
        Session { key: key(secret), escrow: escrow.to_owned() }
    }

    /// Asks for the next inference: one step, and so many tokens.
    pub fn asks(&self, prefix: &str, nonce: u64, tokens: u32) -> Asked {
        self.asks_with(prefix, nonce, tokens, &[], 0)
    }

    /// The same, with what members have said in the step, and by an owner whose clock shows this.
    pub fn asks_with(&self, prefix: &str, nonce: u64, tokens: u32, owed: &[Vec<u8>], started_at: u64) -> Asked {
        let asked = Inference { nonce, tokens, started_at };
        let body = json!({
            "diffs": [self.step(nonce, owed, Some(&asked))],
            "nonce": nonce,
            "payload": asked.payload(),
            "stream": true,
        });
        self.sign(&format!("{prefix}/sessions/{}/chat/completions", self.escrow), body.to_string())
    }

    /// Brings these steps, and asks for the inference of the last, or for nothing.
    pub fn brings(&self, steps: &[Value], asked: Option<&Inference>) -> Asked {
        let mut body = json!({"diffs": steps, "nonce": steps.last().map(|step| step["nonce"].clone()), "stream": true});
        if let Some(asked) = asked {
            body["payload"] = asked.payload();
        }
        self.sign(&format!("/sessions/{}/chat/completions", self.escrow), body.to_string())
    }

    /// A step with these transactions of members, and the start of an inference.
    pub fn step(&self, nonce: u64, owed: &[Vec<u8>], asked: Option<&Inference>) -> Value {
        let (content, signed) = content(&self.escrow, nonce, owed, asked);
        let user_sig = self.signature(&signed);
        json!({"nonce": nonce, "txs": STANDARD.encode(content), "user_sig": STANDARD.encode(user_sig)})
    }

    /// `r ‖ s ‖ v` of the SHA-256 of a message.
    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let (signature, recovery) =
            self.key.sign_prehash_recoverable(&Sha256::digest(message)).expect("a hash is signed");
        [signature.to_bytes().as_slice(), &[recovery.to_byte()]].concat()
    }

    pub fn sign(&self, path: &str, body: String) -> Asked {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut digest = Sha256::new();
        digest.update(&self.escrow);
        digest.update(&body);
        digest.update(at.to_be_bytes());
        let bytes = self.signature(&digest.finalize());
        Asked {
            path: path.to_owned(),
            body: body.into(),
            signature: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            timestamp: at.to_string(),
            header: None,
        }
    }
}

/// The key of whoever has this secret.
pub fn key(secret: &str) -> SigningKey {
    SigningKey::from_slice(&Sha256::digest(secret)).expect("a hash is a key")
}

/// Its account, as the chain writes it.
pub fn account(key: &SigningKey) -> String {
    let hash = Sha256::digest(key.verifying_key().to_encoded_point(true).as_bytes());
    let prefix = bech32::Hrp::parse("gonka").expect("a prefix");
    bech32::encode::<bech32::Bech32>(prefix, &Ripemd160::digest(hash)).expect("20 bytes are an account")
}

/// Looks at a page of a host.
pub async fn look(host: SocketAddr, path: &str) -> anyhow::Result<(u16, Value)> {
    let asking = Request::builder().method(Method::GET).uri(path).header(HOST, "localhost");
    answered(open(host, asking.body(Full::default())?).await?).await
}

async fn answered(response: Response<Incoming>) -> anyhow::Result<(u16, Value)> {
    let status = response.status().as_u16();
    let body = tokio::time::timeout(WITHIN, response.into_body().collect()).await??.to_bytes();
    Ok((status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? }))
}

async fn open(host: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
    let stream = TokioIo::new(TcpStream::connect(host).await?);
    let (mut sender, driver) = hyper::client::conn::http1::handshake(stream).await?;
    // What ends the driver also ends the stream, where it is noticed.
    tokio::spawn(driver);
    Ok(tokio::time::timeout(WITHIN, sender.send_request(request)).await??)
}

impl Asked {
    /// Spoils the signature, so that it cannot be read as one.
    pub fn forge(&mut self) {
        self.signature.truncate(7);
    }

    /// The same with one more header, as a router adds it.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'static str) -> Asked {
        self.header = Some((name, value));
        self
    }

    /// Sends it to this host, and listens to the end.
    pub async fn send(&self, host: SocketAddr) -> Heard {
        self.resume(host, None, |_| {}).await
    }

    /// Sends it again, for what follows this event; `heard` is called for each event as it comes.
    pub async fn resume(&self, host: SocketAddr, last: Option<&str>, heard: impl FnMut(usize)) -> Heard {
        let (mut events, mut status) = (Vec::new(), 0);
        let end = match self.listen(host, last, &mut status, &mut events, heard).await {
            Ok(end) => end,
            Err(error) => End::Cut(format!("{error:#}")),
        };
        Heard { status, events, end }
    }

    /// Sends it to a route that answers in one piece.
    pub async fn ask(&self, host: SocketAddr) -> anyhow::Result<(u16, Value)> {
        answered(open(host, self.request()?).await?).await
    }

    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let asking = Request::builder().method(Method::POST).uri(&self.path).header(HOST, "localhost");
        let asking = asking.header("x-devshard-signature", &self.signature);
        let asking = asking.header("x-devshard-timestamp", &self.timestamp);
        let asking = self.header.into_iter().fold(asking, |asking, (name, value)| asking.header(name, value));
        Ok(asking.body(Full::new(self.body.clone()))?)
    }

    async fn listen(
        &self,
        host: SocketAddr,
        last: Option<&str>,
        status: &mut u16,
        events: &mut Vec<(String, String)>,
        mut heard: impl FnMut(usize),
    ) -> anyhow::Result<End> {
        let mut asking = self.request()?;
        if let Some(last) = last {
            asking.headers_mut().insert("last-event-id", last.parse()?);
        }
        let response = open(host, asking).await?;
        *status = response.status().as_u16();
        let mut body = response.into_body();
        let mut text = String::new();
        while let Some(frame) = tokio::time::timeout(SILENCE, body.frame()).await? {
            let Ok(data) = frame?.into_data() else { continue };
            text.push_str(std::str::from_utf8(&data)?);
            while let Some((event, rest)) = text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                text = rest;
                if event.starts_with(':') {
                    continue;
                }
                let of = |name: &str| {
                    let lines = event.lines().filter_map(|line| line.strip_prefix(name));
                    lines.collect::<Vec<_>>().join("\n")
                };
                let (id, kind, data) = (of("id: "), of("event: "), of("data: "));
                if kind == "error" {
                    return Ok(End::Typed(code(&data)));
                }
                let is_meta = data.starts_with("{\"devshard_meta\"");
                events.push((id, data));
                heard(events.len());
                if is_meta {
                    return Ok(End::Whole);
                }
            }
        }
        if *status == 200 { anyhow::bail!("the stream ends without its end") } else { Ok(End::Typed(code(&text))) }
    }
}

impl Heard {
    /// Whether it is everything, from the receipt to the meta event, with the tokens that the engine says.
    pub fn is_whole(&self, tokens: u32) -> Result<(), String> {
        let expected = usize::try_from(tokens).unwrap_or(usize::MAX - 3) + 3;
        if self.end != End::Whole || self.events.len() != expected {
            return Err(format!("{} events of {expected}, {:?}", self.events.len(), self.end));
        }
        for (n, (id, _)) in self.events.iter().enumerate() {
            if id.split(':').nth(1) != Some(&n.to_string()) {
                return Err(format!("event {n} has the id {id}"));
            }
        }
        let words = ["one ", "two ", "three "];
        for (n, (_, data)) in self.events[1..expected - 2].iter().enumerate() {
            let chunk: Value = serde_json::from_str(data).map_err(|error| error.to_string())?;
            if chunk["choices"][0]["delta"]["content"] != words[n % 3] {
                return Err(format!("token {n} is {chunk}"));
            }
        }
        let (first, done) = (&self.events[0].1, &self.events[expected - 2].1);
        if !first.starts_with("{\"devshard_receipt\"") || done != "[DONE]" {
            return Err(format!("it begins with {first} and ends with {done}"));
        }
        Ok(())
    }

    /// What the host has said that the next step is to hold.
    pub fn owed(&self) -> Vec<Vec<u8>> {
        let meta =
            self.events.last().and_then(|(_, data)| serde_json::from_str::<Value>(data).ok()).unwrap_or_default();
        let txs = meta["devshard_meta"]["mempool"].as_array().cloned().unwrap_or_default();
        txs.iter().filter_map(|tx| STANDARD.decode(tx.as_str()?).ok()).collect()
    }

    /// The id of the last event.
    pub fn last(&self) -> Option<&str> {
        self.events.last().map(|(id, _)| id.as_str())
    }
}

/// Tells whoever still wants to know.
pub fn told<T>(sender: &UnboundedSender<T>, what: T) {
    // A test that has seen enough does not listen any more.
    sender.send(what).ok();
}

/// Waits until so many streams have told that they have heard this many events.
pub async fn until_heard(told: &mut UnboundedReceiver<usize>, streams: usize, events: usize) -> anyhow::Result<()> {
    let mut open = 0;
    while open < streams {
        open += usize::from(told.recv().await.context("the streams have ended")? == events);
    }
    Ok(())
}

fn code(data: &str) -> String {
    let value: Value = serde_json::from_str(data).unwrap_or_default();
    value["error"]["code"].as_str().map_or_else(|| format!("untyped: {data}"), str::to_owned)
}
