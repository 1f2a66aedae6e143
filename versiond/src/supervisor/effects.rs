//! The steps of a slot that take time: fetch, preflight, start, probe, drain. Each runs as a task of
//! one generation and ends with an event for the slot's actor, or silently when it is cancelled.
//!
//! Must not live here: what follows from an outcome (that is `versiond-core`).

use std::sync::Arc;
use std::time::Duration;

use supervisor_protocol::admin::Verb;
use supervisor_protocol::contract::{Describe, Ready, Role, StateKind};
use supervisor_protocol::{CONTRACT, Generation, Nonce, Sha256, SlotId, env};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use versiond_core::catalog::Artifact;
use versiond_core::generation::{Facts, Probe};
use versiond_core::slot::{Failed, Input, NotLaunched};

use crate::faults::crash;
use crate::ledger::LedgerGeneration;
use crate::process::oneshot::{self, random_nonce};
use crate::process::sockets::{Ownership, owner_of_port};
use crate::process::{self, LaunchSpec, OutputLabel, OutputSink, PortLease, Running, Sealed};
use crate::store::{Installed, StoreError};
use crate::supervisor::child::{ChildLink, chain};
use crate::supervisor::command::Answer;
use crate::supervisor::{ServiceSpec, Shared};

/// What a task tells its actor.
pub(crate) enum Event {
    Input(Input),
    Installed(Generation, Installed),
    Described(Generation, Facts, Arc<Sealed>),
    Launched(Generation, Life),
    Command(Verb, Answer),
}

/// A process that has been made.
pub(crate) struct Life {
    pub(crate) running: Arc<Running>,
    pub(crate) port: PortLease,
    pub(crate) link: ChildLink,
    pub(crate) nonce: Nonce,
}

/// What is probed.
pub(crate) struct Subject {
    pub(crate) generation: Generation,
    pub(crate) role: Role,
    pub(crate) running: Arc<Running>,
    pub(crate) link: ChildLink,
    pub(crate) nonce: Nonce,
}

/// What every task of a slot needs.
#[derive(Clone)]
pub(crate) struct Effects {
    pub(crate) id: SlotId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) service: Arc<ServiceSpec>,
}

impl Effects {
    /// Fetches and verifies the artifact.
    pub(crate) async fn fetch(&self, generation: Generation, artifact: Artifact) -> Event {
        if let Err(error) = self.shared.recorder.claim(generation).await {
            return Event::Input(Input::FetchFailed(generation, Failed::Ledger(chain(&error))));
        }
        let board = self.shared.board.clone();
        let id = self.id.clone();
        let progress = move |received: u64, total: Option<u64>| board.set_progress(&id, Some((received, total)));
        let installed = self.shared.store.ensure(&artifact, self.service.entry.as_deref(), &progress).await;
        self.shared.board.set_progress(&self.id, None);
        match installed {
            Ok(installed) => Event::Installed(generation, installed),
            Err(error) => Event::Input(Input::FetchFailed(generation, fetch_failure(&error))),
        }
    }

    /// Seals the build's bytes, checks them again, and asks what it is.
    pub(crate) async fn describe(&self, generation: Generation, installed: Installed) -> Event {
        let failed = |detail: String| Event::Input(Input::PreflightFailed(generation, detail));
        let sealed = tokio::task::spawn_blocking(move || process::seal(&installed.path, Some(installed.entry_sha256)));
        let sealed = match sealed.await {
            Ok(Ok(sealed)) => Arc::new(sealed),
            Ok(Err(error)) => return failed(chain(&error)),
            Err(error) => return failed(chain(&error)),
        };
        match oneshot::describe(&self.shared.spawner, &sealed).await {
            Ok(described) => Event::Described(generation, facts(described), sealed),
            Err(error) => failed(chain(&error)),
        }
    }

    /// Makes the process: recorded before it runs, held at a pipe until it is.
    pub(crate) async fn start(
        &self,
        generation: Generation,
        facts: Facts,
        sealed: Arc<Sealed>,
        sha256: Sha256,
        cancel: CancellationToken,
    ) -> Event {
        let launched = tokio::select! {
            () = cancel.cancelled() => Err(NotLaunched::Failed("it is no longer wanted".to_owned())),
            launched = self.launch(generation, &facts, sealed, sha256) => launched,
        };
        match launched {
            Ok(life) => Event::Launched(generation, life),
            Err(failed) => {
                // It may be in the ledger already.
                if let Err(error) = self.shared.recorder.forget(generation).await {
                    tracing::warn!(slot = %self.id, %generation, error = chain(&error), "not struck off the ledger");
                }
                Event::Input(Input::LaunchFailed(generation, failed))
            }
        }
    }

    async fn launch(
        &self,
        generation: Generation,
        facts: &Facts,
        sealed: Arc<Sealed>,
        sha256: Sha256,
    ) -> Result<Life, NotLaunched> {
        fn failed(error: &dyn std::error::Error) -> NotLaunched {
            NotLaunched::Failed(chain(error))
        }
        let shared = &self.shared;
        let nonce = random_nonce().map_err(|error| failed(&error))?;
        let port = shared.ports.allocate().map_err(|error| NotLaunched::Ports { range: error.range.to_string() })?;
        let data_dir = shared.state_dir.join("data").join(self.id.service.as_str()).join(self.id.name.as_str());
        let admin = shared.state_dir.join("run").join(format!("{generation}.sock"));
        tokio::fs::create_dir_all(&data_dir)
            .await
            .map_err(|error| NotLaunched::Failed(format!("{}: {error}", data_dir.display())))?;
        let fill = |template: &str| {
            template
                .replace("{port}", &port.port().to_string())
                .replace("{data_dir}", &data_dir.to_string_lossy())
                .replace("{version}", self.id.name.as_str())
        };
        let argv = std::iter::once(self.id.service.to_string()).chain(self.service.args.iter().map(|arg| fill(arg)));
        let mut environment = self.service.env.clone();
        environment.extend(
            [
                (env::CONTRACT, CONTRACT.to_string()),
                (env::SERVICE, self.id.service.to_string()),
                (env::VERSION, self.id.name.to_string()),
                (env::GENERATION, generation.0.to_string()),
                (env::NONCE, nonce.to_string()),
                (env::ADMIN, admin.to_string_lossy().into_owned()),
                (env::DATA_DIR, data_dir.to_string_lossy().into_owned()),
                (env::SHUTDOWN_GRACE, format!("{}s", shared.timings.stop_grace.as_secs())),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let exclusive = match facts.state {
            StateKind::Local => true,
            StateKind::None | StateKind::Shared => false,
        };
        let spec = LaunchSpec {
            exe: sealed,
            argv: argv.collect(),
            env: environment,
            cwd: data_dir.clone(),
            lock_dir: exclusive.then(|| data_dir.clone()),
            output: OutputSink::Log(OutputLabel {
                service: self.id.service.clone(),
                version: self.id.name.clone(),
                generation,
            }),
            nonce: nonce.clone(),
            confine: process::Confine::default(),
        };
        crash::before("fork");
        let prepared = shared.spawner.prepare(spec).await.map_err(|error| failed(&error))?;
        crash::after("fork");
        let entry = LedgerGeneration {
            slot: self.id.clone(),
            generation,
            sha256,
            nonce: nonce.clone(),
            process: Some(prepared.identity().clone()),
            port: Some(port.port()),
        };
        shared.recorder.begins(entry, exclusive).await.map_err(|error| failed(&error))?;
        crash::before("exec");
        let running = prepared.release().await.map_err(|error| failed(&error))?;
        crash::after("exec");
        let link = ChildLink { admin, port: port.port() };
        Ok(Life { running, port, link, nonce })
    }

    /// Asks the child over and over whether it could serve, for as long as it lives.
    pub(crate) async fn watch(self, subject: Subject, tell: mpsc::Sender<Event>) {
        let mut serving = false;
        // Whose socket it is costs a look at every socket of the machine, and changes only when it fails.
        let mut socket = Socket::Unknown;
        loop {
            let probe = self.probe(&subject, socket).await;
            socket = if probe == Probe::Ready { Socket::Own } else { Socket::Unknown };
            serving = serving || probe == Probe::Ready;
            if tell.send(Event::Input(Input::Probed(subject.generation, probe))).await.is_err() {
                return;
            }
            let pause = if serving { self.shared.probes.live } else { self.shared.probes.ready };
            tokio::time::sleep(pause).await;
        }
    }

    /// One probe round: the admin listener with the right nonce *and* the serving path, and the
    /// listening socket belongs to this generation's own processes (F04, F27). A worker serves no path,
    /// and may say that it drains: it is paused until it is published.
    async fn probe(&self, subject: &Subject, socket: Socket) -> Probe {
        let Subject { link, nonce, .. } = subject;
        let within = self.shared.probes.timeout;
        let ready = match link.ready(within).await {
            Ok(ready) => ready,
            Err(error) => return Probe::NotReady { detail: chain(&error) },
        };
        if ready.nonce.as_ref() != Some(nonce) {
            return Probe::NotReady { detail: "the admin socket answers with another nonce".to_owned() };
        }
        if !ready.ready {
            let detail = if ready.reason.is_empty() { "it says that it is not ready".to_owned() } else { ready.reason };
            return if detail == Ready::INITIALIZING || detail.starts_with("initializing") {
                Probe::Initializing { detail }
            } else {
                Probe::NotReady { detail }
            };
        }
        match subject.role {
            Role::Worker => return Probe::Ready,
            Role::Server => {}
        }
        if ready.draining {
            return Probe::NotReady { detail: "it says that it drains".to_owned() };
        }
        if socket == Socket::Unknown
            && let Err(detail) = own_socket(subject).await
        {
            return Probe::NotReady { detail };
        }
        match link.serves(within).await {
            Ok(()) => Probe::Ready,
            Err(error) => Probe::NotReady { detail: chain(&error) },
        }
    }

    /// Ends a worker's pause.
    pub(crate) async fn resume(self, generation: Generation, link: ChildLink) {
        while let Err(error) = link.resume(self.shared.probes.timeout).await {
            tracing::warn!(slot = %self.id, %generation, error = chain(&error), "the worker does not begin");
            tokio::time::sleep(self.shared.probes.drain).await;
        }
    }

    /// Tells the child to drain, then counts what it still has, until it has nothing.
    pub(crate) async fn drain_child(self, generation: Generation, link: ChildLink, tell: mpsc::Sender<Event>) {
        let within = self.shared.probes.timeout;
        let pause = self.shared.probes.drain;
        while let Err(error) = link.drain(within).await {
            tracing::warn!(slot = %self.id, %generation, error = chain(&error), "the child does not take its drain");
            tokio::time::sleep(pause).await;
        }
        loop {
            match link.drain_status(within).await {
                Ok(status) => {
                    let told = tell.send(Event::Input(Input::ChildLoad(generation, status.inflight))).await;
                    if status.inflight == 0 || told.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(slot = %self.id, %generation, error = chain(&error), "no count from the child");
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether the serving socket is known to be the generation's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    Own,
    Unknown,
}

async fn own_socket(subject: &Subject) -> Result<(), String> {
    let (port, process) = (subject.link.port, subject.running.identity().clone());
    let owner = tokio::task::spawn_blocking(move || owner_of_port(port, &process)).await;
    match owner.unwrap_or(Ownership::Unverified) {
        Ownership::Owned | Ownership::Unverified => Ok(()),
        Ownership::Foreign => Err(format!("port {port} belongs to another process")),
        Ownership::NotListening => Err(format!("nothing listens on port {port}")),
    }
}

/// How often and for how long children are asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbeTimings {
    /// Between rounds until a candidate is ready.
    pub(crate) ready: Duration,
    /// Between rounds afterwards.
    pub(crate) live: Duration,
    /// Between counts of a draining child.
    pub(crate) drain: Duration,
    /// For each call.
    pub(crate) timeout: Duration,
}

fn facts(described: Describe) -> Facts {
    Facts {
        binary_version: described.version,
        role: described.role,
        state: described.state,
        undrain: described.undrain,
        data: described.data,
        exclusive: described.needs.gpu_memory_mib > 0,
    }
}

fn fetch_failure(error: &StoreError) -> Failed {
    match error {
        StoreError::HashMismatch { found, .. } => Failed::Hash { found: found.to_string() },
        StoreError::Unusable(_) => Failed::Artifact(chain(error)),
        StoreError::Disk { .. } | StoreError::Client { .. } | StoreError::Fetch { .. } => Failed::Fetch(chain(error)),
    }
}
