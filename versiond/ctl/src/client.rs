//! The daemon's admin API: requests, typed answers, and the schema check.

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use supervisor_protocol::SCHEMA;
use supervisor_protocol::admin::{ApiError, DenyList, Status, Verb, Why};
use supervisor_protocol::host::HostDrain;
use supervisor_protocol::{BootNonce, Sha256, SlotId};

use crate::failure::Failure;
use crate::wire::{Place, WireError, ask};

/// The daemon answers from memory; the ledger write of a cordon is the slowest thing it waits for.
const ANSWER: Duration = Duration::from_secs(15);

/// One daemon.
pub(crate) struct Client {
    socket: PathBuf,
}

/// An answer as it came, and as it was understood.
pub(crate) struct Told<T> {
    pub(crate) json: Value,
    pub(crate) body: T,
}

impl Client {
    /// `socket`: a path, or `unix:` and a path, as the daemon's own configuration has it.
    pub(crate) fn new(socket: &str) -> Self {
        Self { socket: PathBuf::from(socket.strip_prefix("unix:").unwrap_or(socket)) }
    }

    pub(crate) async fn status(&self) -> Result<Told<Status>, Failure> {
        self.send(Method::GET, "/v1/status", ANSWER).await
    }

    pub(crate) async fn why(&self, slot: Option<&SlotId>) -> Result<Told<Why>, Failure> {
        let path = match slot {
            // Of the characters that a name may have, a query gives a meaning to '+' alone.
            Some(slot) => format!("/v1/why?slot={}", slot.to_string().replace('+', "%2B")),
            None => "/v1/why".to_owned(),
        };
        self.send(Method::GET, &path, ANSWER).await
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
        let place = Place::Unix(self.socket.clone());
        let answer = ask(&place, method, path, &[], body, limit).await.map_err(|error| self.failure(path, error))?;
        let malformed = |source| Failure::Malformed {
            socket: self.socket.clone(),
            path: path.to_owned(),
            status: answer.status,
            source,
        };
        if !answer.status.is_success() {
            return Err(Failure::Refused(serde_json::from_slice::<ApiError>(&answer.body).map_err(malformed)?));
        }
        let json: Value = serde_json::from_slice(&answer.body).map_err(malformed)?;
        // Before the body is read: a newer schema is refused by name, not by the field that has changed.
        if let Some(found) = json["schema"].as_u64().filter(|found| *found > u64::from(SCHEMA)) {
            return Err(Failure::Schema { path: path.to_owned(), found, known: SCHEMA });
        }
        let body = T::deserialize(&json).map_err(malformed)?;
        Ok(Told { json, body })
    }

    fn failure(&self, path: &str, error: WireError) -> Failure {
        match error {
            WireError::Connect(source) => Failure::Unreachable { socket: self.socket.clone(), source },
            source @ (WireError::Broke(_) | WireError::Request(_) | WireError::Silent(_)) => {
                Failure::Exchange { socket: self.socket.clone(), path: path.to_owned(), source }
            }
        }
    }
}
