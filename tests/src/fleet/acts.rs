//! What is done to a fleet while its clients go on, one change after the other, each seen before the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde::Serialize;
use supervisor_protocol::time::millis;

use super::Fleet;
use super::clients::{self, Crowd, Ground, SLOT, path};
use super::ledger::Moves;
use super::router::{DETECTION_WINDOW, role};
use crate::scenario::{Build, Change, Revision};
use crate::view::Output;

/// What has not been seen by then never will: a detection window, a start, all on few cores.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long the clients go on behind a change before the next: long enough for each of them to ask.
const GOES_ON: Duration = Duration::from_secs(1);
/// Sessions of which both routers must say the same.
const LOOKED_UP: usize = 100;

/// One change, and how soon it was seen.
#[derive(Debug, Clone, Serialize)]
pub struct Act {
    pub what: String,
    /// From the change until both routers had moved on, in milliseconds; absent where they need not.
    pub noticed_ms: Option<u64>,
    /// Until all of it was done: emptied, served again, ended.
    pub done_ms: u64,
    /// Streams that clients had open on the host in question.
    pub streams: u64,
}

/// A fleet, its clients, and what was done so far.
pub struct Stage {
    fleet: Fleet,
    ground: Arc<Ground>,
    output: Output,
    acts: Vec<Act>,
    missed: Mutex<Vec<String>>,
}

impl Stage {
    /// Nothing done yet.
    #[must_use]
    pub fn new(fleet: Fleet, ground: Arc<Ground>, output: Output) -> Self {
        Self { fleet, ground, output, acts: Vec::new(), missed: Mutex::default() }
    }

    /// Everything, from the first client to the last.
    pub async fn play(&mut self, crowd: &Crowd) -> anyhow::Result<()> {
        let tracker = clients::start(&self.ground, crowd);
        let all = crowd.sessions();
        self.until("an answer to every session", async |stage: &Self| stage.ground.ledger.lock().sessions() == all)
            .await;
        for at in 0..self.fleet.hosts.len() {
            self.empty(at).await?;
        }
        let last = self.fleet.hosts.len() - 1;
        self.replace(last / 2).await?;
        self.freeze(0).await?;
        self.kill(last).await?;
        for at in 0..self.fleet.routers.len() {
            self.restart_router(at).await?;
        }
        self.roll(Build::B).await;
        self.cordon_all().await?;
        self.ground.world.wind_down.cancel();
        let ended = Duration::from_millis(crowd.lengths.max_ms) + SEEN_WITHIN;
        if tokio::time::timeout(ended, tracker.wait()).await.is_err() {
            self.miss("some clients did not come to an end");
        }
        Ok(())
    }

    /// A host is drained by its operator, and taken back.
    async fn empty(&mut self, at: usize) -> anyhow::Result<()> {
        let id = self.fleet.hosts[at].id.clone();
        let (begun, streams) = self.change(&format!("{id} is drained"), Moves::Of(id.clone()));
        let host = &self.fleet.hosts[at];
        let settle = format!("{}s", DETECTION_WINDOW.as_secs());
        let line = ["drain", "--wait", "--timeout", "60s", "--settle", &settle];
        let (noticed, drained) =
            tokio::join!(self.noticed(&id, begun), host.versionctl(&self.fleet.programs, &line, SEEN_WITHIN * 2));
        drained?;
        if self.streams_on(&id) > 0 {
            self.miss(&format!("{id} counted as drained with streams open"));
        }
        self.done(format!("{id} is drained"), begun, Some(noticed), streams).await;

        let (begun, _) = self.change(&format!("{id} is back"), Moves::Of(id.clone()));
        self.fleet.hosts[at].versionctl(&self.fleet.programs, &["undrain"], SEEN_WITHIN).await?;
        self.come_back(&id, begun, "is taken back").await;
        Ok(())
    }

    /// A host is stopped, and another machine takes its place: the same identity at another address.
    async fn replace(&mut self, at: usize) -> anyhow::Result<()> {
        let id = self.fleet.hosts[at].id.clone();
        let (begun, streams) = self.change(&format!("{id} is stopped"), Moves::Of(id.clone()));
        let supervisor = Arc::clone(&self.fleet.hosts[at].supervisor);
        let (noticed, stopped) = tokio::join!(self.noticed(&id, begun), supervisor.stop(SEEN_WITHIN * 2));
        let status = stopped?;
        if !status.success() {
            self.miss(&format!("{id} ended with {status} when it was told to stop"));
        }
        self.done(format!("{id} is stopped"), begun, Some(noticed), streams).await;

        let (begun, _) = self.change(&format!("{id} is replaced"), Moves::Of(id.clone()));
        let successor = self.fleet.start_host(&id, &format!("{id}-new"))?;
        let address = successor.address.to_string();
        let former = std::mem::replace(&mut self.fleet.hosts[at], successor);
        self.fleet.former.push(former);
        self.fleet.list()?;
        let moved = async |stage: &Self| {
            let there = |hosts: &[supervisor_protocol::router::HostStatus]| {
                hosts.iter().any(|host| host.address == address && host.id.as_deref() == Some(&id))
            };
            stage.fleet.both_see(there).await
        };
        self.until("the new address", moved).await;
        self.come_back(&id, begun, "is replaced, under another address").await;
        Ok(())
    }

    /// A host says nothing for a while: what it was asked meanwhile it answers afterwards.
    async fn freeze(&mut self, at: usize) -> anyhow::Result<()> {
        let id = self.fleet.hosts[at].id.clone();
        let (begun, streams) = self.change(&format!("{id} falls silent"), Moves::Of(id.clone()));
        self.fleet.hosts[at].supervisor.signal(Signal::SIGSTOP)?;
        let noticed = self.noticed(&id, begun).await;
        self.done(format!("{id} falls silent"), begun, Some(noticed), streams).await;
        let (begun, _) = self.change(&format!("{id} answers again"), Moves::Of(id.clone()));
        self.fleet.hosts[at].supervisor.signal(Signal::SIGCONT)?;
        self.come_back(&id, begun, "answers again").await;
        Ok(())
    }

    /// A host is killed without a word, and started again.
    async fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        let id = self.fleet.hosts[at].id.clone();
        let (begun, streams) = self.change(&format!("{id} is killed"), Moves::Of(id.clone()));
        let (ground, host) = (Arc::clone(&self.ground), &self.fleet.hosts[at]);
        host.supervisor.kill(|| ground.ledger.lock().killed(&id, ground.world.now())).await?;
        ground.ledger.lock().dead(ground.world.now());
        let noticed = self.noticed(&id, begun).await;
        self.done(format!("{id} is killed"), begun, Some(noticed), streams).await;

        let (begun, _) = self.change(&format!("{id} is started again"), Moves::Of(id.clone()));
        self.fleet.hosts[at].supervisor.start()?;
        self.come_back(&id, begun, "is started again").await;
        Ok(())
    }

    /// A router is stopped in order, and started again; its clients use the other one meanwhile.
    async fn restart_router(&mut self, at: usize) -> anyhow::Result<()> {
        let what = format!("{} is restarted", self.fleet.routers[at].name);
        let (begun, _) = self.change(&what, Moves::Nothing);
        let streams = self.ground.open.lock().values().sum();
        let router = &self.fleet.routers[at];
        let status = router.stop(SEEN_WITHIN * 2).await?;
        if !status.success() {
            self.miss(&format!("{} ended with {status} when it was told to stop", router.name));
        }
        router.run()?;
        self.until("the hosts, as the router sees them", async |stage: &Self| stage.fleet.all_are("ready").await).await;
        self.done(what, begun, None, streams).await;
        Ok(())
    }

    /// One revision of the catalog, which every host reads for itself.
    async fn roll(&mut self, build: Build) {
        let what = format!("build {build} is rolled through all hosts at once");
        let (begun, _) = self.change(&what, Moves::Nothing);
        let streams = self.ground.open.lock().values().sum();
        let now = self.ground.world.now();
        self.ground.ledger.lock().approve(build, now);
        self.fleet.catalog.publish(&Revision { changes: vec![(SLOT, Change::Swap(build))] });
        let everywhere = async |stage: &Self| stage.fleet.is_settled().await;
        self.until("the new build on every host", everywhere).await;
        self.ground.ledger.lock().everywhere(self.ground.world.now());
        self.done(what, begun, None, streams).await;
    }

    /// Every host is cordoned: the last one serves all the same.
    async fn cordon_all(&mut self) -> anyhow::Result<()> {
        let (begun, _) = self.change("every host is cordoned", Moves::Any);
        for host in &self.fleet.hosts {
            host.versionctl(&self.fleet.programs, &["drain"], SEEN_WITHIN).await?;
        }
        let last = async |stage: &Self| {
            let cordoned = |hosts: &[supervisor_protocol::router::HostStatus]| {
                hosts.iter().all(|host| host.role.as_deref() == Some("cordoned"))
            };
            stage.fleet.both_see(cordoned).await
        };
        self.until("every host as the last that is left", last).await;
        let noticed = millis(begun.elapsed());
        self.done("every host is cordoned".to_owned(), begun, Some(noticed), 0).await;
        let (begun, _) = self.change("every host is taken back", Moves::Any);
        for host in &self.fleet.hosts {
            host.versionctl(&self.fleet.programs, &["undrain"], SEEN_WITHIN).await?;
        }
        self.until("all hosts", async |stage: &Self| stage.fleet.all_are("ready").await).await;
        let noticed = millis(begun.elapsed());
        self.done("every host is taken back".to_owned(), begun, Some(noticed), 0).await;
        Ok(())
    }

    async fn come_back(&mut self, id: &str, begun: Instant, how: &str) {
        self.until("all hosts", async |stage: &Self| stage.fleet.all_are("ready").await).await;
        let noticed = millis(begun.elapsed());
        self.done(format!("{id} {how}"), begun, Some(noticed), 0).await;
    }

    /// Until both routers have moved on from a host, in milliseconds since then.
    async fn noticed(&self, id: &str, begun: Instant) -> u64 {
        let is_out = async |stage: &Self| stage.fleet.both_see(|hosts| role(hosts, id).is_none()).await;
        self.until("both routers moved on", is_out).await;
        millis(begun.elapsed())
    }

    fn streams_on(&self, id: &str) -> u64 {
        self.ground.open.lock().get(id).copied().unwrap_or(0)
    }

    /// A change begins. Returns since when, and the streams that are open on its host.
    fn change(&self, what: &str, moves: Moves) -> (Instant, u64) {
        let streams = if let Moves::Of(id) = &moves { self.streams_on(id) } else { 0 };
        self.ground.ledger.lock().change(what, moves, self.ground.world.now());
        (Instant::now(), streams)
    }

    /// It is done: told, and gone on with for a while, so that every client meets it.
    async fn done(&mut self, what: String, begun: Instant, noticed_ms: Option<u64>, streams: u64) {
        let act = Act { what, noticed_ms, done_ms: millis(begun.elapsed()), streams };
        self.output.say(&act.line(self.ground.world.now()));
        self.acts.push(act);
        self.ground.world.pause(GOES_ON).await;
        self.agree().await;
    }

    /// Both routers say the same of every session.
    async fn agree(&self) {
        if self.ground.world.stop.is_cancelled() {
            return;
        }
        for session in 0..LOOKED_UP {
            let mut said = Vec::new();
            for router in &self.fleet.routers {
                said.push(router.lookup(&path(session)).await.map_err(|error| format!("{error:#}")));
            }
            if said.windows(2).any(|pair| pair[0].is_err() || pair[0] != pair[1]) {
                self.miss(&format!("of session {session} the routers say {said:?}"));
                return;
            }
        }
    }

    async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let begun = Instant::now();
        while !self.ground.world.stop.is_cancelled() && !condition(self).await {
            if begun.elapsed() > SEEN_WITHIN {
                return self.miss(&format!("{what}: not within {SEEN_WITHIN:?}\n{}", self.fleet.last_words()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn miss(&self, what: &str) {
        self.missed.lock().push(what.to_owned());
    }

    /// Stops everything, and returns the ids of all that was executed.
    pub async fn clear_away(&mut self) -> anyhow::Result<Vec<u64>> {
        for router in &self.fleet.routers {
            if let Err(error) = router.stop(SEEN_WITHIN).await {
                self.miss(&format!("{error:#}"));
            }
        }
        let stops = self.fleet.hosts.iter().map(|host| host.supervisor.stop(SEEN_WITHIN * 2));
        for stopped in futures_util::future::join_all(stops).await {
            match stopped {
                Ok(status) if !status.success() => self.miss(&format!("a host ended with {status}")),
                Ok(_) => {}
                Err(error) => self.miss(&format!("{error:#}")),
            }
        }
        self.ground.world.stop.cancel();
        let mut executed = Vec::new();
        for host in self.fleet.hosts.iter().chain(&self.fleet.former) {
            executed.extend(host.executed()?);
        }
        Ok(executed)
    }

    /// What was done, and what should have come and did not.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Act>, Vec<String>) {
        (self.acts, self.missed.into_inner())
    }
}

impl Act {
    fn line(&self, now: supervisor_protocol::Tick) -> String {
        let seconds = |ms: u64| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100);
        let noticed = self.noticed_ms.map(|ms| format!("; both routers saw it after {ms} ms"));
        let streams = if self.streams > 0 { format!(" ({} streams open)", self.streams) } else { String::new() };
        let (what, done) = (&self.what, seconds(self.done_ms));
        format!("{:>4} s  {what}{streams}{}; done after {done}", now.0 / 1_000, noticed.unwrap_or_default())
    }
}
