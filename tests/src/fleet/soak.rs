//! Thousands of event streams through one router for minutes, while hosts drain and builds are rolled: every event is
//! checked, and the router's memory is watched.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use camino::Utf8Path;
use http::Method;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use rand::RngExt as _;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Fleet;
use super::clients::{SLOT, path};
use super::host::Programs;
use crate::bench::proc::memory;
use crate::checks::{EventReader, Fault, StreamCheck};
use crate::clients::connection::{Connection, request, whole};
use crate::scenario::{Build, Change, Revision};

const HOSTS: usize = 2;
/// Between two events of a stream.
const EVERY: Duration = Duration::from_secs(2);
/// No change takes longer, the end of the streams before it included.
const WITHIN: Duration = Duration::from_secs(300);
/// How long an answer may take to begin, and how long a stream may be silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(30);
/// How many faults are told in words.
const TOLD: usize = 20;

/// How much, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub streams: usize,
    pub lasting: Duration,
    /// The longest stream.
    pub longest: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Soak {
    pub streams_at_once: usize,
    pub seconds: u64,
    pub streams: u64,
    pub events: u64,
    /// Streams that were refused, broke off, or lost an event.
    pub faults: u64,
    pub told: Vec<String>,
    /// Streams that each host had when its drain began; it had none when that ended.
    pub drained: BTreeMap<String, u64>,
    pub swaps: u32,
    /// Of the router, in KiB: before the first stream, and the mean over the first and the last fifth of the time in
    /// which all streams were open.
    pub router_rss_empty_kib: u64,
    pub router_rss_first_fifth_kib: u64,
    pub router_rss_last_fifth_kib: u64,
}

impl Soak {
    /// What is not as it should be. Empty = nothing.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.faults > 0 {
            wrong.push(format!("{} of {} streams were not whole: {}", self.faults, self.streams, self.told.join("; ")));
        }
        // A twentieth: what an allocator keeps back.
        if self.router_rss_last_fifth_kib * 20 > self.router_rss_first_fifth_kib * 21 {
            wrong.push(format!(
                "the router's memory has grown from {} to {} KiB",
                self.router_rss_first_fifth_kib, self.router_rss_last_fifth_kib
            ));
        }
        wrong
    }
}

#[derive(Default)]
struct Tally {
    streams: u64,
    events: u64,
    faults: u64,
    told: Vec<String>,
    open: BTreeMap<String, u64>,
}

/// Runs it in `folder`; `say` is told what goes on.
pub async fn run(programs: Programs, folder: &Utf8Path, size: Size, say: impl Fn(&str)) -> anyhow::Result<Soak> {
    let fleet = Fleet::raise(programs, folder, HOSTS, size.longest.as_secs()).await?;
    let done = play(&fleet, size, &say).await;
    for router in &fleet.routers {
        router.stop(WITHIN).await?;
    }
    for stopped in futures_util::future::join_all(fleet.hosts.iter().map(|host| host.supervisor.stop(WITHIN))).await {
        stopped?;
    }
    fleet.world.stop.cancel();
    done
}

async fn play(fleet: &Fleet, size: Size, say: &impl Fn(&str)) -> anyhow::Result<Soak> {
    let router = fleet.routers.first().context("no router")?;
    let pid = router.pid().context("the router does not run")?;
    let mut soak = Soak { streams_at_once: size.streams, router_rss_empty_kib: kib(pid)?, ..Soak::default() };
    let tally = Arc::new(Mutex::new(Tally::default()));
    let begun = Instant::now();
    let end = begun + size.lasting;
    let mut listening = JoinSet::new();
    for number in 0..size.streams {
        listening.spawn(client(router.address, number, size, end, tally.clone()));
    }
    let open = || tally.lock().open.values().sum::<u64>();
    wait(&say, "every stream is open", || open() >= size.streams as u64).await?;
    let full = Instant::now();

    let samples = Mutex::new(Vec::new());
    let watching = async {
        loop {
            match kib(pid) {
                Ok(rss) => samples.lock().push(rss),
                Err(error) => return error,
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let acting = async {
        let at = |share: f64| tokio::time::sleep_until((full + (end - full).mul_f64(share)).into());
        let mut build = Build::B;
        for (share, host) in [(0.1, None), (0.2, Some(0)), (0.5, None), (0.55, Some(1)), (0.9, None)] {
            at(share).await;
            match host {
                None => {
                    roll(fleet, build, say).await?;
                    build = if build == Build::B { Build::A } else { Build::B };
                    soak.swaps += 1;
                }
                Some(host) => {
                    let host = &fleet.hosts[host];
                    let had = tally.lock().open.get(&host.id).copied().unwrap_or_default();
                    say(&format!("{} is drained, with {had} streams", host.id));
                    host.versionctl(&fleet.programs, &["drain"], WITHIN).await?;
                    wait(say, "it has none left", || tally.lock().open.get(&host.id).copied() == Some(0)).await?;
                    host.versionctl(&fleet.programs, &["undrain"], WITHIN).await?;
                    soak.drained.insert(host.id.clone(), had);
                }
            }
        }
        tokio::time::sleep_until(end.into()).await;
        anyhow::Ok(())
    };
    tokio::select! {
        acted = acting => acted?,
        gone = watching => return Err(gone.context("the router is gone")),
    }
    say("no stream is begun any more; those that are open end");
    while let Some(ended) = listening.join_next().await {
        ended?;
    }
    let samples = samples.into_inner();
    let fifth = (samples.len() / 5).max(1);
    let mean = |part: &[u64]| part.iter().sum::<u64>() / (part.len() as u64).max(1);
    soak.router_rss_first_fifth_kib = mean(&samples[..fifth]);
    soak.router_rss_last_fifth_kib = mean(&samples[samples.len() - fifth..]);
    let tally = std::mem::take(&mut *tally.lock());
    soak.seconds = begun.elapsed().as_secs();
    (soak.streams, soak.events, soak.faults, soak.told) = (tally.streams, tally.events, tally.faults, tally.told);
    Ok(soak)
}

async fn roll(fleet: &Fleet, build: Build, say: &impl Fn(&str)) -> anyhow::Result<()> {
    say(&format!("build {build} is rolled through all hosts"));
    fleet.catalog.publish(&Revision { changes: vec![(SLOT, Change::Swap(build))] });
    let begun = Instant::now();
    while !fleet.is_settled().await {
        ensure!(begun.elapsed() < WITHIN, "build {build} is not everywhere:\n{}", fleet.last_words());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn wait(say: &impl Fn(&str), what: &str, condition: impl Fn() -> bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !condition() {
        ensure!(begun.elapsed() < WITHIN, "not within {WITHIN:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    say(&format!("{what}, after {} s", begun.elapsed().as_secs()));
    Ok(())
}

/// One stream after the other, until it is time to end.
async fn client(router: SocketAddr, number: usize, size: Size, end: Instant, tally: Arc<Mutex<Tally>>) {
    // The first of each is of any length, so that not all of them end at once.
    let mut shortest = 0.1;
    while Instant::now() < end {
        let share = rand::rng().random_range(shortest..=1.0);
        let events = (size.longest.mul_f64(share).as_secs() / EVERY.as_secs()).max(1);
        shortest = 0.5;
        let mut host = None;
        let outcome = listen(router, number, events, &mut host, &tally).await;
        let mut tally = tally.lock();
        tally.streams += 1;
        if let Some(open) = host.and_then(|host| tally.open.get_mut(&host)) {
            *open -= 1;
        }
        if let Err(fault) = outcome {
            tally.faults += 1;
            if tally.told.len() < TOLD {
                tally.told.push(format!("{fault:?}"));
            }
        }
    }
}

async fn listen(
    router: SocketAddr,
    number: usize,
    events: u64,
    host: &mut Option<String>,
    tally: &Mutex<Tally>,
) -> Result<(), Fault> {
    let ms = events * EVERY.as_secs() * 1_000;
    let target = format!("{}?ms={ms}&events={events}", path(number));
    let mut connection = Connection::open(router, ANSWER_WITHIN).await?;
    let response = connection.send(request(Method::GET, &target, whole(Bytes::new()))?, ANSWER_WITHIN).await?;
    let mut body = response.into_body();
    let (mut reader, mut check) = (EventReader::default(), StreamCheck::new(0, events));
    loop {
        let frame = match timeout(PATIENCE, body.frame()).await {
            Err(_) => return Err(check.broken_off(&format!("nothing for {PATIENCE:?}"))),
            Ok(None) => return check.end(),
            Ok(Some(Err(error))) => return Err(check.broken_off(&error.to_string())),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        for event in reader.push(&data) {
            let before = check.seen();
            check.event(&event)?;
            let mut tally = tally.lock();
            tally.events += check.seen() - before;
            if let (None, Some(origin)) = (&host, check.origin()) {
                let name = origin.host.clone().unwrap_or_default();
                *tally.open.entry(name.clone()).or_default() += 1;
                *host = Some(name);
            }
        }
    }
}

fn kib(pid: u32) -> anyhow::Result<u64> {
    Ok(memory(pid)?.rss / 1_024)
}
