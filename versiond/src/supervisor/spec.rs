//! What the configuration says of the services, as the slots work with it; a reload puts another in its place.
//!
//! Must not live here: the reading of the file (that is `config`), or what a change leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use router_dataplane::HttpVersion;
use supervisor_protocol::contract::Role;
use supervisor_protocol::{HostId, ServiceName, Sha256, VersionName};
use versiond_core::evacuate::Neighbours;
use versiond_core::policy::{Mode, Policy};
use versiond_core::window::Window;

use super::Routes;
use super::peers;
use super::program::{self, Program};
use crate::config::{
    Config, Contract, Environment, FileTemplate, Handed, HostConfig, IsolationConfig, RolloutMode, ServiceConfig,
    StandIn, Template,
};
use crate::supervisor::child::chain;

/// Programs that were configured before and may still run, or be gone back to.
const REMEMBERED: usize = 8;

/// What the configuration says of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceSpec {
    /// Of a command everything, its name first; else what follows the name.
    pub(crate) args: Vec<Template>,
    pub(crate) environment: Environment,
    pub(crate) files: Vec<FileTemplate>,
    /// The archive's member to run, when the catalog does not say.
    pub(crate) entry: Option<String>,
    pub(crate) contract: Contract,
    pub(crate) isolation: IsolationConfig,
    pub(crate) stand_in: StandIn,
    pub(crate) start_estimate: Option<Duration>,
    pub(crate) is_routed: bool,
    pub(crate) ready_path: Option<String>,
    pub(crate) notify: bool,
    pub(crate) handed: Option<Handed>,
    pub(crate) protocol: HttpVersion,
    pub(crate) stop_signal: Signal,
    /// Where several hosts share one database, as the older contract is told, and the slots where they do not.
    pub(crate) ha: bool,
    pub(crate) non_ha: BTreeSet<String>,
    /// What is run, when that is not the catalog's to say.
    pub(crate) command: Option<Command>,
    /// How changes are rolled out, and when they may begin.
    pub(crate) policy: Policy,
    pub(crate) window: Option<Window>,
}

/// The one slot of a service that is a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) slot: VersionName,
    /// Or why it cannot be run.
    pub(crate) program: Result<Program, String>,
}

/// Everything that a reload may change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) services: BTreeMap<ServiceName, Arc<ServiceSpec>>,
    pub(crate) routes: Routes,
}

/// A service as its slots see it: what is said of it now, and the programs that it was before.
#[derive(Debug)]
pub(crate) struct SpecBook(Mutex<Specs>);

#[derive(Debug)]
struct Specs {
    now: Arc<ServiceSpec>,
    /// The newest last.
    programs: Vec<Arc<ServiceSpec>>,
}

impl ServiceSpec {
    /// Looks at the program, if the service is one. Blocking.
    pub(crate) fn new(service: &ServiceConfig, host: &HostConfig, announce: Option<Duration>) -> ServiceSpec {
        let command = service.command.as_ref().map(|command| Command {
            slot: command.version.clone(),
            program: program::identify(service, command).map_err(|error| chain(&error)),
        });
        ServiceSpec {
            args: service.args.clone(),
            environment: service.environment.clone(),
            files: service.files.clone(),
            entry: service.entry.clone(),
            contract: service.contract,
            isolation: service.isolation.clone(),
            stand_in: service.stand_in.clone(),
            start_estimate: service.start_estimate,
            is_routed: service.route.is_some(),
            ready_path: service.ready_path.clone(),
            notify: service.notify,
            handed: service.handed,
            protocol: service.protocol,
            stop_signal: service.stop_signal,
            ha: service.ha,
            non_ha: service.non_ha.clone(),
            command,
            policy: policy(service, host, announce),
            window: service.rollout.window.clone(),
        }
    }

    /// Whether a child that was started by this would be started otherwise by that. When changes begin is no part
    /// of it.
    pub(crate) fn is_told_otherwise(&self, other: &ServiceSpec) -> bool {
        let rollout = |spec: &ServiceSpec| (spec.policy.clone(), spec.window.clone());
        let (policy, window) = rollout(self);
        ServiceSpec { policy, window, ..other.clone() } != *self
    }

    /// The program that it is, when it is one that can be run.
    pub(crate) fn program(&self) -> Option<&Program> {
        self.command.as_ref()?.program.as_ref().ok()
    }

    /// The hash that stands for the program in the ledger and in every status.
    pub(crate) fn identity(&self) -> Option<Sha256> {
        self.program().map(|program| program.identity)
    }

    /// Whether a generation of it is told a port: then something answers there.
    pub(crate) fn has_port(&self) -> bool {
        let files = self.files.iter().map(|file| &file.template);
        self.args.iter().chain(self.environment.all.values()).chain(files).any(Template::has_port)
    }

    /// Whether a slot's children share one database with those of other hosts.
    pub(crate) fn is_ha(&self, slot: &VersionName) -> bool {
        self.ha && !self.non_ha.contains(slot.as_str())
    }

    /// What a program does that cannot say so itself: what has no route works by itself.
    pub(crate) fn role(&self) -> Role {
        self.stand_in.role.unwrap_or(if self.is_routed { Role::Server } else { Role::Worker })
    }
}

impl Settings {
    /// Looks at every program. Blocking.
    pub(crate) fn new(config: &Config) -> Settings {
        let spec = |(name, service): (&ServiceName, &ServiceConfig)| {
            (name.clone(), Arc::new(ServiceSpec::new(service, &config.host, config.timing.announce)))
        };
        Settings { services: config.services.iter().map(spec).collect(), routes: Routes::new(config) }
    }
}

impl Settings {
    /// The first command that cannot be run, and why.
    pub(crate) fn unusable(&self) -> Option<(ServiceName, String)> {
        self.services.iter().find_map(|(name, spec)| {
            let detail = spec.command.as_ref()?.program.as_ref().err()?;
            Some((name.clone(), detail.clone()))
        })
    }
}

fn policy(service: &ServiceConfig, host: &HostConfig, announce: Option<Duration>) -> Policy {
    let others: BTreeSet<HostId> = peers::others(&host.peers, &host.id).into_iter().map(|peer| peer.id).collect();
    let rollout = &service.rollout;
    Policy {
        mode: match rollout.mode {
            RolloutMode::Auto => Mode::Auto,
            RolloutMode::Staged => Mode::Staged,
            RolloutMode::Manual => Mode::Manual,
        },
        jitter: rollout.jitter,
        // Another one on every host, and the same after every restart.
        seed: host.id.as_str().bytes().fold(0_u64, |seed, byte| seed.rotate_left(8) ^ u64::from(byte)),
        start_estimate: service.start_estimate,
        errors: rollout.errors,
        evacuate: (!others.is_empty()).then(|| Neighbours {
            me: host.id.clone(),
            others,
            routers: announce.unwrap_or_default(),
        }),
    }
}

impl SpecBook {
    pub(crate) fn new(spec: Arc<ServiceSpec>) -> SpecBook {
        let programs = if spec.identity().is_some() { vec![spec.clone()] } else { Vec::new() };
        SpecBook(Mutex::new(Specs { now: spec, programs }))
    }

    /// What is said of the service now.
    pub(crate) fn now(&self) -> Arc<ServiceSpec> {
        self.0.lock().now.clone()
    }

    /// What was said when these bytes were what it runs; of a service of the catalog what is said now.
    pub(crate) fn of(&self, sha256: Sha256) -> Option<Arc<ServiceSpec>> {
        let specs = self.0.lock();
        match specs.now.command {
            None => Some(specs.now.clone()),
            Some(_) => specs.programs.iter().rev().find(|spec| spec.identity() == Some(sha256)).cloned(),
        }
    }

    /// Says something else from now on. What runs goes on as it was started.
    pub(crate) fn replace(&self, spec: Arc<ServiceSpec>) {
        let mut specs = self.0.lock();
        if let Some(identity) = spec.identity() {
            specs.programs.retain(|known| known.identity() != Some(identity));
            specs.programs.push(spec.clone());
            let surplus = specs.programs.len().saturating_sub(REMEMBERED);
            specs.programs.drain(..surplus);
        }
        specs.now = spec;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Env};

    fn spec(more: &str) -> ServiceSpec {
        let folder = tempfile::tempdir().unwrap();
        let file = camino::Utf8PathBuf::from_path_buf(folder.path().join("versiond.toml")).unwrap();
        let text = format!("host.id = \"h\"\ncatalog.source = \"file:/c\"\n[service.a]\nroute = \"/a\"\n{more}");
        std::fs::write(&file, text).unwrap();
        let config = config::read(Some(&file), &Env::new()).unwrap();
        ServiceSpec::new(config.services.values().next().unwrap(), &config.host, None)
    }

    #[test]
    fn what_a_child_is_kept_in_or_given_takes_another_life_and_the_time_of_changes_does_not() {
        let user = "user = \"nobody\"\n";
        let with_user = |more: &str| spec(&format!("{user}{more}"));
        assert!(spec("").is_told_otherwise(&spec(user)));
        assert!(!spec(user).is_told_otherwise(&spec(user)));
        for other in [
            "group = \"daemon\"\n",
            "credentials = { key = \"/etc/key\" }\n",
            "credentials = { key = \"systemd:key\" }\n",
            "limits = { memory_max = \"1GiB\" }\n",
            "limits = { cpu_max = \"150%\" }\n",
            "limits = { pids_max = \"100\" }\n",
            "listen = \"fd\"\nready_path = \"/up\"\n",
            "listen = \"unix\"\nready_path = \"/up\"\n",
            "protocol = \"http2\"\n",
        ] {
            assert!(with_user("").is_told_otherwise(&with_user(other)), "{other}");
            assert!(!with_user(other).is_told_otherwise(&with_user(other)), "{other}");
        }
        assert!(!spec("").is_told_otherwise(&spec("rollout = { mode = \"manual\" }\n")));
    }
}
