//! The configuration: `router.toml`, the flags of the quick start, or the environment of the upstream network's router.
//!
//! Lives here: what an operator can say, and where it is wrong. Must not live here: a look at the machine.

mod edge;
pub mod environment;
mod error;
mod file;
mod limits;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use camino::Utf8PathBuf;
use router_core::members::{Detection, Listed};
use router_core::pattern::Routes;
use router_core::pool::{PoolSettings, Versions};
use router_dataplane::{HttpVersion, Limits, PeerRanges, UpstreamTls};

pub use edge::TlsConfig;
pub use error::ConfigError;
pub use supervisor_protocol::error::chain;

use crate::cli::Cli;
use crate::dns::DnsSource;
use crate::pace::Pace;

/// Where the file is looked for when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/versiond/router.toml";

/// Everything that an operator can say.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub admin: Option<AdminConfig>,
    /// Where the members that were last known are written down.
    pub state_dir: Option<Utf8PathBuf>,
    /// `None`: one for each core.
    pub threads: Option<usize>,
    pub trusted_proxies: PeerRanges,
    /// Balancers that say whose each connection is.
    pub proxy_protocol: PeerRanges,
    /// Where clients come through TLS, beside `listen`.
    pub tls: Option<TlsConfig>,
    pub limits: Limits,
    /// How long it is unready and admits, before it stops; so long whoever is before it may take to notice.
    pub announce: Duration,
    /// How long what is in flight may take to finish after that.
    pub drain: Duration,
    /// To the name of a pool.
    pub routes: Routes<String>,
    pub pools: BTreeMap<String, PoolConfig>,
    /// What was said and means nothing here, each with the reason.
    pub remarks: Vec<String>,
}

/// Where operators come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    pub listen: SocketAddr,
    /// Asked for on every request that changes something, and on all of them unless the listener is on loopback.
    pub token_file: Option<Utf8PathBuf>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    pub settings: PoolSettings,
    pub members: MemberSource,
    pub check: Check,
    /// Where checks go instead of the port that serves.
    pub check_port: Option<u16>,
    /// What requests are told of the deployment (`Devshard-Ha`); of `None` they are told nothing, and what a trusted
    /// proxy says goes on.
    pub ha: Option<bool>,
    /// When members are asked, and for how long they are waited for.
    pub pace: Pace,
    /// What members speak, and whom they must prove to be.
    pub protocol: HttpVersion,
    pub tls: Option<UpstreamTls>,
}

/// Where the members of a pool are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberSource {
    Hosts(Vec<Listed>),
    Dns(DnsSource),
    /// A JSON array of `{"id", "address", "weight"}`, read again whenever it changes.
    File(Utf8PathBuf),
}

/// How a member is asked whether it could serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// As a host with versiond, else as an older one, else by a connection.
    Auto,
    Versiond,
    /// Any 2xx at this path.
    Http(String),
    /// A connection.
    Tcp,
}

/// Reads what the command line names.
///
/// # Errors
/// The file cannot be read, or says something that means nothing: the text names the place.
pub fn of(cli: &Cli) -> Result<Config, ConfigError> {
    if !cli.upstreams.is_empty() {
        return file::quick_start(cli);
    }
    let set = environment::variables();
    if cli.config.is_none() && set.contains_key(environment::POOL_HOST) {
        return environment::of(&set, cli.threads);
    }
    let path = cli.config.clone().unwrap_or_else(|| DEFAULT_PATH.into());
    let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
    let mut config = file::parse(&path, &text)?;
    config.threads = cli.threads.or(config.threads);
    Ok(config)
}

impl PoolConfig {
    /// A pool of these members, with everything else as it is when nothing is said.
    fn of(members: MemberSource) -> Self {
        Self {
            settings: PoolSettings { versions: Versions::Each { service: None }, ..PoolSettings::default() },
            members,
            check: Check::Auto,
            check_port: None,
            ha: None,
            pace: Pace { interval: Duration::from_secs(1), timeout: Duration::from_secs(3) },
            protocol: HttpVersion::Http1,
            tls: None,
        }
    }

    /// How long it takes to see that a host has gone.
    fn detection(&self) -> Detection {
        Detection { window: self.pace.window() }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listen  {}", self.listen)?;
        if let Some(tls) = &self.tls {
            writeln!(f, "tls     {} shows {}", tls.listen, tls.certificate)?;
        }
        match &self.admin {
            Some(admin) => writeln!(f, "admin   {}", admin.listen)?,
            None => writeln!(f, "admin   none")?,
        }
        for route in self.routes.iter() {
            writeln!(f, "route   {}  ->  {}", route.pattern, route.to)?;
        }
        for (name, pool) in &self.pools {
            writeln!(f, "pool    {name}: {:?}, {}", pool.settings.policy, pool.members)?;
        }
        for remark in &self.remarks {
            writeln!(f, "remark  {remark}")?;
        }
        Ok(())
    }
}

impl fmt::Display for MemberSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberSource::Hosts(hosts) => {
                let names: Vec<&str> = hosts.iter().map(|host| host.address.as_str()).collect();
                write!(f, "{}", names.join(", "))
            }
            MemberSource::Dns(source) => source.fmt(f),
            MemberSource::File(path) => write!(f, "{path}"),
        }
    }
}
