//! One question to one member, in the way that it understands.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use router_core::members::{Address, Answer, Silence, Word};
use router_dataplane::UpstreamTls;
use supervisor_protocol::host::{HealthEntry, HostDrain, HostState, ReadyAll};
use supervisor_protocol::{BootNonce, SCHEMA, VersionName};
use tokio::time::Instant;

use super::Settings;
use crate::config::Check;
use crate::pace::{Before, Came, Pace};

/// The largest body that a member may answer, in bytes: a host has thousands of slots in it.
const BODY_MAX: usize = 4 << 20;

/// Asks one address.
pub(super) struct Asker {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    base: String,
    connect_to: String,
    check: Check,
    pace: Pace,
    /// The last word of a host with versiond.
    last: Option<(BootNonce, u64)>,
}

/// What a host with versiond came out as, where it may be something else.
enum Found {
    Answer(Answer, Came),
    /// It speaks HTTP, and not as a host with versiond does.
    Otherwise,
}

impl Asker {
    pub(super) fn new(address: &Address, settings: &Settings) -> Result<Asker, rustls::Error> {
        let text = address.as_str();
        let asked = match (settings.port, text.rsplit_once(':')) {
            (Some(port), Some((host, _))) => format!("{host}:{port}"),
            (Some(_) | None, _) => text.to_owned(),
        };
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(settings.pace.timeout));
        connector.enforce_http(false);
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let connector = through_tls(connector, settings.tls.as_ref())?;
        Ok(Asker {
            client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector),
            base: format!("{scheme}://{asked}"),
            connect_to: asked,
            check: settings.check.clone(),
            pace: settings.pace,
            last: None,
        })
    }

    /// One round. An error is an answer too.
    pub(super) async fn ask(&mut self, before: Before) -> (Answer, Came) {
        match self.check.clone() {
            Check::Tcp => looked(self.connects().await),
            Check::Http(path) => looked(self.answers(&path).await),
            Check::Versiond => match self.word(before).await {
                Found::Answer(answer, came) => (answer, came),
                Found::Otherwise => looked(Answer::Silent(Silence::Broken)),
            },
            Check::Auto => match self.word(before).await {
                Found::Answer(answer, came) => (answer, came),
                Found::Otherwise => match self.versions().await {
                    Some(answer) => looked(answer),
                    None => looked(self.connects().await),
                },
            },
        }
    }

    /// The word of a host with versiond: at once when there is news since the last, else after a while.
    async fn word(&mut self, before: Before) -> Found {
        let wait = self.pace.wait(before);
        let path = match &self.last {
            Some((_, seq)) if !wait.is_zero() => format!("/readyz?all=1&since={seq}&wait={}ms", wait.as_millis()),
            Some(_) | None => "/readyz?all=1".to_owned(),
        };
        let begun = Instant::now();
        let (status, body) = match self.get(&path, self.pace.timeout).await {
            Ok(answer) => answer,
            Err(silence) => {
                let (answer, came) = looked(Answer::Silent(silence));
                return Found::Answer(answer, came);
            }
        };
        let all = match serde_json::from_slice::<ReadyAll>(&body) {
            Ok(all) if (1..=SCHEMA).contains(&all.schema) => all,
            Ok(_) | Err(_) if status == StatusCode::SERVICE_UNAVAILABLE && self.last.is_some() => {
                return Found::Answer(Answer::Overloaded, Came::Look);
            }
            Ok(_) | Err(_) => return Found::Otherwise,
        };
        let news = (all.boot.clone(), all.seq);
        // One that knows no waiting answers at once that nothing has changed.
        let is_news = self.last.as_ref() != Some(&news) || (!wait.is_zero() && begun.elapsed() >= wait / 2);
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
        let came = if is_news { Came::News } else { Came::Look };
        Found::Answer(Answer::Word(Word::new(all, drain.as_ref())), came)
    }

    async fn drain(&self) -> Option<HostDrain> {
        let (_, body) = self.get("/drain/status", self.pace.timeout).await.ok()?;
        serde_json::from_slice(&body).ok()
    }

    /// An older host, version by version.
    async fn versions(&self) -> Option<Answer> {
        let (_, body) = self.get("/healthz", self.pace.timeout).await.ok()?;
        let entries: Vec<HealthEntry> = serde_json::from_slice(&body).ok()?;
        let mut checks: BTreeMap<VersionName, bool> = BTreeMap::new();
        for entry in entries {
            let path = format!("/readyz?version={}", entry.name);
            match self.get(&path, self.pace.timeout).await {
                Ok((status @ (StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE), _)) => {
                    checks.insert(entry.name, status == StatusCode::OK);
                }
                Ok(_) => return None,
                Err(silence) => return Some(Answer::Silent(silence)),
            }
        }
        Some(Answer::Checks(checks))
    }

    async fn answers(&self, path: &str) -> Answer {
        match self.get(path, self.pace.timeout).await {
            Ok((status, _)) if status.is_success() => Answer::Connected,
            Ok(_) => Answer::Silent(Silence::Broken),
            Err(silence) => Answer::Silent(silence),
        }
    }

    async fn connects(&self) -> Answer {
        let connecting = tokio::net::TcpStream::connect(&self.connect_to);
        match tokio::time::timeout(self.pace.timeout, connecting).await {
            Ok(Ok(_)) => Answer::Connected,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::Silent(Silence::Refused),
            Ok(Err(_)) => Answer::Silent(Silence::Broken),
            Err(_) => Answer::Silent(Silence::TimedOut),
        }
    }

    async fn get(&self, path: &str, within: Duration) -> Result<(StatusCode, Bytes), Silence> {
        let exchange = async {
            let request = Request::get(format!("{}{path}", self.base)).body(Empty::new())?;
            let (head, body) = self.client.request(request).await?.into_parts();
            let body = Limited::new(body, BODY_MAX).collect().await?.to_bytes();
            Ok::<_, Box<dyn Error + Send + Sync>>((head.status, body))
        };
        match tokio::time::timeout(within, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(silence(error.as_ref())),
            Err(_) => Err(Silence::TimedOut),
        }
    }
}

/// Without `tls` nobody is asked to prove anything.
fn through_tls(
    connector: HttpConnector,
    tls: Option<&UpstreamTls>,
) -> Result<HttpsConnector<HttpConnector>, rustls::Error> {
    let builder = HttpsConnectorBuilder::new();
    Ok(match tls {
        None => {
            builder.with_tls_config(UpstreamTls::nobody()?).https_or_http().enable_http1().wrap_connector(connector)
        }
        Some(tls) => {
            let (name, config) = tls.http1();
            let mut config = config.as_ref().clone();
            // The connector says itself which protocols it speaks.
            config.alpn_protocols.clear();
            let builder = builder.with_tls_config(config).https_only();
            let builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
            builder.enable_http1().wrap_connector(connector)
        }
    })
}

/// What an answer that took no wait has led to.
fn looked(answer: Answer) -> (Answer, Came) {
    let came = if answer == Answer::Silent(Silence::Broken) { Came::Lost } else { Came::Look };
    (answer, came)
}

fn silence(error: &(dyn Error + 'static)) -> Silence {
    let mut cause = Some(error);
    let mut silence = Silence::Broken;
    while let Some(error) = cause {
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => silence = Silence::Refused,
            Some(io::ErrorKind::TimedOut) => silence = Silence::TimedOut,
            Some(_) | None => {}
        }
        cause = error.source();
    }
    silence
}
