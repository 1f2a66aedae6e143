//! How children are kept apart on this host: found out once at the start, applied to each generation.
//!
//! Lives here: what the configuration asks for against what the host gives, and what a generation is given for
//! itself: its control group, its user, its folder, its credentials. Must not live here: how a process is forked
//! into all that (that is [`crate::process`]).

mod accounts;
mod credentials;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use supervisor_protocol::admin::{Containment, Isolation as Shown, SocketOwnership, Users};
use supervisor_protocol::{Generation, ServiceName, SlotId};

pub(crate) use self::accounts::Powers;
use crate::config::{Config, IsolationConfig, chain};
use crate::process::cgroup::{NoTree, Tree};
use crate::process::folders::{self, remove};
use crate::process::{Account, Confine};

/// What holds on this host.
#[derive(Debug)]
pub(crate) struct Isolation {
    tree: Result<Tree, NoTree>,
    powers: Powers,
    state_dir: PathBuf,
    /// The folder of credentials: in memory, where systemd gives such a one.
    secrets: PathBuf,
}

/// What a generation has for itself beside its process. Dropped when nothing of that is left: it goes then.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) confine: Confine,
    /// Its folder, for its sockets and files: its user's own once it is handed over.
    pub(crate) home: PathBuf,
    /// The folder of its credentials, if it has any.
    pub(crate) credentials: Option<PathBuf>,
}

/// Why a generation cannot be kept as its service asks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    /// The host does not give what the configuration asks for.
    #[error("{0}")]
    Missing(String),
    #[error("{what}")]
    Failed {
        what: String,
        #[source]
        source: io::Error,
    },
}

impl Isolation {
    /// Looks, and changes nothing.
    pub(crate) fn look(state_dir: &Path) -> Isolation {
        // Set by systemd: RuntimeDirectory= is on a tmpfs.
        let runtime = std::env::var("RUNTIME_DIRECTORY").unwrap_or_default();
        let runtime = runtime.split(':').next().filter(|first| !first.is_empty());
        Isolation {
            tree: Tree::find(),
            powers: Powers::own(),
            state_dir: state_dir.to_owned(),
            secrets: runtime.map_or_else(|| state_dir.join("run"), PathBuf::from).join("credentials"),
        }
    }

    /// Takes the place that was found: moves versiond into its leaf, ends what a dead predecessor left in the others,
    /// and removes its folders. Blocking.
    ///
    /// # Errors
    /// What is left cannot be removed.
    pub(crate) fn establish(state_dir: &Path, within: Duration) -> io::Result<Isolation> {
        let found = Isolation::look(state_dir);
        let isolation = Isolation { tree: found.tree.and_then(Tree::enter), ..found };
        match &isolation.tree {
            Ok(tree) => match tree.sweep(within) {
                Ok(0) => tracing::info!(group = %tree.root().display(), "each generation gets a control group"),
                Ok(swept) => tracing::warn!(swept, "ended what a dead predecessor left in control groups"),
                // One process that a driver holds on to must not keep the whole host down.
                Err(error) => tracing::error!(%error, "what a dead predecessor left is not all gone"),
            },
            Err(NoTree::NotMounted | NoTree::NotDelegated { .. } | NoTree::Shared { .. }) => {}
            Err(error) => tracing::warn!(error = chain(error), "no control groups"),
        }
        remove(&isolation.secrets)?;
        let run = state_dir.join("run");
        remove(&run)?;
        std::fs::create_dir_all(state_dir)?;
        folders::make(&run)?;
        Ok(isolation)
    }

    /// Everything that a generation of a service is kept in and given.
    ///
    /// # Errors
    /// The host does not give what the service asks for, or a folder cannot be made.
    pub(crate) async fn keep(
        self: &Arc<Self>,
        slot: &SlotId,
        generation: Generation,
        asked: &IsolationConfig,
        data_dir: &Path,
    ) -> Result<Kept, NotKept> {
        let isolation = Arc::clone(self);
        let (slot, asked, data_dir) = (slot.clone(), asked.clone(), data_dir.to_owned());
        unblocked(move || isolation.keep_now(&slot, generation, &asked, &data_dir)).await
    }

    /// Whom a service's children become. `None`: they stay as versiond is.
    ///
    /// # Errors
    /// The host does not give what the service asks for.
    pub(crate) async fn account_of(self: &Arc<Self>, asked: &IsolationConfig) -> Result<Option<Account>, NotKept> {
        let (isolation, asked) = (Arc::clone(self), asked.clone());
        unblocked(move || isolation.account(&asked)).await
    }

    fn keep_now(
        &self,
        slot: &SlotId,
        generation: Generation,
        asked: &IsolationConfig,
        data_dir: &Path,
    ) -> Result<Kept, NotKept> {
        let account = self.account(asked)?;
        let run = self.state_dir.join("run");
        let mut kept = Kept { confine: Confine::default(), home: run.join(generation.to_string()), credentials: None };
        let failed = |path: &Path| {
            let what = path.display().to_string();
            move |source| NotKept::Failed { what, source }
        };
        folders::make(&kept.home).map_err(failed(&kept.home))?;
        if let Some(account) = &account {
            let data = self.state_dir.join("data");
            for folder in [&self.state_dir, &run, &data, &data.join(slot.service.as_str())] {
                folders::let_pass(folder).map_err(failed(folder))?;
            }
            folders::give_data(data_dir, account).map_err(failed(data_dir))?;
            if !asked.credentials.is_empty() {
                let folder = self.secrets.join(generation.to_string());
                kept.credentials = Some(folder.clone());
                credentials::write(&self.secrets, &folder, &asked.credentials, account)?;
            }
        }
        if let Ok(tree) = &self.tree {
            let made = tree.group(slot, generation, &asked.limits);
            kept.confine.group = Some(made.map_err(failed(tree.root()))?.into());
        }
        kept.confine.account = account;
        Ok(kept)
    }

    fn account(&self, asked: &IsolationConfig) -> Result<Option<Account>, NotKept> {
        let Some(user) = &asked.user else {
            return match asked.credentials.keys().next() {
                None => Ok(None),
                Some(name) => Err(NotKept::Missing(format!(
                    "its credential {name} would be everyone's: it needs a user of its own, [service.…] user"
                ))),
            };
        };
        let account = accounts::account(user, asked.group.as_deref()).map_err(NotKept::Missing)?;
        if account.uid() == geteuid() {
            return match asked.credentials.keys().next() {
                None => Ok(None),
                Some(name) => Err(NotKept::Missing(format!("its credential {name} would be versiond's own user's"))),
            };
        }
        if !self.powers.users {
            let what = "versiond may not change users: it lacks CAP_SETUID, CAP_SETGID, CAP_KILL or CAP_CHOWN";
            return Err(NotKept::Missing(format!("its user is {user}, and {what}")));
        }
        Ok(Some(account))
    }

    /// As the status shows it, against what these services ask for.
    pub(crate) async fn shown_for(self: &Arc<Self>, services: BTreeMap<ServiceName, IsolationConfig>) -> Shown {
        let isolation = Arc::clone(self);
        let shown = tokio::task::spawn_blocking(move || isolation.shown(&services)).await;
        shown.unwrap_or_else(|_| Shown::least())
    }

    /// The same. Blocking.
    pub(crate) fn shown(&self, services: &BTreeMap<ServiceName, IsolationConfig>) -> Shown {
        let separate = services.values().any(|asked| matches!(self.account(asked), Ok(Some(_))));
        Shown {
            processes: if self.tree.is_ok() { Containment::Cgroup } else { Containment::Group },
            users: if self.powers.users { Users::Separate } else { Users::None },
            // What runs as versiond itself can always be looked at.
            socket_ownership: if self.powers.look || !separate {
                SocketOwnership::Verified
            } else {
                SocketOwnership::Unverified
            },
            remarks: self
                .remarks(services)
                .into_iter()
                .map(|remark| format!("{}; {}", remark.what, remark.mend))
                .collect(),
        }
    }

    /// What is asked for and not given here, or could surprise.
    pub(crate) fn remarks(&self, services: &BTreeMap<ServiceName, IsolationConfig>) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let mut remark = |what: String, mend: &str| remarks.push(Remark { what, mend: mend.to_owned() });
        if let Err(error) = &self.tree {
            let what = format!("generations are kept in process groups alone: {}", chain(error));
            remark(what, "run it as the unit does (Delegate=yes), or in a control group that is its user's own");
        }
        for (name, asked) in services {
            if let Err(error) = self.account(asked) {
                let what = format!("[service.{name}] is not started: {error}");
                remark(what, "make the user and run versiond as the unit does, or ask for less");
            }
            let wanted = asked.limits.controllers();
            let missing: Vec<String> = match &self.tree {
                Ok(tree) => wanted.difference(tree.controllers()).map(ToString::to_string).collect(),
                Err(_) => wanted.iter().map(ToString::to_string).collect(),
            };
            if !missing.is_empty() {
                let what = format!("[service.{name}] limits do not hold without the controller {}", missing.join(", "));
                remark(what, "use the unified hierarchy (systemd.unified_cgroup_hierarchy=1) and delegate it");
            }
            let same = |(other, theirs): &(&ServiceName, &IsolationConfig)| *other < name && theirs.user == asked.user;
            if let (Some((other, _)), Some(user)) = (services.iter().find(same), &asked.user) {
                let what = format!("[service.{other}] and [service.{name}] share the user {user}");
                remark(what, "give each its own, or each can read what the other may");
            }
        }
        if services.values().any(|asked| !asked.credentials.is_empty()) && !credentials::in_memory(&self.secrets) {
            let what = format!("credentials are written to a disk: {}", self.secrets.display());
            remark(what, "run it as the unit does (RuntimeDirectory=versiond)");
        }
        if services.values().any(|asked| asked.user.is_some()) && self.powers.users && !self.powers.look {
            let what = "whose socket a child's port is cannot be told: CAP_SYS_PTRACE is missing".to_owned();
            remark(what, "run it as the unit does");
        }
        remarks
    }
}

/// Users may be looked up over a network, and folders may be slow.
async fn unblocked<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotKept> + Send + 'static,
) -> Result<T, NotKept> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|ended| {
        let what = "the work was given up".to_owned();
        Err(NotKept::Failed { what, source: io::Error::other(ended) })
    })
}

/// Something to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remark {
    pub(crate) what: String,
    pub(crate) mend: String,
}

/// What each service asks for.
pub(crate) fn asked(config: &Config) -> BTreeMap<ServiceName, IsolationConfig> {
    config.services.iter().map(|(name, service)| (name.clone(), service.isolation.clone())).collect()
}

impl Kept {
    /// Gives its folder to its user, with what has been put there: from now on versiond cannot look into it.
    pub(crate) fn hand_over(&self) -> io::Result<()> {
        match &self.confine.account {
            Some(account) => folders::give(&self.home, account),
            None => Ok(()),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for folder in self.credentials.iter().chain([&self.home]) {
            if let Err(error) = remove(folder) {
                tracing::warn!(folder = %folder.display(), %error, "not removed");
            }
        }
    }
}
