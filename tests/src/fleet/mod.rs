//! Several hosts behind two routers: each host is emptied, one is replaced, one killed, the routers are restarted, a
//! build is rolled through all of them, and the clients count what that cost them.
//!
//! [`soak`] is the same ground for minutes, with thousands of streams and one router.
//!
//! Pure: [`ledger`] (which host answered which session, what broke), [`report`] (the verdict). Shells: [`host`] and
//! [`router`] (processes), [`clients`], [`acts`] (what is done, step by step). This module starts and ends a run.
//!
//! Must not live here: how one host swaps under load (that is the demo of one host, beside this).

pub mod acts;
pub mod clients;
pub mod host;
pub mod ledger;
pub mod report;
pub mod router;
pub mod soak;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use self::acts::Stage;
use self::clients::{Crowd, Ground};
use self::host::{Host, Programs};
use self::ledger::Ledger;
use self::report::{Facts, Report};
use self::router::{Router, role};
use crate::artifacts::Artifacts;
use crate::catalog::Catalog;
use crate::scenario::Build;
use crate::view::Output;
use crate::world::World;

/// A first start takes a download, a start of every slot, and a look of both routers at every host.
const UP_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const FIRST: Build = Build::A;

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub hosts: usize,
    pub crowd: Crowd,
}

/// The hosts, the routers and what they are told.
pub struct Fleet {
    pub programs: Programs,
    pub folder: Utf8PathBuf,
    pub world: Arc<World>,
    pub catalog: Arc<Catalog>,
    pub hosts: Vec<Host>,
    /// Hosts that were replaced, for what they have executed.
    pub former: Vec<Host>,
    pub routers: Vec<Router>,
    longest_stream_s: u64,
}

/// Runs a whole demo in `folder`.
pub async fn run(
    programs: Programs,
    folder: &Utf8Path,
    size: &Size,
    version: String,
    output: Output,
) -> anyhow::Result<Report> {
    let longest_stream_s = size.crowd.lengths.max_ms.div_ceil(1_000);
    let fleet = Fleet::raise(programs, folder, size.hosts, longest_stream_s).await?;
    let interrupted = crate::conductor::watch_signals(&fleet.world);
    let ground = Arc::new(Ground {
        world: Arc::clone(&fleet.world),
        routers: fleet.routers.iter().map(|router| router.address).collect(),
        ledger: Mutex::new(Ledger::new(FIRST, fleet.world.now())),
        open: Mutex::default(),
    });
    let mut stage = Stage::new(fleet, Arc::clone(&ground), output);
    let played = stage.play(&size.crowd).await;
    let ended = stage.clear_away().await;
    let (acts, missed) = stage.into_parts();
    played?;
    let facts = Facts {
        versiond: version,
        hosts: size.hosts,
        seconds: ground.world.now().0 as f64 / 1_000.0,
        executed: ended?,
        acts,
        missed,
        interrupted: interrupted.is_cancelled(),
    };
    let report = Report::new(&ground.ledger.lock(), facts);
    Ok(report)
}

impl Fleet {
    /// Starts so many hosts, `gpu-1` and on, and two routers before them; all of them are up at the return.
    pub async fn raise(
        programs: Programs,
        folder: &Utf8Path,
        count: usize,
        longest_stream_s: u64,
    ) -> anyhow::Result<Self> {
        let artifacts = Artifacts::pack(&programs.children)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let world = Arc::new(World::new(listener.local_addr()?, &[FIRST]));
        let catalog = Catalog::serve(listener, artifacts, &[FIRST], Arc::clone(&world))?;
        let folder = folder.to_owned();
        let (hosts, former, routers) = (Vec::new(), Vec::new(), Vec::new());
        let mut fleet = Self { programs, folder, world, catalog, hosts, former, routers, longest_stream_s };
        for number in 1..=count {
            let id = format!("gpu-{number}");
            fleet.hosts.push(fleet.start_host(&id, &id)?);
        }
        fleet.list()?;
        for number in 1..=2 {
            let name = format!("router-{number}");
            let router = &fleet.programs.router;
            fleet.routers.push(Router::start(router, &fleet.folder.join(&name), &name, &fleet.members())?);
        }
        let begun = Instant::now();
        while !fleet.all_are("ready").await {
            for host in &fleet.hosts {
                if let Some(status) = host.supervisor.exited() {
                    bail!("{} ended at once ({status}):\n{}", host.id, host.supervisor.last_words(10));
                }
            }
            if begun.elapsed() > UP_WITHIN {
                bail!("the hosts are not up after {UP_WITHIN:?}:\n{}", fleet.last_words());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(fleet)
    }

    /// Starts a host of this identity in a folder of its own.
    pub fn start_host(&self, id: &str, folder: &str) -> anyhow::Result<Host> {
        Host::start(&self.programs, &self.folder.join(folder), id, &self.catalog, self.longest_stream_s)
    }

    /// Writes down the addresses of all hosts, for both routers.
    pub fn list(&self) -> anyhow::Result<()> {
        let listed: Vec<_> =
            self.hosts.iter().map(|host| BTreeMap::from([("address", host.address.to_string())])).collect();
        let beside = self.folder.join("hosts.next");
        std::fs::write(&beside, serde_json::to_vec(&listed)?)?;
        std::fs::rename(&beside, self.members()).context("the list of hosts")
    }

    fn members(&self) -> Utf8PathBuf {
        self.folder.join("hosts.json")
    }

    /// Whether both routers see all hosts in this role.
    pub async fn all_are(&self, wanted: &str) -> bool {
        let ids: Vec<&str> = self.hosts.iter().map(|host| host.id.as_str()).collect();
        self.both_see(|hosts| hosts.len() == ids.len() && ids.iter().all(|id| role(hosts, id) == Some(wanted))).await
    }

    /// Whether both routers see the hosts so.
    pub async fn both_see(&self, is: impl Fn(&[supervisor_protocol::router::HostStatus]) -> bool) -> bool {
        for router in &self.routers {
            if !router.hosts().await.is_ok_and(|hosts| is(&hosts)) {
                return false;
            }
        }
        true
    }

    /// Whether every host serves what the catalog names, and has nothing else.
    pub async fn is_settled(&self) -> bool {
        for host in &self.hosts {
            if !host.is_settled(&self.catalog).await {
                return false;
            }
        }
        true
    }

    /// The last lines of every log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let hosts = self.hosts.iter().map(|host| (host.id.as_str(), host.supervisor.last_words(5)));
        let of = |router: &Router| crate::supervisor::last_lines(&router.log(), 5);
        let routers = self.routers.iter().map(|router| (router.name.as_str(), of(router)));
        hosts.chain(routers).map(|(name, words)| format!("{name}:\n{words}")).collect::<Vec<_>>().join("\n")
    }
}
