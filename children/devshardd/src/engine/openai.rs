//! A model behind an OpenAI-compatible endpoint (vLLM and the like), over pooled connections.
//!
//! The identity of the inference goes along as `Idempotency-Key`. When nobody waits any more the request is dropped,
//! which ends it at the endpoint too.

use std::time::Duration;

use bytes::Bytes;
use children_kit::log::chain;
use futures_util::{Stream, StreamExt as _};
use reqwest::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use devshard_core::sse::{ModelStream, from_whole};

use super::{EngineError, Job, Purpose, give};

/// How long a connection may take. What follows has the time of the job.
const CONNECT: Duration = Duration::from_secs(5);
/// An answer in one piece, in bytes, at most.
const WHOLE: usize = 16 << 20;
/// What is told of a refusal, in bytes.
const TOLD: usize = 512;
/// How long is waited for what changes nothing any more: the words of a refusal, the end behind `[DONE]`.
const LINGER: Duration = Duration::from_secs(1);

/// An endpoint.
#[derive(Debug, Clone)]
pub struct OpenAi {
    client: reqwest::Client,
    url: reqwest::Url,
    /// Of sealed requests.
    sealed: reqwest::Url,
}

/// Why an endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("not a URL of an endpoint")]
    Url,
    #[error("no HTTP client can be made")]
    Client(#[source] reqwest::Error),
}

impl OpenAi {
    /// The endpoint below this URL, which has `/v1/chat/completions`, and `/api/v1/encrypted/chat/completions` where its
    /// model opens what is sealed.
    pub fn new(base: &str) -> Result<OpenAi, EndpointError> {
        let base: reqwest::Url = base.parse().map_err(|_| EndpointError::Url)?;
        let below = |route: &str| {
            let url = format!("{}/{route}", base.as_str().trim_end_matches('/'));
            url.parse::<reqwest::Url>().map_err(|_| EndpointError::Url)
        };
        let (url, sealed) = (below("v1/chat/completions")?, below("api/v1/encrypted/chat/completions")?);
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(EndpointError::Client)?;
        Ok(OpenAi { client, url, sealed })
    }

    pub(super) async fn run(&self, job: &Job, payloads: mpsc::Sender<Bytes>) -> Result<(), EngineError> {
        let (url, body) = match job.purpose {
            Purpose::Answer | Purpose::Check => (&self.url, body(job).into()),
            Purpose::Sealed => (&self.sealed, job.prompt.clone()),
        };
        let asking = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", job.name())
            .body(body);
        let answering = async {
            match asking.send().await {
                Ok(answer) => Ok(answer),
                Err(error) if error.is_connect() => Err(EngineError::NotReached(Box::new(error))),
                Err(error) => Err(broken_off(error)),
            }
        };
        let answer = tokio::select! {
            answer = answering => answer?,
            () = payloads.closed() => return Err(EngineError::Cancelled),
        };
        let status = answer.status();
        if !status.is_success() {
            let body = told(answer).await;
            // Those say that the model was asked, and no more: a proxy says 502 of one that died at work, too.
            return Err(if matches!(status.as_u16(), 408 | 500 | 502 | 504) {
                EngineError::BrokenOff(format!("{status}: {body}"))
            } else {
                EngineError::Refused { status: status.as_u16(), body }
            });
        }
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if content_type.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            stream(answer, &payloads).await
        } else {
            whole(answer, &payloads).await
        }
    }
}

async fn stream(answer: reqwest::Response, payloads: &mpsc::Sender<Bytes>) -> Result<(), EngineError> {
    let (mut said, mut events, mut pieces) = (ModelStream::default(), Vec::new(), answer.bytes_stream());
    while !said.is_done() {
        let Some(piece) = next(&mut pieces, payloads).await? else { return said.finish().map_err(broken_off) };
        let read = said.push(&piece, &mut events);
        for event in events.drain(..) {
            give(payloads, Bytes::from(event)).await?;
        }
        read.map_err(broken_off)?;
    }
    // A connection is used again only if its answer was read to the end; the job does not wait for that.
    tokio::spawn(tokio::time::timeout(LINGER, async move { while let Some(Ok(_)) = pieces.next().await {} }));
    Ok(())
}

/// An answer in one piece is one event.
async fn whole(answer: reqwest::Response, payloads: &mpsc::Sender<Bytes>) -> Result<(), EngineError> {
    let (mut body, mut pieces) = (Vec::new(), answer.bytes_stream());
    while let Some(piece) = next(&mut pieces, payloads).await? {
        body.extend(piece);
        if body.len() > WHOLE {
            return Err(EngineError::BrokenOff(format!("an answer of more than {WHOLE} bytes")));
        }
    }
    for event in from_whole(&body).map_err(broken_off)? {
        give(payloads, Bytes::from(event)).await?;
    }
    Ok(())
}

/// The beginning of what a refusal says. That it is one is known without.
async fn told(answer: reqwest::Response) -> String {
    let (mut body, mut pieces) = (Vec::new(), answer.bytes_stream());
    let reading = async {
        while body.len() < TOLD
            && let Some(Ok(piece)) = pieces.next().await
        {
            body.extend(piece);
        }
    };
    // What has come until then is told.
    let _ = tokio::time::timeout(LINGER, reading).await;
    String::from_utf8_lossy(&body[..body.len().min(TOLD)]).into_owned()
}

/// The next bytes of an answer, as long as somebody waits for them.
async fn next(
    pieces: &mut (impl Stream<Item = reqwest::Result<Bytes>> + Unpin),
    payloads: &mpsc::Sender<Bytes>,
) -> Result<Option<Bytes>, EngineError> {
    tokio::select! {
        piece = pieces.next() => piece.transpose().map_err(broken_off),
        () = payloads.closed() => Err(EngineError::Cancelled),
    }
}

fn broken_off(error: impl std::error::Error) -> EngineError {
    EngineError::BrokenOff(chain(&error))
}

/// The prompt is a body already, or the words of a user.
fn body(job: &Job) -> String {
    let given = serde_json::from_slice::<Map<String, Value>>(&job.prompt).ok();
    let mut body = given.filter(|body| body.contains_key("messages")).unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&job.prompt);
        Map::from_iter([("messages".to_owned(), json!([{"role": "user", "content": text}]))])
    });
    for (name, value) in [
        ("model", json!(job.model)),
        ("max_tokens", json!(job.max_tokens)),
        ("seed", json!(job.key.seed())),
        ("stream", json!(job.stream)),
    ] {
        body.insert(name.to_owned(), value);
    }
    // Other words for how much may be said, which are not paid for.
    for name in ["max_completion_tokens", "min_tokens", "n", "best_of"] {
        body.remove(name);
    }
    // What is to be paid for is what the model has counted.
    if job.stream {
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    Value::Object(body).to_string()
}
