//! `[catalog]` and `[override]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use camino::Utf8PathBuf;
use supervisor_protocol::{ServiceName, SlotId, VersionName};
use versiond_core::catalog::{Removals, ServiceShape, TrustKey, UrlRules, is_loopback_url};

use super::host::{absolute, truth};
use super::setting::Source;
use super::{ConfigError, file};

/// `[catalog]`
#[derive(Debug, Clone)]
pub struct CatalogConfig {
    pub source: CatalogSource,
    pub poll: Duration,
    /// For formats that name no service.
    pub service: Option<ServiceName>,
    pub removals: Removals,
    pub allow_empty: bool,
    pub allow_http: bool,
    /// Addresses of private networks may be reached.
    pub allow_private: bool,
    /// Who must have signed the document.
    pub trust_key: Option<TrustKey>,
    /// Where the height of a chain is told.
    pub height: Option<HeightSource>,
    pub cosmovisor: CosmovisorConfig,
    /// `[override."service/name"]`, then upstream's variables.
    pub overrides: Vec<Override>,
}

/// Where documents come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogSource {
    File(Utf8PathBuf),
    Http(reqwest::Url),
    /// A Cosmovisor's `DAEMON_HOME`, which is only read.
    Cosmovisor(Utf8PathBuf),
    /// Nowhere: the configuration itself names everything that runs.
    Nowhere,
}

/// Where heights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeightSource {
    File(Utf8PathBuf),
    /// A node's `/status`.
    Http(reqwest::Url),
}

/// What only a `cosmovisor:` source needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CosmovisorConfig {
    /// The program's file name; without it the service's name.
    pub daemon: Option<String>,
    /// Heights whose plans are not followed.
    pub skip: BTreeSet<u64>,
    /// How often a `pre-upgrade` that asks for it is run again.
    pub pre_upgrade_retries: u32,
}

/// A file that stands in for an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    pub service: ServiceName,
    pub matches: Matches,
    pub file: Utf8PathBuf,
    /// The name runs although no catalog lists it.
    pub forced: Option<VersionName>,
}

/// Which names of a service an override is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matches {
    Name(VersionName),
    /// Upstream's variables cannot hold a dot: it stands for `_` there.
    Underscored(String),
}

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum CatalogValueError {
    #[error("a catalog source is `https://…`, `http://…`, `file:/path` or `cosmovisor:/path/to/DAEMON_HOME`")]
    Source,
    #[error("the chain: source is not available in this release; a height can be followed with [catalog] height")]
    Chain,
    #[error("a height comes from a node's `http://…/status` or from `file:/path`")]
    Height,
    #[error("removals is \"follow\" or \"explicit\"")]
    Removals,
    #[error("heights are whole numbers above zero, with commas between them")]
    Heights,
    #[error("a whole number from 0 to 100")]
    Retries,
    #[error("a program's file name has no '/'")]
    Daemon,
    #[error("there is no [service.{0}]")]
    NotConfigured(ServiceName),
    #[error("the route of [service.{0}] has no {{version}}: its one slot is {0}/{0}")]
    OneSlot(ServiceName),
    #[error("the name is one of the host's own paths")]
    OwnPath,
    #[error("no service is meant: set [catalog] service")]
    NoService,
    #[error("no override names a file for it: set VERSIOND_OVERRIDE_{0} or [override.\"SERVICE/NAME\"]")]
    ForcedWithoutFile(String),
}

/// Upstream's names.
pub(super) const OVERRIDE: &str = "VERSIOND_OVERRIDE_";
const FORCE: &str = "VERSIOND_FORCE";

pub(super) fn catalog(
    source: &mut Source<'_>,
    file: file::Catalog,
    poll: Duration,
    is_needed: bool,
) -> Result<CatalogConfig, ConfigError> {
    let names = ["VERSIOND_CATALOG_SOURCE", "VERSIOND_ORACLE_URL"];
    let from = source.pick("catalog.source", &names, file.source, CatalogSource::from_str)?;
    let from = match from {
        Some(from) => from,
        None if is_needed => {
            let how = "set [catalog] source or VERSIOND_CATALOG_SOURCE to a file:, https: or cosmovisor: address";
            return Err(ConfigError::Missing { key: "catalog.source", how });
        }
        None => {
            source.default_to("catalog.source", &CatalogSource::Nowhere);
            CatalogSource::Nowhere
        }
    };
    let removals = ["VERSIOND_CATALOG_REMOVALS"];
    let allow_empty = ["VERSIOND_CATALOG_ALLOW_EMPTY"];
    let allow_http = ["VERSIOND_CATALOG_ALLOW_HTTP"];
    let allow_private = ["VERSIOND_CATALOG_ALLOW_PRIVATE"];
    let trust_key = ["VERSIOND_CATALOG_TRUST_KEY"];
    let height = ["VERSIOND_CATALOG_HEIGHT"];
    let trust_key = source.pick("catalog.trust_key", &trust_key, file.trust_key, TrustKey::from_str)?;
    if let (Some(_), CatalogSource::Cosmovisor(_)) = (&trust_key, &from) {
        let detail = "a cosmovisor: source has no signature; who may write to the folder is its authority";
        return Err(ConfigError::Contradiction { key: "catalog.trust_key", detail });
    }
    Ok(CatalogConfig {
        source: from,
        poll,
        service: source.pick("catalog.service", &["VERSIOND_CATALOG_SERVICE"], file.service, ServiceName::from_str)?,
        removals: source.pick_or("catalog.removals", &removals, file.removals, "follow", |text| match text {
            "follow" => Ok(Removals::Follow),
            "explicit" => Ok(Removals::Explicit),
            _ => Err(CatalogValueError::Removals),
        })?,
        allow_empty: source.pick_or("catalog.allow_empty", &allow_empty, file.allow_empty, "false", truth)?,
        allow_http: source.pick_or("catalog.allow_http", &allow_http, file.allow_http, "false", truth)?,
        allow_private: source.pick_or("catalog.allow_private", &allow_private, file.allow_private, "false", truth)?,
        trust_key,
        height: source.pick("catalog.height", &height, file.height, HeightSource::from_str)?,
        cosmovisor: cosmovisor(source, file.daemon_name, file.skip_upgrades, file.pre_upgrade_retries)?,
        overrides: Vec::new(),
    })
}

fn cosmovisor(
    source: &mut Source<'_>,
    daemon: file::Value,
    skip: file::Value,
    retries: file::Value,
) -> Result<CosmovisorConfig, ConfigError> {
    let names = ["VERSIOND_CATALOG_DAEMON_NAME", "DAEMON_NAME"];
    let daemon = source.pick("catalog.daemon_name", &names, daemon, |text| {
        if text.is_empty() || text.contains('/') { Err(CatalogValueError::Daemon) } else { Ok(text.to_owned()) }
    })?;
    let names = ["VERSIOND_CATALOG_SKIP_UPGRADES"];
    let skip = source.pick("catalog.skip_upgrades", &names, skip, |text| {
        let heights = text.split(',').map(str::trim).map(|height| height.parse().ok().filter(|height| *height > 0u64));
        heights.collect::<Option<BTreeSet<u64>>>().ok_or(CatalogValueError::Heights)
    })?;
    let names = ["VERSIOND_CATALOG_PRE_UPGRADE_RETRIES", "DAEMON_PREUPGRADE_MAX_RETRIES"];
    let pre_upgrade_retries = source.pick_or("catalog.pre_upgrade_retries", &names, retries, "0", |text| {
        text.parse().ok().filter(|retries| *retries <= 100u32).ok_or(CatalogValueError::Retries)
    })?;
    Ok(CosmovisorConfig { daemon, skip: skip.unwrap_or_default(), pre_upgrade_retries })
}

/// Every override, once it is known which service upstream's variables are about.
pub(super) fn overrides(
    source: &mut Source<'_>,
    file: BTreeMap<toml::Spanned<String>, file::Override>,
    service: Option<&ServiceName>,
    shapes: &BTreeMap<ServiceName, ServiceShape>,
) -> Result<Vec<Override>, ConfigError> {
    let mut overrides = Vec::new();
    for (section, given) in file {
        let at = section.span().start;
        let text = section.into_inner();
        let slot =
            slot(&text, shapes).map_err(|error| source.refuse("override".to_owned(), text.clone(), at, error))?;
        let key = |key: &str| format!("override.{text:?}.{key}");
        let path = source.pick(&key("file"), &[], given.file, absolute)?;
        let path = path.ok_or(ConfigError::Missing { key: "override.file", how: "name the file that is to run" })?;
        let forced = source.pick_or(&key("force"), &[], given.force, "false", truth)?;
        let forced = forced.then(|| slot.name.clone());
        overrides.push(Override { service: slot.service, matches: Matches::Name(slot.name), file: path, forced });
    }
    let variables: Vec<(String, String)> = source
        .env
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(OVERRIDE)?.to_owned(), value.clone())))
        .collect();
    for (name, value) in variables {
        let variable = format!("{OVERRIDE}{name}");
        let service = meant(service, &variable, &value)?;
        let path = source.pick(&format!("override.{name}"), &[&variable], None, absolute)?.unwrap_or_default();
        let matches = Matches::Underscored(name);
        overrides.push(Override { service: service.clone(), matches, file: path, forced: None });
    }
    for name in source.pick("catalog.force", &[FORCE], None, forced)?.unwrap_or_default() {
        let service = meant(service, FORCE, name.as_str())?;
        let slot = SlotId { service: service.clone(), name: name.clone() };
        routable(&slot, shapes).map_err(|error| refused(FORCE, name.as_str(), error))?;
        let found = overrides.iter_mut().find(|given| given.is_for(&slot));
        let found = found.ok_or_else(|| {
            let error = CatalogValueError::ForcedWithoutFile(name.as_str().replace('.', "_"));
            refused(FORCE, name.as_str(), error)
        })?;
        found.forced = Some(name);
    }
    Ok(overrides)
}

fn meant<'s>(service: Option<&'s ServiceName>, variable: &str, value: &str) -> Result<&'s ServiceName, ConfigError> {
    service.ok_or_else(|| refused(variable, value, CatalogValueError::NoService))
}

fn refused(variable: &str, value: &str, error: CatalogValueError) -> ConfigError {
    let origin = super::Origin::Env(variable.to_owned());
    ConfigError::Value { key: variable.to_owned(), value: value.to_owned(), origin, source: error.into() }
}

fn forced(text: &str) -> Result<Vec<VersionName>, supervisor_protocol::NameError> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(VersionName::from_str).collect()
}

fn slot(
    text: &str,
    shapes: &BTreeMap<ServiceName, ServiceShape>,
) -> Result<SlotId, Box<dyn std::error::Error + Send + Sync>> {
    let slot = text.parse()?;
    routable(&slot, shapes)?;
    Ok(slot)
}

/// Whether the configuration has a place for this slot, as a catalog's entry would need one.
fn routable(slot: &SlotId, shapes: &BTreeMap<ServiceName, ServiceShape>) -> Result<(), CatalogValueError> {
    match shapes.get(&slot.service) {
        None => Err(CatalogValueError::NotConfigured(slot.service.clone())),
        Some(ServiceShape::Single) if slot.name.as_str() != slot.service.as_str() => {
            Err(CatalogValueError::OneSlot(slot.service.clone()))
        }
        Some(ServiceShape::Versioned { first_segment: true }) if slot.name.is_reserved() => {
            Err(CatalogValueError::OwnPath)
        }
        Some(ServiceShape::Single | ServiceShape::Versioned { .. }) => Ok(()),
    }
}

impl Override {
    /// Whether it is for this slot.
    #[must_use]
    pub fn is_for(&self, slot: &SlotId) -> bool {
        self.service == slot.service
            && match &self.matches {
                Matches::Name(name) => *name == slot.name,
                Matches::Underscored(name) => *name == slot.name.as_str().replace('.', "_"),
            }
    }
}

impl CatalogConfig {
    /// What a document may name, and what a fetch may reach.
    #[must_use]
    pub fn url_rules(&self) -> UrlRules {
        let (is_file, is_here) = match &self.source {
            CatalogSource::File(_) | CatalogSource::Cosmovisor(_) => (true, true),
            CatalogSource::Nowhere => (false, false),
            CatalogSource::Http(url) => (false, is_loopback_url(url.as_str())),
        };
        UrlRules { http: self.allow_http, file: is_file, loopback: is_here, private: self.allow_private }
    }

    /// The program's name in a Cosmovisor's folder.
    #[must_use]
    pub fn daemon(&self) -> Option<&str> {
        self.cosmovisor.daemon.as_deref().or(self.service.as_ref().map(ServiceName::as_str))
    }
}

impl fmt::Display for CatalogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CatalogSource::File(path) => write!(f, "file:{path}"),
            CatalogSource::Http(url) => write!(f, "{url}"),
            CatalogSource::Cosmovisor(path) => write!(f, "cosmovisor:{path}"),
            CatalogSource::Nowhere => f.write_str("none: every service is a command"),
        }
    }
}

impl FromStr for CatalogSource {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(CatalogSource::File(absolute(path.strip_prefix("//").unwrap_or(path))?));
        }
        if let Some(path) = text.strip_prefix("cosmovisor:") {
            return Ok(CatalogSource::Cosmovisor(absolute(path.strip_prefix("//").unwrap_or(path))?));
        }
        if text.starts_with("chain:") {
            return Err(CatalogValueError::Chain.into());
        }
        match http(text) {
            Some(url) => Ok(CatalogSource::Http(url)),
            None => Err(CatalogValueError::Source.into()),
        }
    }
}

impl FromStr for HeightSource {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(HeightSource::File(absolute(path.strip_prefix("//").unwrap_or(path))?));
        }
        match http(text) {
            Some(url) => Ok(HeightSource::Http(url)),
            None => Err(CatalogValueError::Height.into()),
        }
    }
}

fn http(text: &str) -> Option<reqwest::Url> {
    let url: reqwest::Url = text.parse().ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, chain, load};

    /// With these keys of `[catalog]`.
    fn read(keys: &str) -> Result<CatalogConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("versiond.toml")).unwrap();
        std::fs::write(&path, format!("[host]\nid = \"h\"\n[catalog]\n{keys}\n[service.node]\n")).unwrap();
        load(Some(&path), &Env::new()).map(|config| config.catalog).map_err(|error| chain(&error))
    }

    #[test]
    fn each_source_is_read_and_what_is_none_is_refused_by_name() {
        let from = |source: &str| read(&format!("source = \"{source}\"")).map(|catalog| catalog.source.to_string());
        for source in ["file:/c.json", "https://a.example/v?x=1", "http://127.0.0.1:1/", "cosmovisor:/home/node"] {
            assert_eq!(from(source), Ok(source.to_owned()));
        }
        for (source, word) in [
            ("chain:http://a.example", "chain: source is not available"),
            ("ftp://a.example/", "a catalog source is"),
            ("/c.json", "a catalog source is"),
            ("cosmovisor:home", "absolute"),
            ("file:c.json", "absolute"),
        ] {
            let text = from(source).unwrap_err();
            assert!(text.contains(word), "{source}: {text}");
        }
    }

    #[test]
    fn what_a_catalog_s_keys_cannot_mean_is_refused() {
        const KEY: &str = include_str!("../catalog/tests/signed/key.pub");
        let key = format!("trust_key = \"{}\"", KEY.trim());
        assert!(read(&format!("source = \"file:/c\"\n{key}")).unwrap().trust_key.is_some());
        let text = read(&format!("source = \"cosmovisor:/home\"\n{key}")).unwrap_err();
        assert!(text.contains("catalog.trust_key"), "{text}");
        for keys in [
            "trust_key = \"RWQ\"",
            "height = \"chain\"",
            "height = \"file:h\"",
            "skip_upgrades = \"0\"",
            "skip_upgrades = \"1,x\"",
            "pre_upgrade_retries = 101",
            "daemon_name = \"bin/node\"",
            "allow_private = \"yes\"",
        ] {
            let text = read(&format!("source = \"file:/c\"\n{keys}")).unwrap_err();
            let name = keys.split(' ').next().unwrap();
            assert!(text.contains(&format!("catalog.{name}")), "{keys}: {text}");
        }
        let plans = read("source = \"cosmovisor:/home\"\nskip_upgrades = \"7, 9\"\npre_upgrade_retries = 3").unwrap();
        assert_eq!(plans.cosmovisor.skip, BTreeSet::from([7, 9]));
        assert_eq!((plans.cosmovisor.pre_upgrade_retries, plans.daemon()), (3, Some("node")));
    }

    /// F70: what a catalog may name follows from where it comes from.
    #[test]
    fn f70_only_what_comes_from_here_names_what_is_here() {
        let rules = |source: &str| read(&format!("source = \"{source}\"")).unwrap().url_rules();
        let public = rules("https://a.example/v");
        assert!(!public.file && !public.loopback && !public.private && !public.http);
        let near = rules("http://127.0.0.1:1/v");
        assert!(near.loopback && !near.file);
        for here in ["file:/c", "cosmovisor:/home"] {
            assert!(rules(here).loopback && rules(here).file);
        }
    }
}
