//! The configuration: `versiond.toml`, the `VERSIOND_*` environment over it, defaults under it.
//!
//! Lives here: the typed configuration and how it is read ([`load`]). Every value remembers where it
//! came from. Must not live here: a look at the machine (that is [`crate::check`]), and defaults of
//! timeouts (those are [`versiond_core::budget`]'s).

mod build;
mod catalog;
mod error;
mod file;
mod host;
mod isolation;
mod limits;
mod rollout;
mod service;
mod setting;
mod template;
mod variables;

#[cfg(test)]
mod guest_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use camino::{Utf8Path, Utf8PathBuf};
use router_dataplane::{Limits, PeerRange};
use supervisor_protocol::{HostId, ServiceName};
use versiond_core::budget::{self, Budget};
use versiond_core::catalog::{ParseContext, Services};

pub use crate::process::PortRange;
pub use catalog::{CatalogConfig, CatalogSource, CosmovisorConfig, HeightSource, Matches, Override};
pub use error::ConfigError;
pub use isolation::{CredentialSource, IsolationConfig};
pub use rollout::{Rollout, RolloutMode};
pub use service::{ClassRule, CommandConfig, Contract, Environment, FileTemplate, Handed, ServiceConfig, StandIn};
pub use setting::{Origin, Setting};
pub use supervisor_protocol::error::chain;
pub use supervisor_protocol::time::parse_duration;
pub use template::{Filling, Template, TemplateError};
pub use versiond_core::catalog::TrustKey;

/// The environment, as a value.
pub type Env = BTreeMap<String, String>;

/// Where the file is looked for when no path is given.
pub const DEFAULT_PATH: &str = "/etc/versiond/versiond.toml";

/// Everything that an operator can say.
#[derive(Debug, Clone)]
pub struct Config {
    pub host: HostConfig,
    pub catalog: CatalogConfig,
    pub services: BTreeMap<ServiceName, ServiceConfig>,
    pub timing: Budget,
    /// What clients may have at once, and how long nothing may happen.
    pub limits: Limits,
    /// Every value with its origin, in the order of the file.
    pub settings: Vec<Setting>,
    /// What was read and means nothing, for example a misspelt `VERSIOND_*` variable.
    pub remarks: Vec<String>,
}

/// `[host]`
#[derive(Debug, Clone)]
pub struct HostConfig {
    pub id: HostId,
    /// The data listener.
    pub listen: SocketAddr,
    /// Where status endpoints are answered instead of on the data listener.
    pub status_listen: Option<SocketAddr>,
    /// Peers that the status endpoints answer.
    pub status_allow: Vec<PeerRange>,
    /// Peers whose forwarding headers and `Versiond-…` headers are believed, and who get ours.
    pub trusted_proxies: Vec<PeerRange>,
    /// Balancers that say of each connection whose it is, and must.
    pub proxy_protocol: Vec<PeerRange>,
    /// The data listener for those who come through TLS.
    pub tls: Option<HostTls>,
    /// The path of the admin socket.
    pub admin: Utf8PathBuf,
    /// The group whose members may ask and order everything there, by name or number.
    pub operators: Option<String>,
    /// The group whose members may ask.
    pub readers: Option<String>,
    /// The admin API on a loopback port as well.
    pub admin_tcp: Option<AdminTcp>,
    pub metrics: Option<SocketAddr>,
    pub state_dir: Utf8PathBuf,
    pub child_ports: PortRange,
    /// What is remembered of each generation's output, in bytes.
    pub log_ring: usize,
    /// Worker threads of the data plane.
    pub threads: usize,
    /// The hosts of the pool, this one among them; empty where it is alone.
    pub peers: Vec<Peer>,
}

/// `[host] tls_listen`, `tls_certificate` and `tls_key`: all of them or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTls {
    pub listen: SocketAddr,
    /// PEM, the own certificate first.
    pub certificate: Utf8PathBuf,
    pub key: Utf8PathBuf,
}

/// One of `[host] peers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: HostId,
    /// Where its status is answered: an address or a name, with the port.
    pub address: String,
}

/// `[host] admin_tcp` and `admin_token_file`: neither without the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTcp {
    pub address: SocketAddr,
    pub token_file: Utf8PathBuf,
}

/// Reads a configuration and refuses one that contradicts itself. Without a path the default one is
/// read when it exists.
pub fn load(path: Option<&Utf8Path>, env: &Env) -> Result<Config, ConfigError> {
    let config = read(path, env)?;
    let violations = budget::check(&config.timing);
    if violations.is_empty() { Ok(config) } else { Err(ConfigError::Budget(violations)) }
}

/// Reads the text of a file that is called `path`: what [`read`] does once it has the bytes. What the text itself
/// names (an `env_file`, a `command`) is looked at on the disk.
pub fn parse(path: &Utf8Path, text: &str, env: &Env) -> Result<Config, ConfigError> {
    build::build(path, text, env)
}

/// Like [`load`], without the inequalities of the time budget, so that a report can show them.
pub fn read(path: Option<&Utf8Path>, env: &Env) -> Result<Config, ConfigError> {
    match path {
        Some(path) => {
            let read = std::fs::read_to_string(path);
            let text = read.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            build::build(path, &text, env)
        }
        None => match std::fs::read_to_string(DEFAULT_PATH) {
            Ok(text) => build::build(Utf8Path::new(DEFAULT_PATH), &text, env),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                build::build(Utf8Path::new(DEFAULT_PATH), "", env)
            }
            Err(source) => Err(ConfigError::Read { path: DEFAULT_PATH.into(), source }),
        },
    }
}

impl Config {
    /// What the catalog's parser must know of this host.
    #[must_use]
    pub fn parse_context(&self) -> ParseContext {
        let services = self.services.iter().filter(|(_, service)| service.command.is_none());
        ParseContext {
            service: self.catalog.service.clone(),
            platform: crate::catalog::PLATFORM.to_owned(),
            urls: self.catalog.url_rules(),
            services: Services::Configured(services.map(|(name, service)| (name.clone(), service.shape)).collect()),
        }
    }
}
