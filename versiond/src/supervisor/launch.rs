//! One process of a generation: its port, its files, its arguments and environment, and its way into the ledger
//! before it executes its first instruction.
//!
//! Must not live here: how a process is forked and owned (that is `process`).

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use router_dataplane::HttpVersion;
use supervisor_protocol::contract::StateKind;
use supervisor_protocol::{CONTRACT, Generation, Nonce, Sha256, env};
use tokio_util::task::AbortOnDropHandle;
use versiond_core::generation::Facts;
use versiond_core::slot::NotLaunched;

use crate::config::{Filling, Handed};
use crate::faults::crash;
use crate::isolation::{Kept, NotKept};
use crate::ledger::LedgerGeneration;
use crate::process::oneshot::random_nonce;
use crate::process::{LaunchSpec, OutputLabel, OutputSink, PortLease, PortsExhausted, Running, Signal};
use crate::supervisor::child::{Admin, ChildLink, chain};
use crate::supervisor::effects::Effects;
use crate::supervisor::notify::NotifySocket;
use crate::supervisor::preflight::{self, Build, Spoken};
use crate::supervisor::{ServiceSpec, Shared};

/// A process that has been made.
pub(crate) struct Life {
    pub(crate) running: Arc<Running>,
    pub(crate) port: PortLease,
    pub(crate) link: ChildLink,
    pub(crate) nonce: Nonce,
    /// What it speaks where requests come to it.
    pub(crate) protocol: HttpVersion,
    /// What asks it to stop.
    pub(crate) stop: Signal,
    _belongings: Belongings,
}

/// What a generation has beside its process. To be dropped when nothing of that is left: it goes then.
struct Belongings {
    admin_port: Option<PortLease>,
    kept: Kept,
    notify: Option<AbortOnDropHandle<()>>,
}

impl Effects {
    pub(super) async fn launch(
        &self,
        generation: Generation,
        facts: &Facts,
        build: &Build,
        sha256: Sha256,
    ) -> Result<Life, NotLaunched> {
        let Build { sealed, spoken, handed, spec } = build;
        let (shared, slot) = (&self.shared, &self.id);
        let nonce = random_nonce().map_err(|error| failed(&error))?;
        let (port, mut listener) = match handed {
            Some(Handed::Tcp) => shared.ports.listen().map(|(port, socket)| (port, Some(socket))).map_err(exhausted)?,
            Some(Handed::Unix) | None => (allocate(shared)?, None),
        };
        let data_dir = shared.state_dir.join("data").join(slot.service.as_str()).join(slot.name.as_str());
        tokio::fs::create_dir_all(&data_dir).await.map_err(|error| unmade(&data_dir, &error))?;
        let kept = shared.isolation.keep(slot, generation, &spec.isolation, &data_dir).await.map_err(not_kept)?;
        let (confine, home) = (kept.confine.clone(), kept.home.clone());
        let mut belongings = Belongings {
            admin_port: match spoken {
                Spoken::Older { admin_api: true } => Some(allocate(shared)?),
                Spoken::Older { admin_api: false } | Spoken::V1 | Spoken::None => None,
            },
            kept,
            notify: None,
        };
        let admin = match spoken {
            Spoken::V1 => Admin::Socket(home.join("admin.sock")),
            Spoken::Older { .. } => Admin::Port(belongings.admin_port.as_ref().unwrap_or(&port).port()),
            Spoken::None => Admin::Nowhere,
        };
        let filling = Filling {
            port: port.port(),
            data_dir: &data_dir,
            version: slot.name.as_str(),
            generation: generation.0,
            files: &home,
        };
        render(spec, &filling).map_err(|(path, error)| unmade(&path, &error))?;
        let notify_socket = home.join("notify.sock");
        let socket = if spec.notify { Some(NotifySocket::bind(&notify_socket)) } else { None };
        let socket = socket.transpose().map_err(|error| unmade(&notify_socket, &error))?;
        let serving_socket = home.join("serve.sock");
        let serving_socket = (*handed == Some(Handed::Unix)).then_some(serving_socket);
        if let Some(path) = &serving_socket {
            listener = Some(UnixListener::bind(path).map_err(|error| unmade(path, &error))?.into());
        }
        belongings.kept.hand_over().map_err(|error| unmade(&home, &error))?;

        let mut environment: Vec<_> =
            spec.environment.all.iter().map(|(name, value)| (name.clone(), value.fill(&filling))).collect();
        environment.extend(self.own_variables(generation, facts, build, &admin, &filling));
        if socket.is_some() {
            environment.push(("NOTIFY_SOCKET".to_owned(), notify_socket.to_string_lossy().into_owned()));
        }
        if let Some(folder) = &belongings.kept.credentials {
            environment.push(("CREDENTIALS_DIRECTORY".to_owned(), folder.to_string_lossy().into_owned()));
        }
        let exclusive = match facts.state {
            StateKind::Local => true,
            StateKind::None | StateKind::Shared => false,
        };
        let name = if spec.command.is_some() { None } else { Some(slot.service.to_string()) };
        let launch = LaunchSpec {
            exe: sealed.clone(),
            argv: name.into_iter().chain(spec.args.iter().map(|arg| arg.fill(&filling))).collect(),
            env: environment,
            cwd: data_dir.clone(),
            lock_dir: exclusive.then(|| data_dir.clone()),
            output: OutputSink::Log(OutputLabel {
                service: slot.service.clone(),
                version: slot.name.clone(),
                generation,
            }),
            nonce: nonce.clone(),
            confine: confine.clone(),
            listener: listener.map(Arc::new),
        };
        let plans = shared.pre_upgrade.as_ref();
        let planned = plans.map(|plans| (plans, LaunchSpec { listener: None, ..launch.clone() }));
        crash::before("fork");
        let prepared = shared.spawner.prepare(launch).await.map_err(|error| failed(&error))?;
        crash::after("fork");
        let entry = LedgerGeneration {
            slot: slot.clone(),
            generation,
            sha256,
            nonce: nonce.clone(),
            process: Some(prepared.identity().clone()),
            port: Some(port.port()),
        };
        shared.recorder.begins(entry).await.map_err(|error| failed(&error))?;
        if let Some((plans, launch)) = planned {
            plans.before(&shared.spawner, slot, sha256, launch).await?;
        }
        let notified = socket.map(|socket| socket.listen(prepared.identity().clone()));
        crash::before("exec");
        let running = prepared.release().await.map_err(|error| failed(&error))?;
        crash::after("exec");
        let (notified, notify) = notified.unzip();
        belongings.notify = notify;
        let link = ChildLink {
            port: port.port(),
            socket: serving_socket,
            has_port: spec.is_routed || spec.has_port() || handed.is_some(),
            admin,
            account: confine.account,
            ready_path: spec.ready_path.clone(),
            notified,
            start_estimate: spec.start_estimate.unwrap_or_default(),
        };
        Ok(Life {
            running,
            port,
            link,
            nonce,
            protocol: spec.protocol,
            stop: spec.stop_signal,
            _belongings: belongings,
        })
    }

    /// What only the supervisor may set. The nonce is added where the process is forked.
    fn own_variables(
        &self,
        generation: Generation,
        facts: &Facts,
        build: &Build,
        admin: &Admin,
        filling: &Filling<'_>,
    ) -> Vec<(String, String)> {
        let grace = format!("{}s", self.shared.timings.stop_grace.as_secs());
        let mut own = vec![
            (env::SERVICE.to_owned(), self.id.service.to_string()),
            (env::VERSION.to_owned(), self.id.name.to_string()),
            (env::GENERATION.to_owned(), generation.0.to_string()),
            (env::DATA_DIR.to_owned(), filling.data_dir.to_string_lossy().into_owned()),
            (env::SHUTDOWN_GRACE.to_owned(), grace.clone()),
        ];
        match admin {
            Admin::Socket(socket) => own.extend([
                (env::CONTRACT.to_owned(), CONTRACT.to_string()),
                (env::ADMIN.to_owned(), socket.to_string_lossy().into_owned()),
            ]),
            Admin::Port(port) => {
                let address = format!("127.0.0.1:{port}");
                own.extend([
                    (env::ADMIN.to_owned(), address.clone()),
                    ("DEVSHARD_SHUTDOWN_GRACE".to_owned(), grace),
                    ("DEVSHARD_BINARY_LOG_VERSION".to_owned(), facts.binary_version.clone()),
                    preflight::ha(&build.spec, &self.id.name),
                ]);
                // Without an admin API it has no listener of its own to put there.
                if *port != filling.port {
                    own.push(("DEVSHARD_ADMIN_ADDR".to_owned(), address));
                }
            }
            Admin::Nowhere => {}
        }
        own
    }
}

/// Writes the service's files into a folder that only versiond and the child's own user may enter.
fn render(spec: &ServiceSpec, filling: &Filling<'_>) -> Result<(), (PathBuf, io::Error)> {
    let make = |folder: &Path| {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| (folder.to_owned(), error))
    };
    for file in &spec.files {
        let path = filling.files.join(&file.path);
        make(path.parent().unwrap_or(filling.files))?;
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut made| made.write_all(file.template.fill(filling).as_bytes()));
        written.map_err(|error| (path, error))?;
    }
    Ok(())
}

fn failed(error: &dyn std::error::Error) -> NotLaunched {
    NotLaunched::Failed(chain(error))
}

fn not_kept(error: NotKept) -> NotLaunched {
    match error {
        NotKept::Missing(detail) => NotLaunched::Isolation(detail),
        NotKept::Failed { .. } => failed(&error),
    }
}

fn unmade(path: &Path, error: &io::Error) -> NotLaunched {
    NotLaunched::Failed(format!("{}: {error}", path.display()))
}

fn allocate(shared: &Shared) -> Result<PortLease, NotLaunched> {
    shared.ports.allocate().map_err(exhausted)
}

fn exhausted(error: PortsExhausted) -> NotLaunched {
    NotLaunched::Ports { range: error.range.to_string() }
}
