//! The steps of a slot that take time: fetch, preflight, start, and in [`super::probe`] those that speak to a
//! child that runs. Each runs as a task of one generation and ends with an event for the slot's actor, or
//! silently when it is cancelled.
//!
//! Must not live here: what follows from an outcome (that is `versiond-core`).

use std::sync::Arc;

use supervisor_protocol::admin::Verb;
use supervisor_protocol::contract::StateKind;
use supervisor_protocol::{Generation, Sha256, SlotId, VersionName};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use versiond_core::catalog::Artifact;
use versiond_core::generation::Facts;
use versiond_core::schema::Standing;
use versiond_core::slot::{Failed, Input, NotLaunched};

use crate::process;
use crate::store::{Installed, StoreError};
use crate::supervisor::child::chain;
use crate::supervisor::command::Answer;
use crate::supervisor::launch::Life;
use crate::supervisor::preflight::{self, Build, Found, PreflightError, Schema};
use crate::supervisor::{Shared, SpecBook};

/// What a task tells its actor.
pub(crate) enum Event {
    Input(Input),
    Installed(Generation, Installed),
    Described(Generation, Facts, Arc<Build>),
    /// It may not start before a build in one of these slots has seen to the schema of their database.
    SchemaWait(Generation, Vec<VersionName>),
    Launched(Generation, Box<Life>),
    /// What a draining child counts; void once its drain was taken back.
    ChildLoad {
        generation: Generation,
        inflight: u64,
        taken_back: CancellationToken,
    },
    Command(Verb, Answer),
}

/// What every task of a slot needs.
#[derive(Clone)]
pub(crate) struct Effects {
    pub(crate) id: SlotId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) service: Arc<SpecBook>,
}

impl Effects {
    /// Fetches and verifies the artifact. A command of the configuration is here already.
    pub(crate) async fn fetch(&self, generation: Generation, artifact: Artifact) -> Event {
        let failed = |failed| Event::Input(Input::FetchFailed(generation, failed));
        if let Err(error) = self.shared.recorder.claim(generation).await {
            return failed(Failed::Ledger(chain(&error)));
        }
        let Some(spec) = self.service.of(artifact.sha256) else {
            return failed(Failed::Artifact("the configuration does not say any more what this is".to_owned()));
        };
        if let Some(program) = spec.program() {
            return Event::Installed(generation, program.installed());
        }
        let board = self.shared.board.clone();
        let id = self.id.clone();
        let progress = move |received: u64, total: Option<u64>| board.set_progress(&id, Some((received, total)));
        let installed = self.shared.store.ensure(&artifact, spec.entry.as_deref(), &progress).await;
        self.shared.board.set_progress(&self.id, None);
        let pause = self.shared.store.pause(artifact.sha256).map(|left| self.shared.clock.now().after(left));
        self.shared.board.set_pause(artifact.sha256, pause);
        match installed {
            Ok(installed) => Event::Installed(generation, installed),
            Err(error) => {
                let failure = fetch_failure(&error);
                if let Failed::Hash { .. } | Failed::Artifact(_) = failure {
                    self.shared.schemas.learn(&self.id, artifact.sha256, Standing::Apart);
                }
                failed(failure)
            }
        }
    }

    /// Seals the build's bytes, checks them again, and asks what it is. One that is too old to see to the schema of
    /// a shared database waits for one that can, unless it has served on it before.
    pub(crate) async fn describe(
        &self,
        generation: Generation,
        installed: Installed,
        has_served: bool,
        tell: mpsc::Sender<Event>,
    ) -> Event {
        let sha256 = installed.archive_sha256;
        let failed = |detail: String| Event::Input(Input::PreflightFailed(generation, detail));
        let Some(spec) = self.service.of(installed.archive_sha256) else {
            return failed("the configuration does not say any more what this is".to_owned());
        };
        let is_command = spec.command.is_some();
        let sealed = tokio::task::spawn_blocking(move || {
            let (path, sha256) = (&installed.path, Some(installed.entry_sha256));
            if is_command { process::pin(path, sha256) } else { process::seal(path, sha256) }
        });
        let sealed = match sealed.await {
            Ok(Ok(sealed)) => Arc::new(sealed),
            Ok(Err(error)) if is_command => {
                return failed(format!("{}; `versionctl reload` takes it as it is now", chain(&error)));
            }
            Ok(Err(error)) => return failed(chain(&error)),
            Err(error) => return failed(chain(&error)),
        };
        let account = self.shared.isolation.account_of(&spec.isolation).await;
        let spawner = match account {
            Ok(account) => self.shared.spawner.asking_as(account),
            Err(error) => return Event::Input(Input::NotIsolated(generation, chain(&error))),
        };
        let found = preflight::ask(&spawner, &self.id, sealed, spec).await;
        self.shared.schemas.learn(&self.id, sha256, standing(&found));
        match found {
            Ok(Found { facts, build, schema }) => {
                if schema == Schema::Unknown && !has_served {
                    self.wait_for_schema(generation, &tell).await;
                }
                // A plan changes the program's data before its first start: the one before must be gone then.
                let planned = self.shared.pre_upgrade.as_ref().is_some_and(|plans| plans.is_for(&self.id));
                let state = if planned { StateKind::Local } else { facts.state };
                Event::Described(generation, Facts { state, ..facts }, Arc::new(build))
            }
            Err(error) => failed(chain(&error)),
        }
    }

    /// Waits until a build of another slot has seen to the schema, or none of them can.
    async fn wait_for_schema(&self, generation: Generation, tell: &mpsc::Sender<Event>) {
        let mut ahead = self.shared.schemas.ahead_of(&self.id, None).await;
        while !ahead.is_empty() {
            tell.send(Event::SchemaWait(generation, ahead.clone())).await.ok();
            ahead = self.shared.schemas.ahead_of(&self.id, Some(&ahead)).await;
        }
    }

    /// Makes the process: recorded before it runs, held at a pipe until it is.
    pub(crate) async fn start(
        &self,
        generation: Generation,
        facts: Facts,
        build: Arc<Build>,
        sha256: Sha256,
        cancel: CancellationToken,
    ) -> Event {
        let launched = tokio::select! {
            () = cancel.cancelled() => Err(NotLaunched::Failed("it is no longer wanted".to_owned())),
            launched = self.launch(generation, &facts, &build, sha256) => launched,
        };
        match launched {
            Ok(life) => Event::Launched(generation, Box::new(life)),
            Err(failed) => {
                // It may be in the ledger already.
                if let Err(error) = self.shared.recorder.forget(generation).await {
                    tracing::warn!(slot = %self.id, %generation, error = chain(&error), "not struck off the ledger");
                }
                Event::Input(Input::LaunchFailed(generation, failed))
            }
        }
    }
}

/// What is known of a build and the schema once it has been asked.
fn standing(found: &Result<Found, PreflightError>) -> Standing {
    match found {
        Ok(Found { schema: Schema::Done, .. }) => Standing::Done,
        Ok(Found { schema: Schema::Unknown, .. }) => Standing::Legacy,
        Ok(Found { schema: Schema::Apart, .. }) => Standing::Apart,
        Err(error) if error.is_verdict() => Standing::Apart,
        Err(_) => Standing::Failed,
    }
}

fn fetch_failure(error: &StoreError) -> Failed {
    match error {
        StoreError::HashMismatch { found, .. } => Failed::Hash { found: found.to_string() },
        StoreError::Unusable(_) => Failed::Artifact(chain(error)),
        StoreError::Disk { .. } | StoreError::Client { .. } | StoreError::Fetch { .. } => Failed::Fetch(chain(error)),
    }
}
