//! A Cosmovisor's folder, read and never written: its layout, the plan file, the batch file, and the info
//! that a plan has behind one more address.
//!
//! ```text
//! data/upgrade-info.json         the plan that the node has asked for last; not written at once
//! data/upgrade-info.json.batch   plans to come
//! cosmovisor/current             a link to what is in effect; moved by others, and sometimes missing
//! cosmovisor/genesis/bin/NAME
//! cosmovisor/upgrades/<name>/bin/NAME, …/upgrade-info.json
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::Mutex;
use sha2::Digest;
use supervisor_protocol::Sha256;
use versiond_core::catalog::{
    Info, Local, MAX_BYTES, Plan, PlanError, Snapshot, Upgrade, folder_of, read_batch, read_info, read_plan,
};

use super::files::Files;
use super::http::{self, Client};
use super::source::KnownHeights;
use crate::config::{CatalogConfig, chain};

/// Why the folder tells nothing now.
#[derive(Debug, thiserror::Error)]
pub enum CosmovisorError {
    #[error("the program's name is not known: set [catalog] daemon_name")]
    NoName,
    #[error("{path} cannot be read")]
    Disk { path: Utf8PathBuf, source: io::Error },
    #[error("{path}")]
    Plan { path: Utf8PathBuf, source: PlanError },
    #[error("the folder's state cannot be written down")]
    Written(#[source] serde_json::Error),
    #[error("the look at the folder did not come back")]
    Lost,
}

/// One folder, and what is remembered of it.
#[derive(Debug)]
pub(super) struct Folder {
    layout: Arc<Mutex<Layout>>,
    skip: BTreeSet<u64>,
    /// What it came to last, also before a restart.
    previous: Option<Snapshot>,
    /// What the addresses of infos have answered.
    infos: BTreeMap<String, String>,
}

/// Where things lie, with the hashes of what was looked at.
#[derive(Debug)]
struct Layout {
    home: Utf8PathBuf,
    daemon: Option<String>,
    skip: BTreeSet<u64>,
    files: Files,
}

/// What a look at the folder found.
struct Found {
    daemon: String,
    base: Option<Local>,
    base_height: Option<u64>,
    /// The plan that the node has asked for, unless that is in effect already, and then those to come.
    asked: Option<Plan>,
    to_come: Vec<Plan>,
    /// By the folder's name.
    programs: BTreeMap<String, Local>,
}

impl Folder {
    pub(super) fn new(home: &Utf8Path, config: &CatalogConfig, kept: Option<Snapshot>) -> Self {
        let layout = Layout {
            home: home.to_owned(),
            daemon: config.daemon().map(str::to_owned),
            skip: config.cosmovisor.skip.clone(),
            files: Files::default(),
        };
        let skip = layout.skip.clone();
        Self { layout: Arc::new(Mutex::new(layout)), skip, previous: kept, infos: BTreeMap::new() }
    }

    /// The folder as a document.
    pub(super) async fn read(&mut self, client: &Client, heights: KnownHeights) -> Result<Vec<u8>, CosmovisorError> {
        let (layout, previous) = (self.layout.clone(), self.previous.clone());
        // A look that takes too long goes on, and what it has hashed is there for the next one.
        let found = tokio::task::spawn_blocking(move || layout.lock().look(previous.as_ref()));
        let found = found.await.map_err(|_| CosmovisorError::Lost)??;
        // A node that does not say how far it is has stopped where it asked for its upgrade.
        let reached = match heights.now {
            Some(_) => None,
            None => found.asked.as_ref().map(|plan| plan.height),
        };
        let mut upgrades = Vec::new();
        for plan in found.asked.into_iter().chain(found.to_come) {
            let local = found.programs.get(&folder_of(&plan.name)).cloned();
            upgrades.push(self.upgrade(client, plan, local).await);
        }
        let Found { daemon, base, base_height, .. } = found;
        let snapshot = Snapshot { daemon, base, base_height, upgrades, reached };
        let mut snapshot = snapshot.after(self.previous.as_ref(), heights.reached);
        snapshot.upgrades.retain(|upgrade| !self.skip.contains(&upgrade.height));
        let document = snapshot.to_document().map_err(CosmovisorError::Written)?;
        self.previous = Some(snapshot);
        Ok(document)
    }

    /// The plan with its info, fetched where that is elsewhere. What its program's folder holds needs none.
    async fn upgrade(&mut self, client: &Client, plan: Plan, local: Option<Local>) -> Upgrade {
        let Plan { name, height, info } = plan;
        if local.is_some() {
            return Upgrade { name, height, local, info: String::new(), problem: None };
        }
        let (info, problem) = match read_info(&info) {
            Ok(Info::Elsewhere { url, sha256 }) => match self.info_at(client, &url, sha256).await {
                Ok(info) => (info, None),
                Err(problem) => match self.known_info(&name, height) {
                    Some(info) => (info, None),
                    None => (info, Some(problem)),
                },
            },
            Ok(Info::Binaries(_) | Info::Nothing) | Err(_) => (info, None),
        };
        Upgrade { name, height, local: None, info, problem }
    }

    async fn info_at(&mut self, client: &Client, url: &str, sha256: Option<Sha256>) -> Result<String, String> {
        if let Some(known) = self.infos.get(url) {
            return Ok(known.clone());
        }
        let place = http::shown(url);
        let answer = client.get_all(url, MAX_BYTES as u64).await;
        let answer = answer.map_err(|error| format!("its info at {place}: {}", chain(&error)))?;
        let found = Sha256(sha2::Sha256::digest(&answer).into());
        if let Some(expected) = sha256.filter(|expected| *expected != found) {
            return Err(format!("its info at {place}: expected {expected}, found {found}"));
        }
        let info = String::from_utf8(answer).map_err(|_| format!("its info at {place} is not text"))?;
        match read_info(&info) {
            Ok(Info::Binaries(_)) => {}
            Ok(Info::Elsewhere { .. } | Info::Nothing) => return Err(format!("its info at {place} names no binaries")),
            Err(error) => return Err(format!("its info at {place}: {error}")),
        }
        self.infos.insert(url.to_owned(), info.clone());
        Ok(info)
    }

    /// What the info of this plan was before a restart.
    fn known_info(&self, name: &str, height: u64) -> Option<String> {
        let mut known = self.previous.iter().flat_map(|previous| &previous.upgrades);
        let same = known.find(|upgrade| upgrade.name == name && upgrade.height == height && upgrade.problem.is_none());
        same.map(|upgrade| upgrade.info.clone())
    }
}

impl Layout {
    fn look(&mut self, previous: Option<&Snapshot>) -> Result<Found, CosmovisorError> {
        let daemon = self.daemon.clone().ok_or(CosmovisorError::NoName)?;
        let (base, base_plan) = self.base(&daemon, previous)?;
        let plan_file = self.home.join("data/upgrade-info.json");
        let asked = plan(&plan_file)?.filter(|asked| {
            let in_effect = base_plan.as_ref();
            !in_effect.is_some_and(|plan| plan.name.eq_ignore_ascii_case(&asked.name) && plan.height >= asked.height)
        });
        let batch_file = self.home.join("data/upgrade-info.json.batch");
        let batch = match read(&batch_file)? {
            Some(bytes) => read_batch(&bytes).map_err(|source| CosmovisorError::Plan { path: batch_file, source })?,
            None => Vec::new(),
        };
        // The plan that was asked for has left the batch, or is about to.
        let same = |one: &Plan, other: &Plan| one.height == other.height || one.name.eq_ignore_ascii_case(&other.name);
        let to_come: Vec<Plan> =
            batch.into_iter().filter(|plan| !asked.as_ref().is_some_and(|asked| same(asked, plan))).collect();
        let skipped = |plan: &Plan| self.skip.contains(&plan.height);
        let asked = asked.filter(|plan| !skipped(plan));
        let to_come: Vec<Plan> = to_come.into_iter().filter(|plan| !skipped(plan)).collect();
        let mut programs = BTreeMap::new();
        for plan in asked.iter().chain(&to_come) {
            let name = folder_of(&plan.name);
            if let Some(program) =
                self.folder(&name)?.map(|folder| program(&folder, &daemon)).filter(|path| path.exists())
            {
                let found = self.files.look(&program);
                programs.insert(name, found.map_err(|source| CosmovisorError::Disk { path: program, source })?);
            }
        }
        Ok(Found { daemon, base, base_height: base_plan.map(|plan| plan.height), asked, to_come, programs })
    }

    /// What is in effect by the folder's own word, with its plan. The link is removed and made anew when it
    /// is moved: while it is missing, the program before is still the one, and never the genesis one again.
    fn base(
        &mut self,
        daemon: &str,
        previous: Option<&Snapshot>,
    ) -> Result<(Option<Local>, Option<Plan>), CosmovisorError> {
        let root = self.home.join("cosmovisor");
        let current = root.join("current");
        if let Some(found) = self.program_in(&current, daemon)? {
            return Ok((Some(found), applied(&current)));
        }
        if let Some(before) = previous.and_then(|previous| previous.base.clone()) {
            let plan = previous.and_then(|previous| previous.base_height);
            let plan = plan.map(|height| Plan { name: String::new(), height, info: String::new() });
            // Replaced in its place, it is another program.
            let found = self.files.look(Utf8Path::new(&before.path)).unwrap_or(before);
            return Ok((Some(found), plan));
        }
        let mut upgrades: Vec<(Plan, Utf8PathBuf)> =
            self.folders()?.into_iter().filter_map(|folder| Some((applied(&folder)?, folder))).collect();
        upgrades.sort_by_key(|(plan, _)| plan.height);
        for (plan, folder) in upgrades.into_iter().rev() {
            if let Some(found) = self.program_in(&folder, daemon)? {
                return Ok((Some(found), Some(plan)));
            }
        }
        Ok((self.program_in(&root.join("genesis"), daemon)?, None))
    }

    /// By its own path, and not by that of a link to it, which may be gone when the bytes are wanted.
    fn program_in(&mut self, folder: &Utf8Path, daemon: &str) -> Result<Option<Local>, CosmovisorError> {
        let path = program(folder, daemon);
        match path.canonicalize_utf8().and_then(|path| self.files.look(&path)) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CosmovisorError::Disk { path, source }),
        }
    }

    /// The folder of an upgrade, whatever the case of its name.
    fn folder(&self, name: &str) -> Result<Option<Utf8PathBuf>, CosmovisorError> {
        let is_it = |folder: &Utf8PathBuf| folder.file_name().is_some_and(|found| found.eq_ignore_ascii_case(name));
        Ok(self.folders()?.into_iter().find(is_it))
    }

    fn folders(&self) -> Result<Vec<Utf8PathBuf>, CosmovisorError> {
        let path = self.home.join("cosmovisor/upgrades");
        let entries = match path.read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(CosmovisorError::Disk { path, source }),
        };
        let mut folders: Vec<Utf8PathBuf> =
            entries.filter_map(Result::ok).map(|entry| entry.path().to_owned()).collect();
        folders.sort();
        Ok(folders)
    }
}

fn program(folder: &Utf8Path, daemon: &str) -> Utf8PathBuf {
    folder.join("bin").join(daemon)
}

/// The plan by which a folder came into effect, where that was noted in it.
fn applied(folder: &Utf8Path) -> Option<Plan> {
    read_plan(&read(&folder.join("upgrade-info.json")).ok()??).ok()
}

fn plan(path: &Utf8Path) -> Result<Option<Plan>, CosmovisorError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    read_plan(&bytes).map(Some).map_err(|source| CosmovisorError::Plan { path: path.to_owned(), source })
}

fn read(path: &Utf8Path) -> Result<Option<Vec<u8>>, CosmovisorError> {
    use std::io::Read;
    let read = std::fs::File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(MAX_BYTES as u64).read_to_end(&mut bytes).map(|_| bytes)
    });
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CosmovisorError::Disk { path: path.to_owned(), source }),
    }
}
