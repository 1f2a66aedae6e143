//! What a check looks up on the machine. Must not live here: what it means.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};
use supervisor_protocol::ServiceName;

use crate::admin::peer::group_id;
use crate::config::{CatalogSource, Config, HostConfig, ServiceConfig, chain};
use crate::isolation::{self, Isolation, Remark};
use crate::supervisor::identify;

const MEMFD_NOEXEC: &str = "/proc/sys/vm/memfd_noexec";

/// What a check looks up on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    /// The kernel's range for outgoing connections.
    pub(super) ephemeral: Option<(u16, u16)>,
    /// The soft limit of open descriptors.
    pub(super) descriptors: Option<u64>,
    pub(super) state_dir: Result<(), String>,
    pub(super) admin_dir: Result<(), String>,
    pub(super) catalog_file: Result<(), String>,
    /// The state directory's file system executes nothing.
    pub(super) noexec: bool,
    /// The kernel executes no memory: `vm.memfd_noexec` is 2.
    pub(super) memory_noexec: bool,
    /// Device files that a service with a GPU needs and that are not here.
    pub(super) missing_devices: Vec<String>,
    /// Groups of `[host]` that this machine does not know, each with its key.
    pub(super) unknown_groups: Vec<(&'static str, String)>,
    pub(super) token_file: Result<(), String>,
    /// Commands that cannot be run, and why.
    pub(super) commands: Vec<String>,
    /// What keeps children apart here, in a line, and what is missing of it.
    pub(super) isolation: (String, Vec<Remark>),
}

impl Machine {
    /// Looks.
    pub(super) fn look(config: &Config) -> Machine {
        let catalog_file = match &config.catalog.source {
            CatalogSource::File(path) => std::fs::metadata(path).map(drop).map_err(|error| error.to_string()),
            CatalogSource::Cosmovisor(path) => {
                std::fs::metadata(path.join("cosmovisor")).map(drop).map_err(|error| error.to_string())
            }
            CatalogSource::Http(_) | CatalogSource::Nowhere => Ok(()),
        };
        let admin_dir = config.host.admin.parent().unwrap_or(Utf8Path::new("/"));
        Machine {
            ephemeral: ephemeral(),
            descriptors: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
            state_dir: writable(&config.host.state_dir),
            admin_dir: writable(admin_dir),
            catalog_file,
            noexec: is_noexec(&config.host.state_dir),
            memory_noexec: std::fs::read_to_string(MEMFD_NOEXEC).is_ok_and(|text| text.trim() == "2"),
            missing_devices: missing_devices(config),
            unknown_groups: unknown_groups(&config.host),
            commands: unusable_commands(config),
            isolation: {
                let (here, asked) = (Isolation::look(config.host.state_dir.as_std_path()), isolation::asked(config));
                (here.shown(&asked).to_string(), here.remarks(&asked))
            },
            token_file: config.host.admin_tcp.as_ref().map_or(Ok(()), |tcp| token_file(&tcp.token_file)),
        }
    }
}

fn unusable_commands(config: &Config) -> Vec<String> {
    let unusable = |(name, service): (&ServiceName, &ServiceConfig)| {
        let error = identify(service, service.command.as_ref()?).err()?;
        Some(format!("[service.{name}] command: {}", chain(&error)))
    };
    config.services.iter().filter_map(unusable).collect()
}

fn ephemeral() -> Option<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ports = text.split_whitespace().map(str::parse);
    Some((ports.next()?.ok()?, ports.next()?.ok()?))
}

/// Of the nearest folder that exists.
fn is_noexec(folder: &Utf8Path) -> bool {
    let nearest = folder.ancestors().find(|folder| folder.exists());
    let found = nearest.and_then(|folder| statvfs(folder.as_std_path()).ok());
    found.is_some_and(|found| found.flags().contains(FsFlags::ST_NOEXEC))
}

/// What a program on a GPU opens: its control nodes, and a node for each GPU that is named by a number.
fn missing_devices(config: &Config) -> Vec<String> {
    let asked: BTreeSet<&str> =
        config.services.values().flat_map(|service| &service.stand_in.gpu).map(String::as_str).collect();
    if asked.is_empty() {
        return Vec::new();
    }
    let numbered = asked.into_iter().filter(|gpu| gpu.parse::<u32>().is_ok()).map(|gpu| format!("/dev/nvidia{gpu}"));
    let nodes = ["/dev/nvidiactl", "/dev/nvidia-uvm"].map(str::to_owned).into_iter().chain(numbered);
    nodes.filter(|node| !Utf8Path::new(node).exists()).collect()
}

fn unknown_groups(host: &HostConfig) -> Vec<(&'static str, String)> {
    let named = [("operators", &host.operators), ("readers", &host.readers)];
    let named = named.into_iter().filter_map(|(key, group)| Some((key, group.clone()?)));
    named.filter(|(_, group)| group_id(group).is_none()).collect()
}

fn token_file(path: &Utf8Path) -> Result<(), String> {
    let mode = std::fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o077 == 0 { Ok(()) } else { Err("others than its owner may read it".to_owned()) }
}

/// Whether a folder can be written, or made where it is missing.
pub(super) fn writable(folder: &Utf8Path) -> Result<(), String> {
    let mut nearest: Utf8PathBuf = folder.to_owned();
    while !nearest.exists() && nearest.pop() {}
    if !nearest.is_dir() {
        return Err(format!("{nearest} is no folder"));
    }
    access(nearest.as_std_path(), AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|error| format!("{nearest}: {}", error.desc()))
}
