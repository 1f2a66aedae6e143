//! What a client asks for: the body of `POST /sessions/{id}/chat/completions`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::diffs::Diff;
use crate::ids::{InferenceId, Nonce};

/// Diffs in one request, at most.
pub const DIFFS: usize = 4_096;
/// The name of a model, in bytes, at most.
pub const MODEL: usize = 256;

/// A request that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// In order of their nonces.
    pub diffs: Vec<Diff>,
    /// The step that asks for the inference.
    pub nonce: Nonce,
    pub payload: Payload,
    /// Whether the model is to stream.
    pub stream: bool,
}

/// What the model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pub prompt: Vec<u8>,
    pub model: String,
    pub input_length: u64,
    pub max_tokens: u32,
    /// Seconds since 1970.
    pub started_at: i64,
    pub session_id: Option<String>,
}

/// What is wrong with a body, and where.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the body is not the JSON that is expected here")]
    Json(#[source] serde_json::Error),
    #[error("{0}: not base64")]
    Base64(String),
    #[error("{place}: {problem}")]
    Bounds { place: String, problem: String },
}

impl Request {
    /// Reads a body. Fields that are not known are left alone: the upstream adds some.
    pub fn read(body: &[u8]) -> Result<Request, RequestError> {
        let raw: Raw = serde_json::from_slice(body).map_err(RequestError::Json)?;
        if raw.diffs.len() > DIFFS {
            return Err(bounds("diffs", format!("{} of them, and {DIFFS} may be", raw.diffs.len())));
        }
        let mut diffs: Vec<Diff> = Vec::with_capacity(raw.diffs.len());
        for (at, raw) in raw.diffs.iter().enumerate() {
            let diff = raw.read(at)?;
            if let Some(before) = diffs.last()
                && before.nonce >= diff.nonce
            {
                let problem = format!("{} follows {}: diffs are in order of their nonces", diff.nonce, before.nonce);
                return Err(bounds(&format!("diffs[{at}].nonce"), problem));
            }
            diffs.push(diff);
        }
        if raw.nonce == 0 {
            return Err(bounds("nonce", "a session begins with 1".to_owned()));
        }
        Ok(Request { diffs, nonce: Nonce(raw.nonce), payload: raw.payload.read()?, stream: raw.stream.unwrap_or(true) })
    }

    /// The inference that is asked for: one for each step.
    #[must_use]
    pub const fn inference(&self) -> InferenceId {
        InferenceId(self.nonce.0)
    }
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    diffs: Vec<RawDiff>,
    nonce: u64,
    payload: RawPayload,
    stream: Option<bool>,
}

#[derive(Deserialize)]
struct RawDiff {
    nonce: u64,
    #[serde(default)]
    txs: String,
    #[serde(default)]
    user_sig: String,
    #[serde(default)]
    post_state_root: String,
}

#[derive(Deserialize)]
struct RawPayload {
    prompt: String,
    model: String,
    #[serde(default)]
    input_length: u64,
    max_tokens: u32,
    #[serde(default)]
    started_at: i64,
    session_id: Option<String>,
}

impl RawDiff {
    fn read(&self, at: usize) -> Result<Diff, RequestError> {
        let of = |name: &str, text: &str| base64(&format!("diffs[{at}].{name}"), text);
        Ok(Diff {
            nonce: Nonce(self.nonce),
            txs: of("txs", &self.txs)?,
            user_sig: of("user_sig", &self.user_sig)?,
            post_state_root: of("post_state_root", &self.post_state_root)?,
        })
    }
}

impl RawPayload {
    fn read(self) -> Result<Payload, RequestError> {
        if self.model.is_empty() || self.model.len() > MODEL {
            return Err(bounds("payload.model", format!("the name of a model has 1 to {MODEL} bytes")));
        }
        if self.max_tokens == 0 {
            return Err(bounds("payload.max_tokens", "a model that may say nothing is not asked".to_owned()));
        }
        Ok(Payload {
            prompt: base64("payload.prompt", &self.prompt)?,
            model: self.model,
            input_length: self.input_length,
            max_tokens: self.max_tokens,
            started_at: self.started_at,
            session_id: self.session_id,
        })
    }
}

fn base64(place: &str, text: &str) -> Result<Vec<u8>, RequestError> {
    STANDARD.decode(text).map_err(|_| RequestError::Base64(place.to_owned()))
}

fn bounds(place: &str, problem: String) -> RequestError {
    RequestError::Bounds { place: place.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read() {
        let body = br#"{"diffs":[{"nonce":1,"txs":"YQ==","user_sig":"Yg==","post_state_root":"Yw=="}],"nonce":1,
            "payload":{"prompt":"aGk=","model":"m","input_length":1,"max_tokens":5,"started_at":9},"later":true}"#;
        let request = Request::read(body).unwrap();
        assert_eq!(request.diffs[0].txs, b"a");
        assert_eq!((request.payload.prompt.as_slice(), request.stream), (&b"hi"[..], true));
        assert_eq!(request.inference(), InferenceId(1));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let payload = r#""payload":{"prompt":"","model":"m","max_tokens":1}"#;
        for (body, expected) in [
            (format!(r#"{{"nonce":0,{payload}}}"#), "nonce: a session begins with 1"),
            (format!(r#"{{"nonce":1,"diffs":[{{"nonce":1,"txs":"*"}}],{payload}}}"#), "diffs[0].txs: not base64"),
            (
                format!(r#"{{"nonce":1,"diffs":[{{"nonce":2}},{{"nonce":2}}],{payload}}}"#),
                "diffs[1].nonce: 2 follows 2: diffs are in order of their nonces",
            ),
            (
                r#"{"nonce":1,"payload":{"prompt":"","model":"m","max_tokens":0}}"#.to_owned(),
                "payload.max_tokens: a model that may say nothing is not asked",
            ),
            (
                r#"{"nonce":1,"payload":{"prompt":"","model":"","max_tokens":1}}"#.to_owned(),
                "payload.model: the name of a model has 1 to 256 bytes",
            ),
            ("{}".to_owned(), "the body is not the JSON that is expected here"),
        ] {
            assert_eq!(Request::read(body.as_bytes()).unwrap_err().to_string(), expected, "{body}");
        }
    }
}
