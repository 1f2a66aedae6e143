//! Whether members could serve: each address is asked over and over, for as long as it is listed.
//!
//! Must not live here: what an answer means (that is `router-core`).

mod ask;

use std::collections::BTreeMap;

use rand::RngExt as _;
use router_core::members::{Address, Answer, Silence};
use router_dataplane::UpstreamTls;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Check, PoolConfig};
use crate::keeper::Event;
use crate::pace::{Before, Pace};
use ask::Asker;

/// How members of a pool are asked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) check: Check,
    pub(crate) port: Option<u16>,
    pub(crate) pace: Pace,
    /// Whom the members must prove to be.
    pub(crate) tls: Option<UpstreamTls>,
}

impl Settings {
    pub(crate) fn of(config: &PoolConfig) -> Settings {
        Settings { check: config.check.clone(), port: config.check_port, pace: config.pace, tls: config.tls.clone() }
    }
}

/// One task for each address.
pub(crate) struct Checks {
    settings: Settings,
    tell: mpsc::Sender<Event>,
    cancel: CancellationToken,
    running: BTreeMap<Address, CancellationToken>,
}

impl Checks {
    pub(crate) fn new(settings: Settings, tell: mpsc::Sender<Event>, cancel: CancellationToken) -> Checks {
        Checks { settings, tell, cancel, running: BTreeMap::new() }
    }

    /// Asks exactly these from now on.
    pub(crate) fn follow<'a>(&mut self, addresses: impl Iterator<Item = &'a Address>) {
        let listed: Vec<Address> = addresses.cloned().collect();
        self.running.retain(|address, check| {
            let stays = listed.contains(address);
            if !stays {
                check.cancel();
            }
            stays
        });
        for address in listed {
            if self.running.contains_key(&address) {
                continue;
            }
            let cancel = self.cancel.child_token();
            let asking = asking(address.clone(), self.settings.clone(), self.tell.clone());
            let stop = cancel.clone();
            tokio::spawn(async move { stop.run_until_cancelled(asking).await });
            self.running.insert(address, cancel);
        }
    }
}

/// What kind of answer it was, for a metric.
pub(crate) fn code(answer: &Answer) -> &'static str {
    match answer {
        Answer::Word(_) => "word",
        Answer::Checks(_) => "checks",
        Answer::Connected => "connected",
        Answer::Overloaded => "overloaded",
        Answer::Silent(Silence::Refused) => "refused",
        Answer::Silent(Silence::TimedOut) => "timed_out",
        Answer::Silent(Silence::Broken) => "broken",
    }
}

async fn asking(address: Address, settings: Settings, tell: mpsc::Sender<Event>) {
    let mut asker = match Asker::new(&address, &settings) {
        Ok(asker) => asker,
        Err(error) => return tracing::error!(%error, %address, "a member cannot be asked"),
    };
    let mut before = Before::Heard;
    loop {
        let (answer, came) = asker.ask(before).await;
        let after = if matches!(answer, Answer::Silent(_)) { Before::Silent } else { Before::Heard };
        if tell.send(Event::Heard(address.clone(), answer)).await.is_err() {
            return;
        }
        let jitter = rand::rng().random();
        tokio::time::sleep(settings.pace.pause(before, came, jitter)).await;
        before = after;
    }
}
