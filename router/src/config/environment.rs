//! The configuration by the names of the upstream network's router: what a container of it was told is enough here.
//!
//! Must not live here: what only the file can say.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use router_core::pattern::{KeyTemplate, PathPattern, Route, Routes};
use router_core::pool::{PoolSettings, Versions};
use router_dataplane::{Limits, PeerRanges};
use supervisor_protocol::VersionName;

use super::file::{ANNOUNCE, DRAIN};
use super::{AdminConfig, Config, ConfigError, MemberSource, PoolConfig};
use crate::dns::{DnsSource, Question};

/// With this one set, and neither a file nor flags, the environment is the configuration.
pub(super) const POOL_HOST: &str = "VERSIOND_POOL_HOST";

/// Every name, and what becomes of it.
pub const NAMES: [(&str, &str); 16] = [
    (
        POOL_HOST,
        "the DNS name of the pool; with it, and neither a file nor --upstreams, these names are the configuration",
    ),
    ("VERSIOND_PORT", "the port of every host; 8080 unless set"),
    (
        "VERSIOND_LEGACY_HOST",
        "the one host of the versions in VERSIOND_NON_HA_VERSIONS, without which those are refused",
    ),
    ("VERSIOND_NON_HA_VERSIONS", "versions that one host owns, separated by commas, semicolons or spaces"),
    ("GONKA_HA", "1, true or yes: requests to the pool carry Devshard-Ha: true. Those to the legacy host never do"),
    ("VERSIOND_VERSIONS", "remarked on: hosts say themselves which versions they have"),
    ("VERSIOND_ROUTER_ALLOW_COARSE_READINESS", "remarked on: readiness is one for each version"),
    ("VERSIOND_ROUTER_POOL_SLOTS", "remarked on: a pool may have any number of hosts"),
    ("VERSIOND_ROUTER_MAX_CONNECTIONS", "`limits.connections`"),
    ("VERSIOND_ROUTER_MAX_BODY_BYTES", "`limits.body`, in bytes"),
    ("VERSIOND_ROUTER_CONNECT_TIMEOUT_SECONDS", "remarked on: a connection to a host has 5 s"),
    ("VERSIOND_ROUTER_STREAM_IDLE_SECONDS", "`limits.idle_stream`, in seconds"),
    (
        "VERSIOND_ROUTER_TUNNEL_TIMEOUT_SECONDS",
        "`limits.idle_upgrade`, in seconds: the silence that ends an upgraded connection",
    ),
    ("VERSIOND_ROUTER_TEMPLATE", "remarked on: there is no template; router.toml says what it said"),
    ("VERSIOND_ROUTER_POOL_TEMPLATE", "remarked on: there is no template; router.toml says what it said"),
    ("VERSIOND_ROUTER_RENDER_ONLY", "remarked on: versiond-router --check reads the configuration and ends"),
];

/// What was set.
pub(super) type Variables = BTreeMap<String, String>;

/// Of the names above, those that are set to something.
pub(super) fn variables() -> Variables {
    let set = NAMES.iter().filter_map(|(name, _)| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    set.filter(|(_, value)| !value.trim().is_empty()).collect()
}

/// What is set and means nothing here, with the reason.
pub(super) fn remarks(set: &Variables) -> Vec<String> {
    let meaningless = NAMES.iter().filter_map(|(name, what)| Some((name, what.strip_prefix("remarked on: ")?)));
    meaningless.filter(|(name, _)| set.contains_key(**name)).map(|(name, why)| format!("{name}: {why}")).collect()
}

/// The configuration.
pub(super) fn of(set: &Variables, threads: Option<usize>) -> Result<Config, ConfigError> {
    let wrong = |name: &str, detail: String| ConfigError::Value { place: name.to_owned(), detail };
    let value = |name: &str| set.get(name).map(|value| value.trim());
    let host = |name: &str| match value(name) {
        Some(host) if host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => Ok(Some(host)),
        Some(host) => Err(wrong(name, format!("{host:?} is no name of a host"))),
        None => Ok(None),
    };
    let pool_host = host(POOL_HOST)?.unwrap_or("versiond-pool");
    let legacy_host = host("VERSIOND_LEGACY_HOST")?;
    let port = match value("VERSIOND_PORT") {
        None => 8080,
        Some(text) => text.parse().map_err(|_| wrong("VERSIOND_PORT", format!("{text:?} is no port")))?,
    };
    let ha = match value("GONKA_HA").map(str::to_ascii_lowercase).as_deref() {
        Some("1" | "true" | "yes") => true,
        None | Some("0" | "false" | "no") => false,
        Some(other) => return Err(wrong("GONKA_HA", format!("{other:?} is neither 1, true, yes nor 0, false, no"))),
    };
    let number = |name: &str| -> Result<Option<u64>, ConfigError> {
        let read = |text: &str| text.parse().ok().filter(|number| *number > 0);
        let parse = |text| read(text).ok_or_else(|| wrong(name, format!("{text:?} is no whole number above zero")));
        value(name).map(parse).transpose()
    };
    let mut limits = Limits { body: number("VERSIOND_ROUTER_MAX_BODY_BYTES")?, ..Limits::default() };
    if let Some(connections) = number("VERSIOND_ROUTER_MAX_CONNECTIONS")? {
        limits.connections = usize::try_from(connections).unwrap_or(usize::MAX);
    }
    if let Some(seconds) = number("VERSIOND_ROUTER_STREAM_IDLE_SECONDS")? {
        limits.idle.stream = Duration::from_secs(seconds);
    }
    if let Some(seconds) = number("VERSIOND_ROUTER_TUNNEL_TIMEOUT_SECONDS")? {
        limits.idle.upgrade = Duration::from_secs(seconds);
    }
    let legacy = names("VERSIOND_NON_HA_VERSIONS", value("VERSIOND_NON_HA_VERSIONS").unwrap_or_default())?;

    let members = |name: &str| {
        let question = Question::Addresses { name: name.to_owned(), port };
        MemberSource::Dns(DnsSource { question, server: None })
    };
    let together = |members| PoolConfig {
        settings: PoolSettings { versions: Versions::Together, ..PoolSettings::default() },
        ..PoolConfig::of(members)
    };
    let sessions = PoolConfig { ha: Some(ha), ..PoolConfig::of(members(pool_host)) };
    let mut pools = BTreeMap::from([
        (SESSIONS.to_owned(), sessions),
        (HOSTS.to_owned(), PoolConfig { ha: Some(ha), ..together(members(pool_host)) }),
    ]);
    let mut routes: Vec<(String, &str, &str)> = [
        ("/{version}/sessions/{session}/*", "{session}", SESSIONS),
        ("/{version}/*", "", SESSIONS),
        ("/sessions/{session}/*", "{session}", HOSTS),
        ("/stats/shards/{session}/*", "{session}", HOSTS),
        ("/stats/*", "", HOSTS),
        ("/metrics", "", HOSTS),
    ]
    .map(|(pattern, key, to)| (pattern.to_owned(), key, to))
    .into();
    if !legacy.is_empty() {
        let owner = legacy_host.ok_or_else(|| {
            wrong("VERSIOND_LEGACY_HOST", "VERSIOND_NON_HA_VERSIONS has versions, and this names their host".to_owned())
        })?;
        pools.insert(LEGACY.to_owned(), PoolConfig { ha: Some(false), ..together(members(owner)) });
        // The more segments a pattern has the sooner it counts: each of those of the pool needs one before it.
        for below in ["/*", "/sessions/{session}/*"] {
            routes.extend(legacy.iter().map(|version| (format!("/{version}{below}"), "", LEGACY)));
        }
    }
    let routes = routes.into_iter().map(|(pattern, key, to)| route(&pattern, key, to)).collect::<Result<Vec<_>, _>>();
    let routes = routes.and_then(Routes::new);
    Ok(Config {
        listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080),
        admin: Some(AdminConfig { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8404), token_file: None }),
        state_dir: None,
        threads,
        proxy_protocol: PeerRanges::none(),
        tls: None,
        limits,
        trusted_proxies: PeerRanges::none(),
        announce: ANNOUNCE,
        drain: DRAIN,
        routes: routes
            .map_err(|source| ConfigError::Pattern { place: "VERSIOND_NON_HA_VERSIONS".to_owned(), source })?,
        pools,
        remarks: remarks(set),
    })
}

/// Sticky, one readiness for each version.
const SESSIONS: &str = "sessions";
/// The same hosts, for what names no version.
const HOSTS: &str = "hosts";
const LEGACY: &str = "legacy";

fn route(pattern: &str, key: &str, to: &str) -> Result<Route<String>, router_core::route::PatternError> {
    let pattern = PathPattern::parse(pattern)?;
    let key = if key.is_empty() { KeyTemplate::WholePath } else { KeyTemplate::parse(key, &pattern)? };
    Ok(Route { pattern, key, to: to.to_owned() })
}

fn names(variable: &str, list: &str) -> Result<Vec<VersionName>, ConfigError> {
    let names = list.split([',', ';', ' ', '\t', '\n']).filter(|name| !name.is_empty());
    let parse = |name: &str| {
        let wrong = |error| ConfigError::Value { place: variable.to_owned(), detail: format!("{name:?}: {error}") };
        name.parse().map_err(wrong)
    };
    names.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use router_core::pattern::Found;

    use super::*;

    fn set(variables: &[(&str, &str)]) -> Variables {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn leads(config: &Config, path: &str) -> Option<(String, String, Option<String>)> {
        match config.routes.find(path) {
            Found::Routed(routed) => {
                Some((routed.to.clone(), routed.key.to_string(), routed.version.map(|version| version.to_string())))
            }
            Found::Reserved | Found::Unrouted => None,
        }
    }

    #[test]
    fn what_a_container_of_the_upstream_router_was_told_is_enough() {
        let config = of(
            &set(&[
                (POOL_HOST, "versiond-pool"),
                ("GONKA_HA", "True"),
                ("VERSIOND_LEGACY_HOST", "versiond"),
                ("VERSIOND_NON_HA_VERSIONS", "v1, v2;v3"),
                ("VERSIOND_ROUTER_POOL_SLOTS", "64"),
            ]),
            None,
        )
        .unwrap();
        let to = |pool: &str, key: &str, version: Option<&str>| {
            Some((pool.to_owned(), key.to_owned(), version.map(str::to_owned)))
        };
        assert_eq!(leads(&config, "/devshard/v4/sessions/7/chat"), to("sessions", "7", Some("v4")));
        assert_eq!(leads(&config, "/v4/sessions/7/chat"), to("sessions", "7", Some("v4")));
        assert_eq!(leads(&config, "/v4/info"), to("sessions", "/v4/info", Some("v4")));
        assert_eq!(leads(&config, "/v2/sessions/7/chat"), to("legacy", "/v2/sessions/7/chat", None));
        assert_eq!(leads(&config, "/sessions/7/diffs"), to("hosts", "7", None));
        assert_eq!(leads(&config, "/stats/shards/7"), to("hosts", "7", None));
        assert_eq!(leads(&config, "/healthz"), None);
        let dns = |name: &str| {
            let question = Question::Addresses { name: name.to_owned(), port: 8080 };
            MemberSource::Dns(DnsSource { question, server: None })
        };
        assert_eq!(config.pools["sessions"].members, dns("versiond-pool"));
        assert_eq!(config.pools["legacy"].members, dns("versiond"));
        assert_eq!((config.pools["sessions"].ha, config.pools["legacy"].ha), (Some(true), Some(false)));
        assert_eq!(config.remarks, ["VERSIOND_ROUTER_POOL_SLOTS: a pool may have any number of hosts"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |variables: &[(&str, &str)]| of(&set(variables), None).unwrap_err().to_string();
        assert!(error(&[("VERSIOND_PORT", "80a")]).contains("VERSIOND_PORT"));
        assert!(error(&[("GONKA_HA", "maybe")]).contains("\"maybe\" is neither"));
        assert!(error(&[(POOL_HOST, "a b")]).contains("no name of a host"));
        assert!(error(&[("VERSIOND_NON_HA_VERSIONS", "v1")]).contains("VERSIOND_LEGACY_HOST"));
        assert!(error(&[("VERSIOND_NON_HA_VERSIONS", "a/b"), ("VERSIOND_LEGACY_HOST", "h")]).contains("a/b"));
    }

    #[test]
    fn the_page_of_the_router_has_every_name_and_nothing_else_of_these() {
        let page = include_str!("../../../docs/router.md");
        for (name, what) in NAMES {
            assert!(page.contains(&format!("| `{name}` | {what} |")), "{name} is not on the page as it is");
        }
    }
}
