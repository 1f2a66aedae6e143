//! A router's own drain of one host: begun, waited for, taken back.
//!
//! A host that answers is drained by its own word. The router refuses then, unless the host drains already: then
//! there is nothing to begin, and all to wait for.

use std::time::Duration;

use http::Method;
use serde_json::Value;
use supervisor_protocol::ByClass;
use supervisor_protocol::admin::describe_load;
use supervisor_protocol::router::{HostStatus, Hosts, RouterDrain};
use tokio::time::{Instant, sleep};

use super::encoded;
use crate::args::Output;
use crate::client::{ANSWER, Client, Told};
use crate::drain::{PACE, WAIT, given_up};
use crate::failure::Failure;
use crate::text::{self, age, out, out_json};

/// Whether the end is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Waiting {
    No,
    /// To this moment at most.
    Until(Option<Instant>),
}

pub(crate) async fn drain(client: &Client, host: &str, waiting: Waiting, output: Output) -> Result<(), Failure> {
    let begun = client.send::<Hosts>(Method::PUT, &path(host), ANSWER).await;
    let (json, hosts) = match begun {
        Ok(Told { json, body }) => (json, body.hosts),
        Err(Failure::Refused(refused)) if refused.code == "drain_it_there" => {
            let told = status(client, None).await?;
            if !told.body.hosts.iter().any(|row| is(row, host)) {
                return Err(Failure::Refused(refused));
            }
            (told.json, told.body.hosts)
        }
        Err(error) => return Err(error),
    };
    let load = Load::of(&hosts, host);
    if !output.json {
        let whose = if load.of_router { "drained by this router" } else { "drained by its own word" };
        out(&format!("{host}: {whose}, {}\n", load.in_flight()));
    }
    let json = match waiting {
        Waiting::No => json,
        Waiting::Until(deadline) => {
            let began = Instant::now();
            let json = wait(client, host, deadline, output, load.text()).await?;
            if !output.json {
                let waited = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                out(&format!("{host}: this router has nothing there any more, after {}\n", age(waited)));
            }
            json
        }
    };
    if output.json {
        out_json(&json);
    }
    Ok(())
}

pub(crate) async fn undrain(client: &Client, host: &str, output: Output) -> Result<(), Failure> {
    let told = client.send::<Hosts>(Method::DELETE, &path(host), ANSWER).await?;
    if output.json {
        out_json(&told.json);
    } else {
        let rows = told.body.hosts.iter().filter(|row| is(row, host));
        let roles = rows.map(|row| format!("{} in {}", row.role.as_deref().unwrap_or("out"), row.pool));
        out(&format!("{host}: not drained any more, {}\n", roles.collect::<Vec<_>>().join(", ")));
    }
    Ok(())
}

async fn wait(
    client: &Client,
    host: &str,
    deadline: Option<Instant>,
    output: Output,
    mut shown: String,
) -> Result<Value, Failure> {
    let mut pause = None;
    loop {
        let next = async {
            if pause.is_some() {
                sleep(PACE).await;
            }
            status(client, pause).await
        };
        let told = tokio::select! {
            told = next => told?,
            () = given_up(deadline) => return Err(Failure::TimedOut { load: shown }),
        };
        pause = Some(WAIT);
        if !told.body.hosts.iter().any(|row| is(row, host)) {
            return Err(Failure::NotDrainedAnyMore { host: host.to_owned() });
        }
        let load = Load::of(&told.body.hosts, host);
        if load.inflight == 0 {
            return Ok(told.json);
        }
        if load.text() != shown {
            shown = load.text();
            if !output.json {
                out(&format!("{host}: {}\n", load.in_flight()));
            }
        }
    }
}

async fn status(client: &Client, wait: Option<Duration>) -> Result<Told<RouterDrain>, Failure> {
    let (path, wait) = match wait {
        Some(wait) => (format!("/drain/status?wait={}ms", wait.as_millis()), wait),
        None => ("/drain/status".to_owned(), Duration::ZERO),
    };
    client.send(Method::GET, &path, ANSWER + wait).await
}

fn path(host: &str) -> String {
    format!("/v1/hosts/{}/drain", encoded(host))
}

fn is(row: &HostStatus, host: &str) -> bool {
    row.id.as_deref() == Some(host)
}

/// What a router has at one host, in all its pools.
#[derive(Debug, Default)]
struct Load {
    inflight: u64,
    by_class: ByClass<u64>,
    oldest_ms: u64,
    forecast_ms: u64,
    of_router: bool,
}

impl Load {
    fn of(hosts: &[HostStatus], host: &str) -> Load {
        hosts.iter().filter(|row| is(row, host)).fold(Load::default(), |mut load, row| {
            load.inflight += row.inflight;
            load.by_class.add(&row.by_class);
            load.oldest_ms = load.oldest_ms.max(row.oldest_ms);
            load.forecast_ms = load.forecast_ms.max(row.forecast_ms);
            load.of_router |= row.drain.as_ref().is_some_and(|drain| drain.of_router);
            load
        })
    }

    fn text(&self) -> String {
        describe_load(&self.by_class)
    }

    fn in_flight(&self) -> String {
        text::in_flight(&self.by_class, self.oldest_ms, self.forecast_ms)
    }
}
