//! The document formats, from bytes to a [`Catalog`].
//!
//! What is malformed refuses the whole document and says where. What is well-formed and cannot be
//! served here blocks its own slot, so that one entry meant for another machine stops nothing.

use std::collections::{BTreeMap, BTreeSet};

use supervisor_protocol::{NameError, ServiceName, Sha256};

use super::checksum::{self, ChecksumError};
use super::json::{At, Json};
use super::reader::{Reader, reachable, unservable};
use super::url::UrlRules;
use super::{Artifact, Catalog, Release, Releases, cosmovisor};

/// The largest document, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Services of one host.
pub const MAX_SERVICES: usize = 16;
/// Versions of one service.
pub const MAX_VERSIONS: usize = 64;

/// What the host that reads the document is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParseContext {
    /// For formats that name no service.
    pub service: Option<ServiceName>,
    /// As artifacts name it: `linux/amd64`.
    pub platform: String,
    pub urls: UrlRules,
    pub services: Services,
}

/// The services that a document is read for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Services {
    /// Those that a host is configured for.
    Configured(BTreeMap<ServiceName, ServiceShape>),
    /// Every one, as the document has it: no host is known.
    Any,
}

/// Whether a service is one of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Configured(ServiceShape),
    Any,
    None,
}

/// What a service's route makes of version names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceShape {
    /// No `{version}` in the route, or no route: one slot, named like the service.
    Single,
    /// One slot for each version name.
    Versioned {
        /// The name is the first path segment of the route or of an alias, so that it may not be one
        /// of the host's own paths.
        first_segment: bool,
    },
}

impl Default for Services {
    fn default() -> Self {
        Services::Configured(BTreeMap::new())
    }
}

impl Services {
    pub(super) fn place_of(&self, service: &ServiceName) -> Place {
        match self {
            Services::Configured(services) => {
                services.get(service).map_or(Place::None, |shape| Place::Configured(*shape))
            }
            Services::Any => Place::Any,
        }
    }
}

/// Why a document was refused as a whole. What was in force stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    #[error("the document has more than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("line {line}, column {column}: {detail}")]
    Syntax { line: usize, column: usize, detail: String },
    #[error("{path}: {detail}")]
    Shape { path: String, detail: String },
    #[error("schema {0} is not supported; this release reads schema 1")]
    Schema(u64),
    #[error("{path} is malformed")]
    Name { path: String, source: NameError },
    #[error("{path}: a second {name:?}")]
    Duplicate { path: String, name: String },
    #[error("the document names no service, and [catalog] service is not set")]
    NoService,
}

/// Reads a document in any of the known formats.
pub fn parse(bytes: &[u8], context: &ParseContext) -> Result<Catalog, CatalogError> {
    if bytes.len() > MAX_BYTES {
        return Err(CatalogError::TooLarge);
    }
    let json = Json::read(bytes)?;
    let root = At::root(&json);
    if let Json::List(_) = root.json {
        return cosmovisor::batch(&root, context);
    }
    let fields = root.map()?;
    let has = |key: &str| fields.get(key);
    match (has("schema"), has("versions"), has("cosmovisor"), has("height")) {
        (Some(schema), ..) => match schema.number()? {
            1 => schema_1(&root, context),
            other => Err(CatalogError::Schema(other)),
        },
        (None, Some(versions), ..) => upstream_list(versions, context),
        (None, None, Some(_), _) => cosmovisor::snapshot(bytes, context),
        (None, None, None, Some(_)) => cosmovisor::single(&root, context),
        (None, None, None, None) => {
            Err(root.shape("neither \"schema\" nor \"versions\", nor an upgrade plan: no known format"))
        }
    }
}

fn schema_1(root: &At<'_>, context: &ParseContext) -> Result<Catalog, CatalogError> {
    let fields = root.fields(&["schema", "revision", "services", "deny"])?;
    let revision = fields.get("revision").map(At::number).transpose()?;
    let mut deny = BTreeSet::new();
    for hash in fields.get("deny").map(At::list).transpose()?.unwrap_or_default() {
        deny.insert(sha256(&hash)?);
    }
    let mut services = BTreeMap::new();
    let mut configured = 0usize;
    for (name, service) in fields.get("services").ok_or_else(|| root.missing("services"))?.map()? {
        let name = ServiceName::new(name)
            .map_err(|source| CatalogError::Name { path: format!("the service name {}", service.path), source })?;
        configured += usize::from(context.services.place_of(&name) != Place::None);
        let mut reader = Reader::new(name, configured <= MAX_SERVICES, context);
        let fields = service.fields(&["versions"])?;
        for version in fields.get("versions").ok_or_else(|| service.missing("versions"))?.list()? {
            let fields = version.fields(&["name", "releases"])?;
            let name = fields.get("name").ok_or_else(|| version.missing("name"))?;
            let releases = fields.get("releases").ok_or_else(|| version.missing("releases"))?;
            reader.insert(name, releases_of(releases, context)?)?;
        }
        let (name, entries) = reader.finish()?;
        services.insert(name, entries);
    }
    Ok(Catalog { revision, reached: None, services, deny })
}

/// `{"versions":[{"name","binary","sha256"}]}`, whose other fields are not ours to judge.
fn upstream_list(versions: &At<'_>, context: &ParseContext) -> Result<Catalog, CatalogError> {
    let service = context.service.clone().ok_or(CatalogError::NoService)?;
    let mut reader = Reader::new(service, true, context);
    // An empty list is written `null` by the upstream's encoder.
    let items = if *versions.json == Json::Null { Vec::new() } else { versions.list()? };
    for item in items {
        let fields = item.map()?;
        let field = |key: &str| fields.get(key).ok_or_else(|| item.missing(key));
        let name = field("name")?;
        let binary = field("binary")?;
        let in_field = match fields.get("sha256") {
            Some(hash) if !matches!(hash.json, Json::Null) && !hash.text()?.is_empty() => Some(sha256(hash)?),
            Some(_) | None => None,
        };
        let (url, in_url) = match (checksum::split(binary.text()?), in_field) {
            (Ok(split), _) => (split.url, split.sha256),
            // The hash stands elsewhere: what else the address says is the mirror's business.
            (Err(ChecksumError::Algorithm(_)), Some(_)) => (binary.text()?.to_owned(), None),
            (Err(ChecksumError::Hash(source)), _) => {
                return Err(CatalogError::Name { path: binary.path.clone(), source });
            }
            (Err(error @ (ChecksumError::Two | ChecksumError::Algorithm(_))), _) => {
                return Err(binary.shape(error.to_string()));
            }
        };
        let sha256 = match (in_field, in_url) {
            (Some(field), Some(url)) if field != url => {
                return Err(item.shape("sha256 and the checksum in the URL name different bytes"));
            }
            (Some(hash), _) | (None, Some(hash)) => hash,
            (None, None) => return Err(item.missing("sha256")),
        };
        let artifact = Artifact { sha256, urls: vec![url], size: None, entry: None, irreversible: false };
        reader.insert(name, Releases::only(reachable(artifact, context.urls)))?;
    }
    let (name, entries) = reader.finish()?;
    Ok(Catalog { services: BTreeMap::from([(name, entries)]), ..Catalog::default() })
}

/// The releases of a version, for the context's platform. Every one is read, so that a document is
/// malformed for all hosts or for none.
fn releases_of(releases: &At<'_>, context: &ParseContext) -> Result<Releases, CatalogError> {
    let mut by_height: BTreeMap<Option<u64>, Release> = BTreeMap::new();
    for release in releases.list()? {
        let fields = release.fields(&["activate", "artifacts"])?;
        let height = match fields.get("activate") {
            None => None,
            Some(activate) => {
                let fields = activate.fields(&["height"])?;
                Some(fields.get("height").ok_or_else(|| activate.missing("height"))?.number()?)
            }
        };
        let mut here = Release::Blocked(unservable(format!("no artifact for {}", context.platform)));
        for (platform, artifact) in fields.get("artifacts").ok_or_else(|| release.missing("artifacts"))?.map()? {
            let artifact = artifact_of(&artifact)?;
            if platform == context.platform {
                // A chain's height is the same on every host: what follows from it is not taken back on one.
                here = reachable(Artifact { irreversible: height.is_some(), ..artifact }, context.urls);
            }
        }
        if by_height.insert(height, here).is_some() {
            let name = height.map_or("release without a height".to_owned(), |height| format!("height {height}"));
            return Err(CatalogError::Duplicate { path: release.path, name });
        }
    }
    Releases::new(by_height).ok_or_else(|| releases.shape("a version needs at least one release"))
}

fn artifact_of(artifact: &At<'_>) -> Result<Artifact, CatalogError> {
    let fields = artifact.fields(&["urls", "sha256", "size", "entry"])?;
    let hash = fields.get("sha256").ok_or_else(|| artifact.missing("sha256"))?;
    let list = fields.get("urls").ok_or_else(|| artifact.missing("urls"))?;
    let mut urls = Vec::new();
    for url in list.list()? {
        urls.push(url.text()?.to_owned());
    }
    if urls.is_empty() {
        return Err(list.shape("an artifact needs at least one URL"));
    }
    Ok(Artifact {
        sha256: sha256(hash)?,
        urls,
        size: fields.get("size").map(At::number).transpose()?,
        entry: fields.get("entry").map(|entry| entry.text().map(str::to_owned)).transpose()?,
        irreversible: false,
    })
}

fn sha256(hash: &At<'_>) -> Result<Sha256, CatalogError> {
    hash.text()?.parse().map_err(|source| CatalogError::Name { path: hash.path.clone(), source })
}
