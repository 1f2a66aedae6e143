//! What a client asks for: the body of `POST /sessions/{id}/chat/completions`.
//!
//! [`crate::group`] reads what members of a group ask each other.
//!
//! Must not live here: how large a body may be, who sent it, and whether its diffs fit a history ([`crate::diffs`]).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::canonical::canonical;
use crate::diffs::Diff;
use crate::ids::{EscrowId, InferenceId, Nonce};

/// Diffs in one request, at most.
pub const DIFFS: usize = 4_096;
/// The name of a model, in characters, at most.
pub const MODEL: usize = 256;

/// A request that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// In order of their nonces.
    pub diffs: Vec<Diff>,
    /// The step that asks for the inference.
    pub nonce: Nonce,
    /// What the model is asked. Without one nothing is run: the session takes the steps and says its state.
    pub payload: Option<Payload>,
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
    #[error("the body is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("{place}: not of the kind that is expected here")]
    Kind { place: String, source: serde_json::Error },
    #[error("{0}: missing")]
    Missing(String),
    #[error("{place}: not base64")]
    Base64 { place: String, source: base64::DecodeError },
    #[error("{place}: {problem}")]
    Bounds { place: String, problem: String },
}

/// A request that only the model can read, by what stands on its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The step that asks for the inference.
    pub nonce: Nonce,
    pub prompt_hash: Vec<u8>,
}

impl Sealed {
    /// Reads the envelope of a request for the session of this escrow.
    pub fn read(body: &[u8], escrow: &EscrowId) -> Result<Sealed, RequestError> {
        let raw: RawSealed = json(body)?;
        let version = required("version", raw.version)?;
        if version != 1 {
            return Err(bounds("version", format!("1 is known: `{version}`")));
        }
        if required("session_id", raw.session_id)? != escrow.as_str() {
            return Err(bounds("session_id", "another session's".to_owned()));
        }
        let nonce = Nonce(required("nonce", raw.nonce)?);
        Ok(Sealed { nonce, prompt_hash: base64("prompt_hash", &required("prompt_hash", raw.prompt_hash)?)? })
    }
}

impl Payload {
    /// What its owner signs of the prompt.
    #[must_use]
    pub fn prompt_hash(&self) -> [u8; 32] {
        prompt_hash(&self.prompt)
    }
}

/// SHA-256 of the canonical JSON of a prompt. One that is no JSON is hashed as it is; the upstream takes none.
#[must_use]
pub fn prompt_hash(prompt: &[u8]) -> [u8; 32] {
    match canonical(prompt) {
        Ok(text) => Sha256::digest(text).into(),
        Err(_) => Sha256::digest(prompt).into(),
    }
}

impl RequestError {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            RequestError::Json(_) => "request_not_json",
            RequestError::Kind { .. } => "request_wrong_kind",
            RequestError::Missing(_) => "request_missing_field",
            RequestError::Base64 { .. } => "request_not_base64",
            RequestError::Bounds { .. } => "request_out_of_bounds",
        }
    }
}

impl Request {
    /// Reads a body. Fields that are not known are left alone: the upstream adds some.
    pub fn read(body: &[u8]) -> Result<Request, RequestError> {
        let raw: Raw = json(body)?;
        let diffs = read_diffs(&raw.diffs)?;
        let nonce = required("nonce", raw.nonce)?;
        if nonce == 0 {
            return Err(bounds("nonce", "a session begins with 1".to_owned()));
        }
        let payload = raw.payload.map(RawPayload::read).transpose()?;
        Ok(Request { diffs, nonce: Nonce(nonce), payload, stream: raw.stream.unwrap_or(true) })
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
    nonce: Option<u64>,
    payload: Option<RawPayload>,
    stream: Option<bool>,
}

/// Reads a body, and nothing behind it.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, RequestError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let raw = serde_path_to_error::deserialize(&mut json).map_err(misread)?;
    json.end().map_err(RequestError::Json)?;
    Ok(raw)
}

pub(crate) fn read_diffs(raw: &[RawDiff]) -> Result<Vec<Diff>, RequestError> {
    if raw.len() > DIFFS {
        return Err(bounds("diffs", format!("{} of them, and {DIFFS} may be", raw.len())));
    }
    let mut diffs: Vec<Diff> = Vec::with_capacity(raw.len());
    for (at, raw) in raw.iter().enumerate() {
        let diff = raw.read(at)?;
        if let Some(before) = diffs.last()
            && before.nonce >= diff.nonce
        {
            let problem = format!("{} follows {}: diffs are in order of their nonces", diff.nonce, before.nonce);
            return Err(bounds(&format!("diffs[{at}].nonce"), problem));
        }
        diffs.push(diff);
    }
    Ok(diffs)
}

#[derive(Deserialize)]
struct RawSealed {
    version: Option<u64>,
    session_id: Option<String>,
    nonce: Option<u64>,
    prompt_hash: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct RawDiff {
    nonce: Option<u64>,
    #[serde(default)]
    txs: String,
    #[serde(default)]
    user_sig: String,
    #[serde(default)]
    post_state_root: String,
}

#[derive(Deserialize)]
pub(crate) struct RawPayload {
    prompt: Option<String>,
    model: Option<String>,
    #[serde(default)]
    input_length: u64,
    max_tokens: Option<u32>,
    #[serde(default)]
    started_at: i64,
    session_id: Option<String>,
}

impl RawDiff {
    fn read(&self, at: usize) -> Result<Diff, RequestError> {
        let of = |name: &str, text: &str| base64(&format!("diffs[{at}].{name}"), text);
        Ok(Diff {
            nonce: Nonce(required(&format!("diffs[{at}].nonce"), self.nonce)?),
            txs: of("txs", &self.txs)?,
            user_sig: of("user_sig", &self.user_sig)?,
            post_state_root: of("post_state_root", &self.post_state_root)?,
        })
    }
}

impl RawPayload {
    pub(crate) fn read(self) -> Result<Payload, RequestError> {
        let prompt = required("payload.prompt", self.prompt)?;
        let model = required("payload.model", self.model)?;
        if !(1..=MODEL).contains(&model.chars().count()) {
            return Err(bounds("payload.model", format!("the name of a model has 1 to {MODEL} characters")));
        }
        let max_tokens = required("payload.max_tokens", self.max_tokens)?;
        if max_tokens == 0 {
            return Err(bounds("payload.max_tokens", "a model that may say nothing is not asked".to_owned()));
        }
        Ok(Payload {
            prompt: base64("payload.prompt", &prompt)?,
            model,
            input_length: self.input_length,
            max_tokens,
            started_at: self.started_at,
            session_id: self.session_id,
        })
    }
}

fn misread(error: serde_path_to_error::Error<serde_json::Error>) -> RequestError {
    let place = error.path().to_string();
    let source = error.into_inner();
    // Text that is no JSON is so as a whole, wherever the reader was. The path of the whole is a dot.
    match source.classify() {
        serde_json::error::Category::Data => {
            RequestError::Kind { place: if place == "." { "the body".to_owned() } else { place }, source }
        }
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            RequestError::Json(source)
        }
    }
}

pub(crate) fn required<T>(place: &str, value: Option<T>) -> Result<T, RequestError> {
    value.ok_or_else(|| RequestError::Missing(place.to_owned()))
}

pub(crate) fn base64(place: &str, text: &str) -> Result<Vec<u8>, RequestError> {
    STANDARD.decode(text).map_err(|source| RequestError::Base64 { place: place.to_owned(), source })
}

pub(crate) fn bounds(place: &str, problem: String) -> RequestError {
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
        assert_eq!((request.payload.as_ref().unwrap().prompt.as_slice(), request.stream), (&b"hi"[..], true));
        assert_eq!(request.inference(), InferenceId(1));
    }

    #[test]
    fn what_is_left_out_or_not_known_does_no_harm() {
        let body = br#"{"nonce":7,"payload":{"prompt":"","model":"m","max_tokens":1,"new":[1]},"stream":false,"x":{}}"#;
        let request = Request::read(body).unwrap();
        assert_eq!((request.diffs.len(), request.stream, request.payload.unwrap().session_id), (0, false, None));
        let long = "\u{e9}".repeat(MODEL);
        let body = format!(r#"{{"nonce":7,"payload":{{"prompt":"","model":"{long}","max_tokens":1}}}}"#);
        assert_eq!(Request::read(body.as_bytes()).unwrap().payload.unwrap().model, long);
    }

    #[test]
    fn an_envelope_is_read_and_nothing_in_it() {
        let escrow = "e-1".parse().unwrap();
        let read = |body: &str| Sealed::read(body.as_bytes(), &escrow).map_err(|error| error.to_string());
        let body = r#"{"version":1,"session_id":"e-1","nonce":3,"prompt_hash":"aGk=","ciphertext":"…","enc":"…"}"#;
        assert_eq!(read(body), Ok(Sealed { nonce: Nonce(3), prompt_hash: b"hi".to_vec() }));
        assert_eq!(read("{}"), Err("version: missing".to_owned()));
        assert_eq!(read(&body.replace(":1,", ":2,")), Err("version: 1 is known: `2`".to_owned()));
        assert_eq!(read(&body.replace("e-1", "e-2")), Err("session_id: another session's".to_owned()));
        assert_eq!(read(&body.replace("aGk=", "*")), Err("prompt_hash: not base64".to_owned()));
    }

    /// A body whose payload has this in the place of one field.
    fn with(name: &str, value: &str) -> String {
        let fields = [("prompt", r#""aGk=""#), ("model", r#""m""#), ("max_tokens", "1")];
        let fields = fields.map(|(field, usual)| format!(r#""{field}":{}"#, if field == name { value } else { usual }));
        format!(r#"{{"nonce":1,"payload":{{{}}}}}"#, fields.join(","))
    }

    fn with_diffs(diffs: &str) -> String {
        with("", "").replacen('{', &format!(r#"{{"diffs":[{diffs}],"#), 1)
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let many = vec![r#"{"nonce":1}"#; DIFFS + 1].join(",");
        let long = format!(r#""{}""#, "m".repeat(MODEL + 1));
        for (body, code, expected) in [
            (String::new(), "request_not_json", "the body is not JSON"),
            ("{".to_owned(), "request_not_json", "the body is not JSON"),
            (with("", "") + "{}", "request_not_json", "the body is not JSON"),
            ("7".to_owned(), "request_wrong_kind", "the body: not of the kind that is expected here"),
            ("{}".to_owned(), "request_missing_field", "nonce: missing"),
            (r#"{"nonce":-1}"#.to_owned(), "request_wrong_kind", "nonce: not of the kind that is expected here"),
            (with("", "").replace(":1,", ":0,"), "request_out_of_bounds", "nonce: a session begins with 1"),
            (with("prompt", "null"), "request_missing_field", "payload.prompt: missing"),
            (with("prompt", r#""*""#), "request_not_base64", "payload.prompt: not base64"),
            (with("model", "7"), "request_wrong_kind", "payload.model: not of the kind that is expected here"),
            (
                with("model", r#""""#),
                "request_out_of_bounds",
                "payload.model: the name of a model has 1 to 256 characters",
            ),
            (
                with("model", &long),
                "request_out_of_bounds",
                "payload.model: the name of a model has 1 to 256 characters",
            ),
            (
                with("max_tokens", "0"),
                "request_out_of_bounds",
                "payload.max_tokens: a model that may say nothing is not asked",
            ),
            (with_diffs("{}"), "request_missing_field", "diffs[0].nonce: missing"),
            (
                with_diffs(r#"{"nonce":1},{"nonce":"2"}"#),
                "request_wrong_kind",
                "diffs[1].nonce: not of the kind that is expected here",
            ),
            (with_diffs(r#"{"nonce":1,"txs":"*"}"#), "request_not_base64", "diffs[0].txs: not base64"),
            (
                with_diffs(r#"{"nonce":2},{"nonce":2}"#),
                "request_out_of_bounds",
                "diffs[1].nonce: 2 follows 2: diffs are in order of their nonces",
            ),
            (with_diffs(&many), "request_out_of_bounds", "diffs: 4097 of them, and 4096 may be"),
        ] {
            let said = Request::read(body.as_bytes()).unwrap_err();
            assert_eq!((said.code(), said.to_string().as_str()), (code, expected), "{body:.80}");
        }
    }
}
