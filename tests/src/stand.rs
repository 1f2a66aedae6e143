//! What a run stands on: ports, the catalog server, a started versiond, a folder that goes afterwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;

use crate::artifacts::Artifacts;
use crate::catalog::Catalog;
use crate::clients;
use crate::sabotage::Sabotage;
use crate::scenario::{Build, Slot};
use crate::supervisor::Supervisor;
use crate::supervisor::config::{Config, pick_ports};
use crate::world::World;

/// A first start takes a download and a start of every slot.
const SERVING_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A started versiond and its catalog.
#[derive(Debug)]
pub struct Stand {
    pub world: Arc<World>,
    pub catalog: Arc<Catalog>,
    pub supervisor: Arc<Supervisor>,
}

impl Stand {
    /// Starts (versiond, with the children of this folder) for these builds, one a slot.
    pub async fn raise(
        folder: &Utf8Path,
        programs: (&Utf8Path, &Utf8Path),
        first: &[Build],
        fault: Option<Sabotage>,
        longest_stream_s: u64,
    ) -> anyhow::Result<Self> {
        Self::raise_as(folder, programs, first, fault, longest_stream_s, (1, None)).await
    }

    /// The same; the catalog is read every so many seconds, and the status endpoints may have an address of
    /// their own.
    pub async fn raise_as(
        folder: &Utf8Path,
        (versiond, children): (&Utf8Path, &Utf8Path),
        first: &[Build],
        fault: Option<Sabotage>,
        longest_stream_s: u64,
        (poll_s, status_listen): (u64, Option<SocketAddr>),
    ) -> anyhow::Result<Self> {
        let artifacts = Artifacts::pack(children)?;
        let (listen, child_ports) = pick_ports()?;
        let world = Arc::new(World::new(listen, first));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let catalog = Catalog::serve(listener, artifacts, first, Arc::clone(&world))?;
        let config =
            Config { status_listen, poll_s, ..Config::new((listen, child_ports), catalog.source(), longest_stream_s) };
        let supervisor = Supervisor::new(versiond, folder, &config, fault)?;
        supervisor.start()?;
        Ok(Self { world, catalog, supervisor })
    }

    /// Waits until the first `slots` slots answer, or the world stops.
    pub async fn first_answers(&self, slots: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        for slot in (0..slots).map(Slot) {
            while !clients::is_answered(self.world.host, slot).await {
                if let Some(status) = self.supervisor.exited() {
                    bail!("versiond ended at once ({status}):\n{}", self.supervisor.last_words(10));
                }
                if begun.elapsed() > SERVING_WITHIN {
                    bail!("{slot} does not answer after {SERVING_WITHIN:?}:\n{}", self.supervisor.last_words(10));
                }
                if self.world.stop.is_cancelled() {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }
}

/// The folder of a run: the one to keep, or a temporary one that goes with the guard.
pub fn folder(keep: Option<&Utf8Path>) -> anyhow::Result<(Utf8PathBuf, Option<tempfile::TempDir>)> {
    if let Some(folder) = keep {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {folder}"))?;
        return Ok((folder.canonicalize_utf8()?, None));
    }
    // Short: the paths of Unix sockets below it may have 107 characters.
    let folder = tempfile::Builder::new().prefix("versiond-demo-").tempdir()?;
    let path = Utf8PathBuf::try_from(folder.path().canonicalize()?)?;
    Ok((path, Some(folder)))
}

/// Each stream takes one descriptor here and two in versiond, which inherits the limit.
pub fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With less the clients fail by name, so nothing is hidden here.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
