//! One question to one member, in the way that it understands.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::time::Duration;

use http::StatusCode;
use reqwest::{Client, Response};
use router_core::members::{Address, Answer, Silence, Word};
use supervisor_protocol::host::{HealthEntry, HostDrain, HostState, ReadyAll};
use supervisor_protocol::{BootNonce, SCHEMA, VersionName};
use tokio::time::Instant;

use super::Settings;
use crate::config::Check;

/// How long a host may wait for news before it answers.
const WAIT: Duration = Duration::from_secs(2);

/// Whether the answer took the time that lies between two questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    LongPoll,
    Look,
}

/// Asks one address.
pub(super) struct Asker {
    client: Client,
    base: String,
    connect_to: String,
    check: Check,
    timeout: Duration,
    /// The last word of a host with versiond.
    last: Option<(BootNonce, u64)>,
}

/// What a host with versiond came out as, where it may be something else.
enum Found {
    Answer(Answer, Kind),
    /// It speaks HTTP, and not as a host with versiond does.
    Otherwise,
}

impl Asker {
    pub(super) fn new(address: &Address, settings: &Settings) -> Result<Asker, reqwest::Error> {
        let text = address.as_str();
        let asked = match (settings.port, text.rsplit_once(':')) {
            (Some(port), Some((host, _))) => format!("{host}:{port}"),
            (Some(_) | None, _) => text.to_owned(),
        };
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.timeout)
            .pool_max_idle_per_host(1)
            .build()?;
        Ok(Asker {
            client,
            base: format!("http://{asked}"),
            connect_to: asked,
            check: settings.check.clone(),
            timeout: settings.timeout,
            last: None,
        })
    }

    /// One round. An error is an answer too.
    pub(super) async fn ask(&mut self) -> (Answer, Kind) {
        match self.check.clone() {
            Check::Tcp => (self.connects().await, Kind::Look),
            Check::Http(path) => (self.answers(&path).await, Kind::Look),
            Check::Versiond => match self.word().await {
                Found::Answer(answer, kind) => (answer, kind),
                Found::Otherwise => (Answer::Silent(Silence::Broken), Kind::Look),
            },
            Check::Auto => match self.word().await {
                Found::Answer(answer, kind) => (answer, kind),
                Found::Otherwise => match self.versions().await {
                    Some(answer) => (answer, Kind::Look),
                    None => (self.connects().await, Kind::Look),
                },
            },
        }
    }

    /// The word of a host with versiond: at once when there is news since the last, else after a while.
    async fn word(&mut self) -> Found {
        let path = match &self.last {
            Some((_, seq)) => format!("/readyz?all=1&since={seq}&wait={}s", WAIT.as_secs()),
            None => "/readyz?all=1".to_owned(),
        };
        let begun = Instant::now();
        let response = match self.get(&path, WAIT + self.timeout).await {
            Ok(response) => response,
            Err(silence) => return Found::Answer(Answer::Silent(silence), Kind::Look),
        };
        let status = response.status();
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(error) => return Found::Answer(Answer::Silent(silence(&error)), Kind::Look),
        };
        let all = match serde_json::from_slice::<ReadyAll>(&body) {
            Ok(all) if (1..=SCHEMA).contains(&all.schema) => all,
            Ok(_) | Err(_) if status == StatusCode::SERVICE_UNAVAILABLE && self.last.is_some() => {
                return Found::Answer(Answer::Overloaded, Kind::Look);
            }
            Ok(_) | Err(_) => return Found::Otherwise,
        };
        let news = (all.boot.clone(), all.seq);
        // One that knows no waiting answers at once that nothing has changed.
        let has_waited = self.last.as_ref() != Some(&news) || begun.elapsed() >= WAIT / 2;
        let drain = match all.state {
            HostState::Serving | HostState::Starting => None,
            HostState::Cordoned
            | HostState::Announcing
            | HostState::Draining
            | HostState::Stopping
            | HostState::Stopped
            | HostState::Forcing => self.drain().await,
        };
        self.last = Some(news);
        let kind = if has_waited { Kind::LongPoll } else { Kind::Look };
        Found::Answer(Answer::Word(Word::new(all, drain.as_ref())), kind)
    }

    async fn drain(&self) -> Option<HostDrain> {
        self.get("/drain/status", self.timeout).await.ok()?.json().await.ok()
    }

    /// An older host, version by version.
    async fn versions(&self) -> Option<Answer> {
        let entries: Vec<HealthEntry> = self.get("/healthz", self.timeout).await.ok()?.json().await.ok()?;
        let mut checks: BTreeMap<VersionName, bool> = BTreeMap::new();
        for entry in entries {
            let path = format!("/readyz?version={}", entry.name);
            match self.get(&path, self.timeout).await {
                Ok(response) if matches!(response.status(), StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) => {
                    checks.insert(entry.name, response.status() == StatusCode::OK);
                }
                Ok(_) => return None,
                Err(silence) => return Some(Answer::Silent(silence)),
            }
        }
        Some(Answer::Checks(checks))
    }

    async fn answers(&self, path: &str) -> Answer {
        match self.get(path, self.timeout).await {
            Ok(response) if response.status().is_success() => Answer::Connected,
            Ok(_) => Answer::Silent(Silence::Broken),
            Err(silence) => Answer::Silent(silence),
        }
    }

    async fn connects(&self) -> Answer {
        let connecting = tokio::net::TcpStream::connect(&self.connect_to);
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(Ok(_)) => Answer::Connected,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::Silent(Silence::Refused),
            Ok(Err(_)) => Answer::Silent(Silence::Broken),
            Err(_) => Answer::Silent(Silence::TimedOut),
        }
    }

    async fn get(&self, path: &str, within: Duration) -> Result<Response, Silence> {
        let asked = self.client.get(format!("{}{path}", self.base)).timeout(within);
        asked.send().await.map_err(|error| silence(&error))
    }
}

fn silence(error: &reqwest::Error) -> Silence {
    let mut cause = error.source();
    let mut is_refused = false;
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        is_refused |= kind == Some(io::ErrorKind::ConnectionRefused);
        cause = error.source();
    }
    if is_refused {
        Silence::Refused
    } else if error.is_timeout() {
        Silence::TimedOut
    } else {
        Silence::Broken
    }
}
