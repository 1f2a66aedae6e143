//! An admin API, the daemon's or a router's: requests, typed answers, and the schema check. What a router is
//! asked is in `router`.

use std::path::PathBuf;
use std::time::Duration;

use camino::Utf8Path;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value;
use supervisor_protocol::SCHEMA;
use supervisor_protocol::admin::{ApiError, DenyList, Plan, Reloaded, Status, Verb, Why};
use supervisor_protocol::catalog::{AcceptRequest, CatalogCheck, CatalogReport, CheckRequest};
use supervisor_protocol::host::HostDrain;
use supervisor_protocol::{BootNonce, Sha256, SlotId};

use crate::failure::Failure;
use crate::wire::{Place, WireError, ask, begin};

/// The daemon answers from memory; the ledger write of a cordon is the slowest thing it waits for.
pub(crate) const ANSWER: Duration = Duration::from_secs(15);

/// It reads the catalog's source, or another document, on the way.
const READS: Duration = Duration::from_secs(45);

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    Daemon,
    Router,
}

/// One daemon, or one router.
pub(crate) struct Client {
    whom: Whom,
    place: Place,
    /// What a port asks for.
    token: Option<String>,
}

/// An answer as it came, and as it was understood.
pub(crate) struct Told<T> {
    pub(crate) json: Value,
    pub(crate) body: T,
}

impl Client {
    /// `place`: a path, `unix:` and a path, as the daemon's own configuration has it, or `http://` and an address.
    pub(crate) fn new(place: &str, token_file: Option<&Utf8Path>) -> Result<Self, Failure> {
        let place = match place.strip_prefix("http://") {
            Some(address) => match address.trim_end_matches('/').parse() {
                Ok(address) => Place::Tcp(address),
                Err(_) => return Err(Failure::Place(place.to_owned())),
            },
            None => Place::Unix(PathBuf::from(place.strip_prefix("unix:").unwrap_or(place))),
        };
        Ok(Self { whom: Whom::Daemon, place, token: token_file.map(token).transpose()? })
    }

    /// `place`: `http://`, a name or an address, and a port.
    pub(crate) fn of_router(place: &str, token_file: Option<&Utf8Path>) -> Result<Self, Failure> {
        let address = place.strip_prefix("http://").map(|address| address.trim_end_matches('/'));
        let has_port = |address: &&str| {
            address.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok())
        };
        let address = address.filter(has_port).ok_or_else(|| Failure::RouterPlace(place.to_owned()))?;
        let place = Place::Named(address.to_owned());
        Ok(Self { whom: Whom::Router, place, token: token_file.map(token).transpose()? })
    }

    pub(crate) async fn status(&self) -> Result<Told<Status>, Failure> {
        self.send(Method::GET, "/v1/status", ANSWER).await
    }

    pub(crate) async fn why(&self, slot: Option<&SlotId>) -> Result<Told<Why>, Failure> {
        self.send(Method::GET, &about("/v1/why", slot), ANSWER).await
    }

    pub(crate) async fn plan(&self, slot: Option<&SlotId>) -> Result<Told<Plan>, Failure> {
        self.send(Method::GET, &about("/v1/plan", slot), ANSWER).await
    }

    /// A reload may ask programs what they are.
    pub(crate) async fn reload(&self) -> Result<Told<Reloaded>, Failure> {
        self.send(Method::POST, "/v1/reload", 4 * ANSWER).await
    }

    pub(crate) async fn drain(&self) -> Result<Told<HostDrain>, Failure> {
        self.send(Method::POST, "/v1/drain", ANSWER).await
    }

    /// An order to one slot; answers with the status once it is in force.
    pub(crate) async fn order(&self, slot: &SlotId, verb: &Verb) -> Result<Told<Status>, Failure> {
        let path = format!("/v1/services/{}/versions/{}/{}", slot.service, slot.name, verb.as_str());
        // The options of a verb are its fields; the verb itself is in the path.
        let mut options = serde_json::to_value(verb).unwrap_or_default();
        if let Some(fields) = options.as_object_mut() {
            fields.remove("verb");
        }
        self.exchange(Method::POST, &path, options.to_string(), ANSWER).await
    }

    /// What may not run here.
    pub(crate) async fn denied(&self) -> Result<Told<DenyList>, Failure> {
        self.send(Method::GET, "/v1/deny", ANSWER).await
    }

    pub(crate) async fn deny(&self, sha256: &Sha256) -> Result<Told<DenyList>, Failure> {
        self.send(Method::POST, &format!("/v1/deny/{sha256}"), ANSWER).await
    }

    pub(crate) async fn allow(&self, sha256: &Sha256) -> Result<Told<DenyList>, Failure> {
        self.send(Method::DELETE, &format!("/v1/deny/{sha256}"), ANSWER).await
    }

    pub(crate) async fn catalog(&self) -> Result<Told<CatalogReport>, Failure> {
        self.send(Method::GET, "/v1/catalog", ANSWER).await
    }

    /// Has the source read now.
    pub(crate) async fn accept(&self, reset: bool) -> Result<Told<CatalogReport>, Failure> {
        let body = serde_json::json!(AcceptRequest { reset }).to_string();
        self.exchange(Method::POST, "/v1/catalog/accept", body, READS).await
    }

    pub(crate) async fn check(&self, request: &CheckRequest) -> Result<Told<CatalogCheck>, Failure> {
        let body = serde_json::json!(request).to_string();
        self.exchange(Method::POST, "/v1/catalog/check", body, READS).await
    }

    pub(crate) async fn undrain(&self) -> Result<Told<HostDrain>, Failure> {
        self.send(Method::DELETE, "/v1/drain", ANSWER).await
    }

    /// How far the host's drain has come; answers once something differs from `since`, or after `wait`.
    pub(crate) async fn drain_status(
        &self,
        since: Option<&(BootNonce, u64)>,
        wait: Duration,
    ) -> Result<Told<HostDrain>, Failure> {
        let path = match since {
            Some((_, seq)) => format!("/drain/status?since={seq}&wait={}ms", wait.as_millis().max(1)),
            None => "/drain/status".to_owned(),
        };
        self.send(Method::GET, &path, ANSWER + wait).await
    }

    /// Without a body.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        limit: Duration,
    ) -> Result<Told<T>, Failure> {
        self.exchange(method, path, String::new(), limit).await
    }

    pub(crate) async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: String,
        limit: Duration,
    ) -> Result<Told<T>, Failure> {
        let headers = self.headers(&[]);
        let answer =
            ask(&self.place, method, path, &headers, body, limit).await.map_err(|error| self.failure(path, error))?;
        let malformed = |source| self.malformed(path, answer.status, source);
        if !answer.status.is_success() {
            return Err(self.refused(serde_json::from_slice::<ApiError>(&answer.body).map_err(malformed)?));
        }
        let json: Value = serde_json::from_slice(&answer.body).map_err(malformed)?;
        // Before the body is read: a newer schema is refused by name, not by the field that has changed.
        if let Some(found) = json["schema"].as_u64().filter(|found| *found > u64::from(SCHEMA)) {
            return Err(Failure::Schema { path: path.to_owned(), found, known: SCHEMA });
        }
        let body = T::deserialize(&json).map_err(malformed)?;
        Ok(Told { json, body })
    }

    /// A body that goes on for as long as the daemon has something to say.
    pub(crate) async fn stream(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Incoming, Failure> {
        let headers = self.headers(headers);
        let begun = begin(&self.place, method, path, &headers, "");
        let begun = tokio::time::timeout(ANSWER, begun).await.unwrap_or(Err(WireError::Silent(ANSWER)));
        let (head, body) = begun.map_err(|error| self.failure(path, error))?.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let body = body.collect().await.map_err(|source| self.broke(path, source))?.to_bytes();
        let error = serde_json::from_slice(&body).map_err(|source| self.malformed(path, head.status, source))?;
        Err(self.refused(error))
    }

    pub(crate) fn broke(&self, path: &str, source: hyper::Error) -> Failure {
        self.failure(path, WireError::Broke(source))
    }

    pub(crate) fn malformed(&self, path: &str, status: StatusCode, source: serde_json::Error) -> Failure {
        Failure::Malformed { place: self.place.clone(), path: path.to_owned(), status, source }
    }

    fn headers<'h>(&'h self, more: &[(&'h str, &'h str)]) -> Vec<(&'h str, &'h str)> {
        more.iter().copied().chain(self.token.as_deref().map(|token| ("authorization", token))).collect()
    }

    fn refused(&self, error: ApiError) -> Failure {
        match (self.whom, error.code.as_str()) {
            (Whom::Router, "token") => Failure::RouterToken(self.place.clone()),
            (Whom::Router | Whom::Daemon, _) => Failure::Refused(error),
        }
    }

    fn failure(&self, path: &str, error: WireError) -> Failure {
        let place = self.place.clone();
        match error {
            WireError::Connect(source) => Failure::Unreachable { whom: self.whom, place, source },
            source @ (WireError::Broke(_) | WireError::Request(_) | WireError::Silent(_)) => {
                Failure::Exchange { place, path: path.to_owned(), source }
            }
        }
    }
}

fn token(path: &Utf8Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| Failure::Token { path: path.to_owned(), source })?;
    Ok(format!("Bearer {}", text.trim()))
}

fn about(path: &str, slot: Option<&SlotId>) -> String {
    match slot {
        // Of the characters that a name may have, a query gives a meaning to '+' alone.
        Some(slot) => format!("{path}?slot={}", slot.to_string().replace('+', "%2B")),
        None => path.to_owned(),
    }
}
