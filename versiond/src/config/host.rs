//! `[host]`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::str::FromStr;

use camino::{Utf8Path, Utf8PathBuf};
use router_dataplane::{PeerRange, PeerRanges, RangeError};
use sha2::{Digest, Sha256};
use supervisor_protocol::HostId;
use supervisor_protocol::size::{SizeError, parse_size};

use super::setting::{Origin, Setting, Source};
use super::{AdminTcp, ConfigError, HostConfig, Peer, file, limits};
use crate::process::PortRange;

/// Why a value was refused, where the type itself does not say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("the admin socket is `unix:/path`; for a loopback port see admin_tcp")]
    Admin,
    #[error("the path must be absolute")]
    Relative,
    #[error("true or false")]
    Truth,
    #[error("a whole number above zero")]
    Count,
    #[error("a whole number above zero with its unit, as in `64MiB`: B, KiB, MiB or GiB")]
    Bytes,
    #[error("an address with port, as in `127.0.0.1:8080`")]
    Address,
    #[error("the admin API is served on loopback addresses alone, as in `127.0.0.1:9465`")]
    Loopback,
    #[error("a group is a name or a number")]
    Group,
    #[error("{0:?} is no `id=address:port`")]
    Peer(String),
    #[error("{0} comes twice")]
    PeerTwice(String),
    #[error("{0} is missing: this host is one of them")]
    PeerMissing(HostId),
}

pub(super) fn host(source: &mut Source<'_>, file: file::Host) -> Result<HostConfig, ConfigError> {
    let id = match source.pick("host.id", &["VERSIOND_HOST_ID"], file.id, HostId::from_str)? {
        Some(id) => id,
        None => {
            let id = machine_host_id().ok_or(ConfigError::Missing {
                key: "host.id",
                how: "this machine has no /etc/machine-id to derive one from; set [host] id or VERSIOND_HOST_ID",
            })?;
            source.default_to("host.id", &id);
            id
        }
    };
    let peers = peers(source, &id, file.peers)?;
    let tcp = source.pick("host.admin_tcp", &["VERSIOND_ADMIN_TCP"], file.admin_tcp, loopback)?;
    let token = ["VERSIOND_ADMIN_TOKEN_FILE"];
    let token = source.pick("host.admin_token_file", &token, file.admin_token_file, absolute)?;
    let admin_tcp = match (tcp, token) {
        (None, None) => None,
        (Some(address), Some(token_file)) => Some(AdminTcp { address, token_file }),
        (Some(_), None) => {
            let how = "whoever reaches the port of [host] admin_tcp must show a token; set [host] admin_token_file";
            return Err(ConfigError::Missing { key: "host.admin_token_file", how });
        }
        (None, Some(_)) => {
            let how = "[host] admin_token_file is for the port of [host] admin_tcp; set both or neither";
            return Err(ConfigError::Missing { key: "host.admin_tcp", how });
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(HostConfig {
        id,
        listen: source.pick_or("host.listen", &["VERSIOND_LISTEN"], file.listen, "0.0.0.0:8080", address)?,
        status_listen: source.pick("host.status_listen", &["VERSIOND_STATUS_LISTEN"], file.status_listen, address)?,
        status_allow: ranges(source, "host.status_allow", "VERSIOND_STATUS_ALLOW", file.status_allow)?,
        trusted_proxies: ranges(source, "host.trusted_proxies", "VERSIOND_TRUSTED_PROXIES", file.trusted_proxies)?,
        proxy_protocol: source
            .pick("host.proxy_protocol", &["VERSIOND_PROXY_PROTOCOL"], file.proxy_protocol.map(joined), listed_ranges)?
            .unwrap_or_default(),
        tls: limits::tls(source, file.tls_listen, file.tls_certificate, file.tls_key)?,
        admin: source.pick_or("host.admin", &["VERSIOND_ADMIN"], file.admin, "unix:/run/versiond/admin.sock", admin)?,
        operators: source.pick("host.operators", &["VERSIOND_OPERATORS"], file.operators, group)?,
        readers: source.pick("host.readers", &["VERSIOND_READERS"], file.readers, group)?,
        admin_tcp,
        metrics: source.pick_or("host.metrics", &["VERSIOND_METRICS"], file.metrics, "127.0.0.1:9464", |text| {
            if text == "none" { Ok(None) } else { address(text).map(Some) }
        })?,
        state_dir: source.pick_or(
            "host.state_dir",
            &["VERSIOND_STATE_DIR"],
            file.state_dir,
            "/var/lib/versiond",
            absolute,
        )?,
        child_ports: source.pick_or(
            "host.child_ports",
            &["VERSIOND_CHILD_PORTS"],
            file.child_ports,
            "20000-20999",
            PortRange::from_str,
        )?,
        log_ring: source.pick_or("host.log_ring", &["VERSIOND_LOG_RING"], file.log_ring, "1MiB", |text| {
            bytes(text).and_then(|bytes| usize::try_from(bytes).map_err(|_| ValueError::Bytes))
        })?,
        threads: source.pick_or("host.threads", &["VERSIOND_THREADS"], file.threads, &threads.to_string(), |text| {
            text.parse().ok().filter(|threads| *threads > 0usize).ok_or(ValueError::Count)
        })?,
        peers,
    })
}

/// The hosts of the pool: none, or several of which this is one.
fn peers(source: &mut Source<'_>, me: &HostId, file: file::List) -> Result<Vec<Peer>, ConfigError> {
    let picked = source.pick("host.peers", &["VERSIOND_PEERS"], file.map(joined), |text| {
        let peers: Vec<Peer> = listed(text).map(peer).collect::<Result<_, _>>()?;
        let mut known = std::collections::BTreeSet::new();
        let names = peers.iter().flat_map(|peer| [peer.id.to_string(), peer.address.clone()]);
        if let Some(twice) = names.into_iter().find(|name| !known.insert(name.clone())) {
            return Err(ValueError::PeerTwice(twice));
        }
        let is_whole = peers.is_empty() || peers.iter().any(|peer| peer.id == *me);
        if is_whole { Ok(peers) } else { Err(ValueError::PeerMissing(me.clone())) }
    })?;
    Ok(picked.unwrap_or_default())
}

fn peer(text: &str) -> Result<Peer, ValueError> {
    let wrong = || ValueError::Peer(text.to_owned());
    let (id, address) = text.split_once('=').ok_or_else(wrong)?;
    let (name, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let id = id.parse().ok().filter(|_| is_port && !name.is_empty()).ok_or_else(wrong)?;
    Ok(Peer { id, address: address.to_owned() })
}

/// A list of the file as the text that the environment would have.
fn joined(list: toml::Spanned<Vec<toml::Spanned<String>>>) -> toml::Spanned<super::setting::Scalar> {
    let span = list.span();
    let texts = list.into_inner().into_iter().map(toml::Spanned::into_inner).collect::<Vec<_>>();
    toml::Spanned::new(span, super::setting::Scalar(texts.join(",")))
}

fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|text| !text.is_empty())
}

fn loopback(text: &str) -> Result<SocketAddr, ValueError> {
    address(text).and_then(|address| if address.ip().is_loopback() { Ok(address) } else { Err(ValueError::Loopback) })
}

fn group(text: &str) -> Result<String, ValueError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.chars().all(plain) { Ok(text.to_owned()) } else { Err(ValueError::Group) }
}

fn listed_ranges(text: &str) -> Result<Vec<PeerRange>, RangeError> {
    listed(text).map(PeerRange::from_str).collect()
}

/// Loopback, link-local and private ranges unless the operator says otherwise.
fn ranges(
    source: &mut Source<'_>,
    key: &str,
    variable: &'static str,
    file: Option<toml::Spanned<Vec<toml::Spanned<String>>>>,
) -> Result<Vec<PeerRange>, ConfigError> {
    let picked = source.pick(key, &[variable], file.map(joined), listed_ranges)?;
    Ok(picked.unwrap_or_else(|| {
        let (key, value) = (key.to_owned(), "loopback, private and link-local ranges".to_owned());
        source.settings.push(Setting { key, value, origin: Origin::Default });
        PeerRanges::private().0
    }))
}

/// A number of bytes. A bare number is refused, as for durations.
pub(super) fn bytes(text: &str) -> Result<u64, ValueError> {
    parse_size(text).map_err(|SizeError| ValueError::Bytes)
}

pub(super) fn address(text: &str) -> Result<SocketAddr, ValueError> {
    text.parse().map_err(|_| ValueError::Address)
}

fn admin(text: &str) -> Result<Utf8PathBuf, ValueError> {
    absolute(text.strip_prefix("unix:").ok_or(ValueError::Admin)?)
}

pub(super) fn absolute(text: &str) -> Result<Utf8PathBuf, ValueError> {
    let path = Utf8Path::new(text);
    if path.is_absolute() { Ok(path.to_owned()) } else { Err(ValueError::Relative) }
}

pub(super) fn truth(text: &str) -> Result<bool, ValueError> {
    text.parse().map_err(|_| ValueError::Truth)
}

/// An application-specific hash, since the machine id itself is not to be shown to a network.
fn machine_host_id() -> Option<HostId> {
    let machine = std::fs::read_to_string("/etc/machine-id").ok()?;
    let machine = machine.trim();
    if machine.is_empty() {
        return None;
    }
    HostId::new(host_id_of(machine)).ok()
}

/// The default id of the machine with this machine id.
pub(super) fn host_id_of(machine: &str) -> String {
    let hash = Sha256::digest(format!("versiond{machine}").as_bytes());
    supervisor_protocol::Sha256(hash.into()).to_string()[..12].to_owned()
}

/// A name is any text here; its meaning is judged elsewhere.
pub(super) fn any(text: &str) -> Result<String, Infallible> {
    Ok(text.to_owned())
}
