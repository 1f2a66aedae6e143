//! One host of a fleet: a versiond with the name of its machine, emptied and filled again as its operator would do it.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::Command;

use super::clients::SLOT;
use super::router::DETECTION_WINDOW;
use crate::catalog::Catalog;
use crate::supervisor::Supervisor;
use crate::supervisor::config::{Config, STATE, pick_ports};
use crate::watcher;

/// The routers' window and a second: long enough for them to move on before the host goes.
const ANNOUNCE: &str = "8s";
const _: () = assert!(DETECTION_WINDOW.as_secs() + 1 == 8);
/// What the name of the file with the executed ids is, in the data directory of a slot.
const EXECUTIONS: &str = "executions";

/// A host, at one address.
#[derive(Debug)]
pub struct Host {
    pub id: String,
    pub address: SocketAddr,
    pub supervisor: Arc<Supervisor>,
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    pub versiond: Utf8PathBuf,
    pub router: Utf8PathBuf,
    pub versionctl: Utf8PathBuf,
    /// The folder of the demo's children.
    pub children: Utf8PathBuf,
}

impl Programs {
    /// This versiond and the folder of the children, with the router and versionctl beside the latter.
    #[must_use]
    pub fn beside((versiond, children): (&Utf8Path, &Utf8Path)) -> Self {
        Self {
            versiond: versiond.to_owned(),
            router: children.join("versiond-router"),
            versionctl: children.join("versionctl"),
            children: children.to_owned(),
        }
    }
}

impl Host {
    /// Starts one with its state in `folder`, which it has for itself.
    pub fn start(
        programs: &Programs,
        folder: &Utf8Path,
        id: &str,
        catalog: &Catalog,
        longest_stream_s: u64,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (address, child_ports) = pick_ports()?;
        let config = Config {
            id: id.to_owned(),
            announce: ANNOUNCE,
            ..Config::new((address, child_ports), catalog.source(), longest_stream_s)
        };
        let supervisor = Supervisor::new(&programs.versiond, folder, &config, None)?;
        supervisor.start()?;
        Ok(Self { id: id.to_owned(), address, supervisor })
    }

    /// What an operator types on it; its last words are returned.
    pub async fn versionctl(&self, programs: &Programs, line: &[&str], within: Duration) -> anyhow::Result<String> {
        let mut command = Command::new(&programs.versionctl);
        command.args(["--admin", self.supervisor.admin().as_str()]).args(line);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let what = format!("versionctl {} on {}", line.join(" "), self.id);
        let output = tokio::time::timeout(within, output).await.with_context(|| format!("{what}: not done in time"))?;
        let output = output.with_context(|| format!("cannot run {}", programs.versionctl))?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let complained = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        ensure!(output.status.success(), "{what}: {}: {said} {complained}", output.status);
        Ok(said.lines().last().unwrap_or_default().to_owned())
    }

    /// Whether it serves what the catalog names, and has nothing else.
    pub async fn is_settled(&self, catalog: &Catalog) -> bool {
        let Ok(status) = self.supervisor.status().await else { return false };
        let Some(slot) = watcher::slot_of(&status, SLOT) else { return false };
        let serves = watcher::serving(slot).map(|one| one.sha256);
        let leaves = watcher::leaving(slot).next().is_some();
        serves.is_some() && serves == slot.desired && status.catalog.revision == Some(catalog.revision()) && !leaves
    }

    /// The ids of what its children have executed, this one's and those before it, however they ended.
    pub fn executed(&self) -> anyhow::Result<Vec<u64>> {
        let mut ids = Vec::new();
        let mut folders = vec![self.supervisor.folder().join(STATE)];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir_utf8()? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.into_path());
                } else if entry.file_name() == EXECUTIONS {
                    for line in std::fs::read_to_string(entry.path())?.lines() {
                        ids.push(line.parse().with_context(|| format!("{}: {line:?}", entry.path()))?);
                    }
                }
            }
        }
        Ok(ids)
    }
}
