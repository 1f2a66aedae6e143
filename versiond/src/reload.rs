//! The configuration, read again at a SIGHUP or by an operator's word, without a restart.
//!
//! It is refused whole when it is not valid or names a program that cannot be run: what runs goes on under the one
//! before, and the refusal is shown until a reading succeeds. What cannot change under a running daemon is named by
//! its key and left for the next start. Must not live here: what a change of a service leads to (the manager's).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::Utf8PathBuf;
use supervisor_protocol::admin::Reloaded;
use supervisor_protocol::{Reason, ServiceName};
use tokio::sync::{mpsc, oneshot, watch};

use crate::board::Board;
use crate::catalog::CatalogHandle;
use crate::config::{self, Config, ConfigError, Env};
use crate::isolation::{self, Isolation};
use crate::supervisor::{Settings, chain};

/// Where the configuration came from, so that it can be read again.
#[derive(Debug, Clone)]
pub struct Origin {
    pub path: Option<Utf8PathBuf>,
    pub env: Env,
}

/// Why a reading was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error("it is not valid")]
    Config(#[source] ConfigError),
    #[error("[service.{service}] command: {detail}")]
    Program { service: ServiceName, detail: String },
    #[error("the host is on its way out")]
    HostLeaving,
}

type Answer = oneshot::Sender<Result<Reloaded, ReloadError>>;

/// The way to another reading.
#[derive(Debug, Clone)]
pub(crate) struct Reload(mpsc::Sender<Answer>);

impl Reload {
    /// Reads the configuration again, and says what that has changed.
    pub(crate) async fn ask(&self) -> Result<Reloaded, ReloadError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| ReloadError::HostLeaving)?;
        answered.await.unwrap_or(Err(ReloadError::HostLeaving))
    }
}

/// What reads, and whom it tells.
pub(crate) struct Reloader {
    pub(crate) origin: Origin,
    pub(crate) config: Config,
    pub(crate) settings: watch::Sender<Arc<Settings>>,
    pub(crate) catalog: CatalogHandle,
    pub(crate) board: Arc<Board>,
    pub(crate) isolation: Arc<Isolation>,
}

impl Reloader {
    /// Starts the task, which ends with the last way to it.
    pub(crate) fn start(self) -> Reload {
        let (ask, mut asked) = mpsc::channel::<Answer>(4);
        let mut reloader = self;
        tokio::spawn(async move {
            // What counts from the next start differs from what this daemon was started with.
            let started = reloader.config.clone();
            while let Some(answer) = asked.recv().await {
                let reloaded = reloader.reload(&started).await;
                // Who asked may be gone.
                answer.send(reloaded).ok();
            }
        });
        Reload(ask)
    }

    async fn reload(&mut self, started: &Config) -> Result<Reloaded, ReloadError> {
        let read = self.read().await;
        let (config, settings) = match read {
            Ok(read) => read,
            Err(error) => {
                let detail = chain(&error);
                tracing::error!(error = detail, "the configuration is refused; the one before stays in force");
                self.board.set_notes(vec![Reason::ReloadRefused { detail }]);
                return Err(error);
            }
        };
        let before = self.settings.borrow().clone();
        let reloaded = difference(&before, &settings, &restart_needed(started, &config));
        let Reloaded { added, removed, changed, restart_needed } = &reloaded;
        tracing::info!(?added, ?removed, ?changed, ?restart_needed, "the configuration is read again");
        let notes = (!restart_needed.is_empty()).then(|| Reason::RestartNeeded { keys: restart_needed.clone() });
        self.board.set_notes(notes.into_iter().collect());
        // What needs a restart is not half in force: of the new reading the services alone are taken.
        let context = self.config.parse_context();
        self.config.services = config.services;
        // The catalog knows a new service before the manager asks what it should run.
        if self.config.parse_context() != context
            && self.catalog.reconfigure(self.config.parse_context()).await.is_err()
        {
            return Err(ReloadError::HostLeaving);
        }
        self.settings.send_replace(Arc::new(settings));
        self.board.set_isolation(self.isolation.shown_for(isolation::asked(&self.config)).await);
        Ok(reloaded)
    }

    async fn read(&self) -> Result<(Config, Settings), ReloadError> {
        let Origin { path, env } = self.origin.clone();
        let read = tokio::task::spawn_blocking(move || {
            let config = config::load(path.as_deref(), &env).map_err(ReloadError::Config)?;
            let settings = Settings::new(&config);
            match settings.unusable() {
                Some((service, detail)) => Err(ReloadError::Program { service, detail }),
                None => Ok((config, settings)),
            }
        });
        read.await.unwrap_or(Err(ReloadError::HostLeaving))
    }
}

/// Every setting outside the services that says something else than at the start.
fn restart_needed(started: &Config, now: &Config) -> Vec<String> {
    let values = |config: &Config| -> BTreeMap<String, String> {
        let outside = config.settings.iter().filter(|setting| !setting.key.starts_with("service."));
        outside.map(|setting| (setting.key.clone(), setting.value.clone())).collect()
    };
    let (started, now) = (values(started), values(now));
    let keys: BTreeSet<&String> = started.keys().chain(now.keys()).collect();
    keys.into_iter().filter(|key| started.get(*key) != now.get(*key)).cloned().collect()
}

fn difference(before: &Settings, after: &Settings, restart_needed: &[String]) -> Reloaded {
    let (old, new) = (&before.services, &after.services);
    let changed = |name: &&ServiceName| old.get(*name).zip(new.get(*name)).is_some_and(|(old, new)| old != new);
    Reloaded {
        added: new.keys().filter(|name| !old.contains_key(*name)).cloned().collect(),
        removed: old.keys().filter(|name| !new.contains_key(*name)).cloned().collect(),
        changed: new.keys().filter(changed).cloned().collect(),
        restart_needed: restart_needed.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = Utf8PathBuf::from_path_buf(folder.path().join("versiond.toml")).unwrap();
        std::fs::write(&file, format!("host.id = \"h\"\ncatalog.source = \"file:/c\"\n{text}")).unwrap();
        config::read(Some(&file), &Env::new()).unwrap()
    }

    #[test]
    fn what_needs_a_restart_is_named_by_its_key_wherever_it_stands_in_the_file() {
        let started = config("host.listen = \"127.0.0.1:1\"\n[service.a]\n[timing]\nhold = \"5s\"\n");
        let same = config("\n\nhost.listen = \"127.0.0.1:1\"\n[timing]\nhold = \"5s\"\n[service.b]\nroute = \"/b\"\n");
        assert_eq!(restart_needed(&started, &same), Vec::<String>::new());
        let other =
            config("host.listen = \"127.0.0.1:2\"\nhost.state_dir = \"/s\"\nhost.child_ports = \"1-2\"\n[service.a]\n");
        assert_eq!(
            restart_needed(&started, &other),
            ["host.child_ports", "host.listen", "host.state_dir", "timing.hold"].map(str::to_owned)
        );
    }

    #[test]
    fn services_come_go_and_change() {
        let of = |text: &str| Settings::new(&config(text));
        let before = of("[service.a]\n[service.b]\nroute = \"/b\"\n[service.c]\n");
        let after = of("[service.b]\nroute = \"/b\"\nargs = [\"x\"]\n[service.c]\n[service.d]\n");
        let name = |text: &str| vec![ServiceName::new(text).unwrap()];
        let reloaded = difference(&before, &after, &[]);
        assert_eq!((reloaded.added, reloaded.removed, reloaded.changed), (name("d"), name("a"), name("b")));
        assert_eq!(difference(&before, &before, &[]), Reloaded::default());
    }
}
