//! The shape of `router.toml`, and what it means.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use router_core::members::Listed;
use router_core::pattern::{KeyTemplate, PathPattern, Route, Routes};
use router_core::pool::{Policy, PoolSettings, PoolState, Versions};
use router_dataplane::{Limits, PeerRange, PeerRanges};
use serde::{Deserialize, Deserializer};
use supervisor_protocol::ServiceName;
use supervisor_protocol::time::parse_duration;

use super::edge::{PoolTls, Protocol, TlsConfig};
use super::limits::LimitsTable;
use super::{AdminConfig, Check, Config, ConfigError, MemberSource, PoolConfig};
use crate::cli::Cli;
use crate::dns::{DnsSource, Question};

/// Longer than the window in which a load balancer before a router notices that it is unready.
pub(super) const ANNOUNCE: Duration = Duration::from_secs(8);
/// As long as a stream may last.
pub(super) const DRAIN: Duration = Duration::from_secs(15 * 60);
/// The one pool of the quick start.
const THE_POOL: &str = "upstreams";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    router: RouterTable,
    #[serde(default, rename = "route")]
    routes: Vec<RouteTable>,
    #[serde(default, rename = "pool")]
    pools: BTreeMap<String, PoolTable>,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouterTable {
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    admin_token_file: Option<Utf8PathBuf>,
    state_dir: Option<Utf8PathBuf>,
    threads: Option<usize>,
    trusted_proxies: Option<Vec<Text<PeerRange>>>,
    #[serde(default)]
    proxy_protocol: Vec<Text<PeerRange>>,
    tls: Option<TlsConfig>,
    /// Who is asked for the names of pools.
    resolver: Option<SocketAddr>,
    /// Of every pool that does not say it itself.
    ha: Option<bool>,
    #[serde(default, deserialize_with = "announce")]
    announce: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    drain: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteTable {
    #[serde(rename = "match")]
    pattern: String,
    pool: String,
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolTable {
    #[serde(default)]
    policy: Policy,
    hosts: Option<Vec<Host>>,
    dns: Option<String>,
    file: Option<Utf8PathBuf>,
    #[serde(default)]
    versions: bool,
    service: Option<ServiceName>,
    #[serde(default)]
    state: PoolState,
    check: Option<String>,
    check_port: Option<u16>,
    ha: Option<bool>,
    #[serde(default, deserialize_with = "duration")]
    check_interval: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    check_timeout: Option<Duration>,
    #[serde(default)]
    protocol: Protocol,
    tls: Option<PoolTls>,
}

/// `"gpu-1=10.0.0.1:8080"`, or a table where it has a weight.
#[derive(Deserialize)]
#[serde(untagged)]
enum Host {
    Short(String),
    Long(Listed),
}

/// A value that is read from its text, so that an error has its line and column.
struct Text<T>(T);

impl<'de, T: std::str::FromStr<Err: std::fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Text).map_err(serde::de::Error::custom)
    }
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

fn announce<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "none" => Ok(Some(Duration::ZERO)),
        text => parse_duration(text).map(Some).map_err(serde::de::Error::custom),
    }
}

/// Reads a file.
pub(super) fn parse(path: &Utf8Path, text: &str) -> Result<Config, ConfigError> {
    let file: File = toml::from_str(text)
        .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    let wrong =
        |place: &str, detail: &str| ConfigError::Value { place: format!("{path}: {place}"), detail: detail.to_owned() };
    let mut pools = BTreeMap::new();
    for (name, table) in file.pools {
        let mut pool = pool(path, &name, table, file.router.resolver)?;
        pool.ha = pool.ha.or(file.router.ha);
        pools.insert(name, pool);
    }
    if file.routes.is_empty() {
        return Err(wrong("[[route]]", "without one, nothing is forwarded"));
    }
    let mut routes = Vec::new();
    for (at, table) in file.routes.into_iter().enumerate() {
        let place = format!("[[route]] number {}", at + 1);
        if !pools.contains_key(&table.pool) {
            return Err(wrong(&format!("{place}, pool"), &format!("there is no [pool.{}]", table.pool)));
        }
        routes.push(route(&format!("{path}: {place}"), table)?);
    }
    let routes =
        Routes::new(routes).map_err(|source| ConfigError::Pattern { place: format!("{path}: [[route]]"), source })?;
    let limits = file.limits.limits().map_err(|key| wrong(&format!("[limits] {key}"), "at least one is needed"))?;
    let RouterTable { listen, admin, admin_token_file, state_dir, threads, announce, drain, tls, .. } = file.router;
    let (trusted, proxies) = (file.router.trusted_proxies.unwrap_or_default(), file.router.proxy_protocol);
    let ranges = |ranges: Vec<Text<PeerRange>>| PeerRanges(ranges.into_iter().map(|Text(range)| range).collect());
    if threads == Some(0) {
        return Err(wrong("[router] threads", "at least one is needed"));
    }
    if let (Some(admin), None) = (admin, &admin_token_file)
        && !admin.ip().is_loopback()
    {
        return Err(wrong("[router] admin", "an address that others reach needs admin_token_file"));
    }
    Ok(Config {
        listen,
        admin: admin.map(|listen| AdminConfig { listen, token_file: admin_token_file }),
        state_dir,
        threads,
        trusted_proxies: ranges(trusted),
        proxy_protocol: ranges(proxies),
        tls,
        limits,
        announce: announce.unwrap_or(ANNOUNCE),
        drain: drain.unwrap_or(DRAIN),
        routes,
        pools,
        remarks: Vec::new(),
    })
}

fn route(place: &str, table: RouteTable) -> Result<Route<String>, ConfigError> {
    let wrong = |source| ConfigError::Pattern { place: place.to_owned(), source };
    let pattern = PathPattern::parse(&table.pattern).map_err(wrong)?;
    let key = match &table.key {
        Some(key) => KeyTemplate::parse(key, &pattern).map_err(wrong)?,
        None => KeyTemplate::WholePath,
    };
    Ok(Route { pattern, key, to: table.pool })
}

fn pool(path: &Utf8Path, name: &str, table: PoolTable, server: Option<SocketAddr>) -> Result<PoolConfig, ConfigError> {
    let place = |key: &str| format!("{path}: [pool.{name}] {key}");
    let wrong = |key: &str, detail: &str| ConfigError::Value { place: place(key), detail: detail.to_owned() };
    let members = match (table.hosts, table.dns, table.file) {
        (Some(hosts), None, None) => {
            let mut listed = Vec::new();
            for host in hosts {
                listed.push(match host {
                    Host::Long(host) => host,
                    Host::Short(text) => {
                        text.parse().map_err(|source| ConfigError::Member { place: place("hosts"), source })?
                    }
                });
            }
            MemberSource::Hosts(listed)
        }
        (None, Some(dns), None) => {
            let question = Question::parse(&dns);
            let question =
                question.ok_or_else(|| wrong("dns", "it is `name:port`, or a service such as `_name._tcp.domain`"))?;
            MemberSource::Dns(DnsSource { question, server })
        }
        (None, None, Some(file)) => MemberSource::File(file),
        _ => return Err(wrong("", "exactly one of hosts, dns and file names its members")),
    };
    let check = match table.check.as_deref() {
        None | Some("auto") => Check::Auto,
        Some("versiond") => Check::Versiond,
        Some("tcp") => Check::Tcp,
        Some(text) => match text.strip_prefix("http:").filter(|path| path.starts_with('/')) {
            Some(path) => Check::Http(path.to_owned()),
            None => return Err(wrong("check", "it is auto, versiond, tcp or http:/path")),
        },
    };
    let versions = match (table.versions, table.service) {
        (true, service) => Versions::Each { service },
        (false, None) => Versions::Together,
        (false, Some(_)) => return Err(wrong("service", "it means something with versions = true alone")),
    };
    let mut pool = PoolConfig::of(members);
    pool.settings = PoolSettings { policy: table.policy, versions, state: table.state, ..PoolSettings::default() };
    pool.check = check;
    pool.check_port = table.check_port;
    pool.protocol = table.protocol.into();
    pool.tls = table.tls.map(|tls| tls.read().map_err(|detail| wrong("tls", &detail))).transpose()?;
    pool.ha = table.ha;
    pool.pace.interval = table.check_interval.unwrap_or(pool.pace.interval);
    pool.pace.timeout = table.check_timeout.unwrap_or(pool.pace.timeout);
    pool.settings.detection = pool.detection();
    Ok(pool)
}

/// What the flags say.
pub(super) fn quick_start(cli: &Cli) -> Result<Config, ConfigError> {
    let hosts = cli
        .upstreams
        .iter()
        .map(|text| text.parse().map_err(|source| ConfigError::Member { place: "--upstreams".to_owned(), source }));
    let hosts: Vec<Listed> = hosts.collect::<Result<_, _>>()?;
    let routes = Routes::by_key(cli.key.as_deref().unwrap_or("/"), THE_POOL.to_owned())
        .map_err(|source| ConfigError::Pattern { place: "--key".to_owned(), source })?;
    if cli.threads == Some(0) {
        return Err(ConfigError::Value { place: "--threads".to_owned(), detail: "at least one is needed".to_owned() });
    }
    Ok(Config {
        listen: cli.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080)),
        admin: None,
        state_dir: None,
        threads: cli.threads,
        trusted_proxies: PeerRanges::none(),
        proxy_protocol: PeerRanges::none(),
        tls: None,
        limits: Limits::default(),
        announce: Duration::ZERO,
        drain: DRAIN,
        routes,
        pools: BTreeMap::from([(THE_POOL.to_owned(), PoolConfig::of(MemberSource::Hosts(hosts)))]),
        remarks: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
[router]
listen = "0.0.0.0:8080"
admin = "127.0.0.1:8404"
resolver = "10.0.0.2:53"
announce = "none"
[[route]]
match = "/devshard/{version}/sessions/{session}/*"
pool = "devshard"
key = "{session}"
[[route]]
match = "/v1/*"
pool = "edge-api"
[pool.devshard]
hosts = ["gpu-1=10.0.0.1:8080", { address = "10.0.0.2:8080", weight = 2 }]
versions = true
check_interval = "2s"
[pool.edge-api]
policy = "least-inflight"
dns = "edge-api:9000"
"#;

    fn wrong(from: &str, to: &str) -> String {
        assert!(WHOLE.contains(from), "{from}");
        match parse("router.toml".into(), &WHOLE.replace(from, to)) {
            Err(error) => super::super::chain(&error),
            Ok(_) => panic!("{to} is taken"),
        }
    }

    #[test]
    fn a_file_says_where_everything_goes() {
        let config = parse("router.toml".into(), WHOLE).unwrap();
        let pool = &config.pools["devshard"];
        assert_eq!(pool.settings.versions, Versions::Each { service: None });
        assert_eq!(pool.settings.detection.window, Duration::from_secs(8));
        let MemberSource::Hosts(hosts) = &pool.members else { panic!("{:?}", pool.members) };
        assert_eq!((hosts[0].id.as_ref().unwrap().as_str(), hosts[1].weight.0), ("gpu-1", 2));
        let question = Question::Addresses { name: "edge-api".to_owned(), port: 9000 };
        let dns = MemberSource::Dns(DnsSource { question, server: Some("10.0.0.2:53".parse().unwrap()) });
        assert_eq!((config.pools["edge-api"].members.clone(), config.announce), (dns, Duration::ZERO));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (from, to, said) in [
            ("listen = \"0.0.0.0:8080\"", "listen = \"8080\"", "line 3"),
            ("announce = \"none\"", "anounce = \"none\"", "anounce"),
            ("\"2s\"", "\"2\"", "line 17"),
            ("pool = \"edge-api\"", "pool = \"edge\"", "[[route]] number 2, pool: there is no [pool.edge]"),
            ("gpu-1=10.0.0.1:8080", "gpu-1=10.0.0.1", "[pool.devshard] hosts"),
            ("key = \"{session}\"", "key = \"{sesion}\"", "[[route]] number 1"),
            ("dns = \"edge-api:9000\"", "dns = \"edge-api\"", "[pool.edge-api] dns"),
            ("dns = \"edge-api:9000\"", "dns = \"edge-api:9000\"\nfile = \"x\"", "exactly one of"),
            ("127.0.0.1:8404", "0.0.0.0:8404", "[router] admin"),
            ("least-inflight", "least", "least"),
            ("[pool.edge-api]", "[limits]\nbody = \"64\"\n[pool.edge-api]", "64MiB"),
            ("[pool.edge-api]", "[limits]\ninflight = 0\n[pool.edge-api]", "[limits] inflight: at least one"),
            ("[pool.edge-api]", "[pool.edge-api]\nprotocol = \"h2\"", "http2"),
            (
                "[pool.edge-api]",
                "[pool.edge-api]\ntls = { ca = \"/nowhere.pem\", name = \"a\" }",
                "[pool.edge-api] tls: /nowhere.pem: it cannot be read",
            ),
        ] {
            let text = wrong(from, to);
            assert!(text.contains(said) && text.contains("router.toml"), "{to}: {text}");
        }
    }

    #[test]
    fn the_configuration_of_the_guide_is_one() {
        let guide = include_str!("../../../docs/router.md");
        let example = guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let config =
            parse("router.toml".into(), example).unwrap_or_else(|error| panic!("{}", super::super::chain(&error)));
        assert_eq!((config.pools.len(), config.routes.iter().count()), (3, 3));
    }

    #[test]
    fn f34_the_unit_stops_later_than_the_router_does_unless_told_otherwise() {
        let unit = include_str!("../../../systemd/versiond-router.service");
        let minutes = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix("min"));
        let stop = Duration::from_secs(60 * minutes.and_then(|minutes| minutes.parse::<u64>().ok()).unwrap());
        assert!(stop > ANNOUNCE + DRAIN, "{stop:?}");
    }
}
