//! Talking to a child: its admin listener and its serving port, each call with a timeout.
//!
//! A child of contract v1 has a Unix socket, an older one a loopback port, a program that knows of no supervisor
//! only the port that it serves on. Must not live here: what an answer means for the generation.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use supervisor_protocol::contract::{DrainStatus, Ready};

use crate::ask::{ChildError, Line, Question, Stream, dial_port, dial_socket, is_absent};
use crate::metrics::Source;
use crate::process::Account;
use crate::supervisor::notify::Notified;

/// The largest body that a child may answer about itself, in bytes.
const BODY_MAX: usize = 64 << 10;

/// How one child is reached.
#[derive(Debug, Clone)]
pub(crate) struct ChildLink {
    /// Where it serves, unless that is a socket.
    pub(crate) port: u16,
    /// The Unix socket on which it serves, bound by its supervisor.
    pub(crate) socket: Option<PathBuf>,
    /// Whether something answers there at all: a worker may have been told no port.
    pub(crate) has_port: bool,
    pub(crate) admin: Admin,
    /// Whose its sockets are, when they are not versiond's own user's.
    pub(crate) account: Option<Account>,
    /// Asked instead of the usual path.
    pub(crate) ready_path: Option<String>,
    /// What it says of itself on its notification socket, when its readiness is to come from there.
    pub(crate) notified: Option<Notified>,
    /// How long its start is said to take.
    pub(crate) start_estimate: Duration,
}

/// Where a child takes its supervisor's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admin {
    Socket(PathBuf),
    /// Of an older child; the port that serves, when it has no other.
    Port(u16),
    Nowhere,
}

/// What a child counts while it drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Inflight(u64),
    /// It has no such endpoint.
    Unknown,
}

impl ChildLink {
    /// Where it gives its metrics, when its contract has any. An older child has them beside what it serves.
    pub(crate) fn metrics(&self) -> Option<Source> {
        match &self.admin {
            Admin::Socket(socket) => Some(Source::Socket(socket.clone(), self.account.clone())),
            Admin::Port(_) => self.has_port.then_some(Source::Port(self.port)),
            Admin::Nowhere => None,
        }
    }

    /// `GET /ready`, whatever its status.
    pub(crate) async fn ready(&self, line: &mut Line, within: Duration) -> Result<Ready, ChildError> {
        let (place, _, body) = self.admin(line, Method::GET, "/ready", within).await?;
        parse(place, &body)
    }

    /// `GET` of a path on the admin listener of an older child: its status and body, whatever they are.
    pub(crate) async fn asked(&self, path: &str, within: Duration) -> Result<(StatusCode, Bytes), ChildError> {
        self.admin(&mut Line::Fresh, Method::GET, path, within).await.map(|(_, status, body)| (status, body))
    }

    /// `GET` of a path where it serves: any 2xx.
    pub(crate) async fn serves(&self, line: &mut Line, path: &str, within: Duration) -> Result<(), ChildError> {
        let place = format!("{}{path}", self.place());
        let question = Question { method: Method::GET, path, place: &place, most: BODY_MAX };
        let (status, _) = timed(line.ask(&question, self.dial_serving(&place)), &place, within).await?;
        succeeded(place, status)
    }

    /// A connection to where it serves is accepted.
    pub(crate) async fn accepts(&self, within: Duration) -> Result<(), ChildError> {
        let place = self.place();
        timed(self.dial_serving(&place), &place, within).await.map(drop)
    }

    async fn dial_serving(&self, place: &str) -> Result<Box<dyn Stream>, ChildError> {
        match &self.socket {
            Some(socket) => dial_socket(socket, self.account.as_ref(), place).await,
            None => dial_port(self.port, place).await,
        }
    }

    fn place(&self) -> String {
        match &self.socket {
            Some(socket) => socket.display().to_string(),
            None => format!("http://127.0.0.1:{}", self.port),
        }
    }

    /// `POST /drain`: nothing new is admitted from now on. A child that has no such endpoint gets nothing new anyway.
    pub(crate) async fn drain(&self, within: Duration) -> Result<(), ChildError> {
        match self.admin {
            Admin::Nowhere => Ok(()),
            Admin::Socket(_) => self.told(Method::POST, within).await,
            Admin::Port(_) => match self.told(Method::POST, within).await {
                Err(error) if error.is_absent() => Ok(()),
                told => told,
            },
        }
    }

    /// `DELETE /drain`: the pause or drain is over. Only contract v1 has one.
    pub(crate) async fn resume(&self, within: Duration) -> Result<(), ChildError> {
        match self.admin {
            Admin::Socket(_) => self.told(Method::DELETE, within).await,
            Admin::Port(_) | Admin::Nowhere => Ok(()),
        }
    }

    async fn told(&self, method: Method, within: Duration) -> Result<(), ChildError> {
        let (place, status, _) = self.admin(&mut Line::Fresh, method, "/drain", within).await?;
        succeeded(place, status)
    }

    /// `GET /drain/status`.
    pub(crate) async fn drain_status(&self, within: Duration) -> Result<Count, ChildError> {
        if self.admin == Admin::Nowhere {
            return Ok(Count::Inflight(0));
        }
        let (place, status, body) = self.admin(&mut Line::Fresh, Method::GET, "/drain/status", within).await?;
        match self.admin {
            Admin::Port(_) if is_absent(status) => Ok(Count::Unknown),
            Admin::Port(_) => {
                succeeded(place.clone(), status)?;
                older_count(place, &body).map(Count::Inflight)
            }
            Admin::Socket(_) | Admin::Nowhere => {
                succeeded(place.clone(), status)?;
                parse(place, &body).map(|status: DrainStatus| Count::Inflight(status.inflight))
            }
        }
    }

    async fn admin(
        &self,
        line: &mut Line,
        method: Method,
        path: &str,
        within: Duration,
    ) -> Result<(String, StatusCode, Bytes), ChildError> {
        let place = match &self.admin {
            Admin::Socket(_) | Admin::Nowhere => format!("{method} {path} on the admin socket"),
            Admin::Port(port) => format!("{method} http://127.0.0.1:{port}{path}"),
        };
        let question = Question { method, path, place: &place, most: BODY_MAX };
        let asked = line.ask(&question, self.dial(&place));
        let (status, body) = timed(asked, &place, within).await?;
        Ok((place, status, body))
    }

    /// A connection to where the child takes its supervisor's word.
    async fn dial(&self, place: &str) -> Result<Box<dyn Stream>, ChildError> {
        match &self.admin {
            Admin::Socket(socket) => dial_socket(socket, self.account.as_ref(), place).await,
            Admin::Port(port) => dial_port(*port, place).await,
            Admin::Nowhere => Err(ChildError::Status { place: place.to_owned(), status: StatusCode::NOT_FOUND }),
        }
    }
}

pub use crate::config::chain;

/// A missing count is an error, not zero.
fn older_count(place: String, body: &[u8]) -> Result<u64, ChildError> {
    let Value::Object(body) = parse::<Value>(place.clone(), body)? else { return Err(ChildError::NoCount { place }) };
    let count = ["inflight", "active", "count"].into_iter().find_map(|name| body.get(name)?.as_u64());
    count.ok_or(ChildError::NoCount { place })
}

fn succeeded(place: String, status: StatusCode) -> Result<(), ChildError> {
    if status.is_success() { Ok(()) } else { Err(ChildError::Status { place, status }) }
}

async fn timed<T>(
    exchange: impl Future<Output = Result<T, ChildError>>,
    place: &str,
    within: Duration,
) -> Result<T, ChildError> {
    tokio::time::timeout(within, exchange)
        .await
        .unwrap_or_else(|_| Err(ChildError::Timeout { place: place.to_owned(), within }))
}

fn parse<T: DeserializeOwned>(place: String, body: &[u8]) -> Result<T, ChildError> {
    serde_json::from_slice(body).map_err(|source| ChildError::Body { place, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_count_has_one_of_three_names_and_is_never_made_up() {
        let count = |body: &str| older_count("x".to_owned(), body.as_bytes());
        assert_eq!(count(r#"{"inflight":3,"ready":true}"#).unwrap(), 3);
        assert_eq!(count(r#"{"active":2}"#).unwrap(), 2);
        assert_eq!(count(r#"{"count":1}"#).unwrap(), 1);
        assert_eq!(count(r#"{"inflight":0,"active":9}"#).unwrap(), 0);
        for body in ["{}", "[]", r#"{"inflight":-1}"#, r#"{"active":"2"}"#, r#"{"count":null}"#] {
            assert!(matches!(count(body), Err(ChildError::NoCount { .. })), "{body}");
        }
        assert!(matches!(count("drained"), Err(ChildError::Body { .. })));
    }
}
