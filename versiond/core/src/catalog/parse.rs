//! The document formats, from bytes to a [`Catalog`].
//!
//! What is malformed refuses the whole document and says where. What is well-formed and cannot be
//! served here blocks its own slot, so that one entry meant for another machine stops nothing.

use std::collections::{BTreeMap, BTreeSet};

use supervisor_protocol::{NameError, Reason, ServiceName, Sha256, VersionName};

use super::json::{At, Json};
use super::url::UrlRules;
use super::{Artifact, Catalog, Entry};

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
    /// Of the chain, when it is known.
    pub height: Option<u64>,
    pub urls: UrlRules,
    /// The services that this host is configured for.
    pub services: BTreeMap<ServiceName, ServiceShape>,
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
    let fields = root.map()?;
    match (fields.get("schema"), fields.get("versions")) {
        (Some(schema), _) => match schema.number()? {
            1 => schema_1(&root, context),
            other => Err(CatalogError::Schema(other)),
        },
        (None, Some(versions)) => upstream_list(versions, context),
        (None, None) => Err(root.shape("neither \"schema\" nor \"versions\": no known format")),
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
        configured += usize::from(context.services.contains_key(&name));
        let mut reader = Reader::new(name, configured <= MAX_SERVICES, context);
        let fields = service.fields(&["versions"])?;
        for version in fields.get("versions").ok_or_else(|| service.missing("versions"))?.list()? {
            reader.version(&version)?;
        }
        let (name, entries) = reader.finish()?;
        services.insert(name, entries);
    }
    Ok(Catalog { revision, services, deny })
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
        let (url, in_url) = split_checksum(binary)?;
        let in_field = match fields.get("sha256") {
            Some(hash) if !matches!(hash.json, Json::Null) && !hash.text()?.is_empty() => Some(sha256(hash)?),
            Some(_) | None => None,
        };
        let sha256 = match (in_field, in_url) {
            (Some(field), Some(url)) if field != url => {
                return Err(item.shape("sha256 and the checksum in the URL name different bytes"));
            }
            (Some(hash), _) | (None, Some(hash)) => hash,
            (None, None) => return Err(item.missing("sha256")),
        };
        let artifact = Artifact { sha256, urls: vec![url], size: None, entry: None, irreversible: false };
        reader.insert(name, Effective::Artifact(artifact))?;
    }
    let (name, entries) = reader.finish()?;
    Ok(Catalog { revision: None, services: BTreeMap::from([(name, entries)]), deny: BTreeSet::new() })
}

/// What a version comes to on this platform and at this height.
enum Effective {
    Artifact(Artifact),
    Nothing(String),
}

/// Collects the entries of one service.
struct Reader<'c> {
    service: ServiceName,
    within_cap: bool,
    context: &'c ParseContext,
    entries: BTreeMap<VersionName, Entry>,
}

impl<'c> Reader<'c> {
    fn new(service: ServiceName, within_cap: bool, context: &'c ParseContext) -> Self {
        Self { service, within_cap, context, entries: BTreeMap::new() }
    }

    fn version(&mut self, version: &At<'_>) -> Result<(), CatalogError> {
        let fields = version.fields(&["name", "releases"])?;
        let name = fields.get("name").ok_or_else(|| version.missing("name"))?;
        let releases = fields.get("releases").ok_or_else(|| version.missing("releases"))?;
        let effective = effective(releases, self.context)?;
        self.insert(name, effective)
    }

    fn insert(&mut self, name: &At<'_>, effective: Effective) -> Result<(), CatalogError> {
        let version =
            VersionName::new(name.text()?).map_err(|source| CatalogError::Name { path: name.path.clone(), source })?;
        let entry = self.judge(&version, effective);
        match self.entries.insert(version, entry) {
            Some(_) => Err(CatalogError::Duplicate { path: name.path.clone(), name: name.text()?.to_owned() }),
            None => Ok(()),
        }
    }

    fn judge(&self, name: &VersionName, effective: Effective) -> Entry {
        let Some(shape) = self.context.services.get(&self.service) else {
            return blocked(format!("this host has no [service.{}]", self.service));
        };
        let first_segment = match shape {
            ServiceShape::Single => false,
            ServiceShape::Versioned { first_segment } => *first_segment,
        };
        if !self.within_cap {
            return blocked(format!("a host takes {MAX_SERVICES} services"));
        }
        if self.entries.len() >= MAX_VERSIONS {
            return blocked(format!("a service takes {MAX_VERSIONS} versions"));
        }
        if first_segment && name.is_reserved() {
            return blocked(format!("{name} is one of the host's own paths"));
        }
        match effective {
            Effective::Nothing(detail) => blocked(detail),
            Effective::Artifact(artifact) => reachable(artifact, self.context.urls),
        }
    }

    fn finish(self) -> Result<(ServiceName, BTreeMap<VersionName, Entry>), CatalogError> {
        let Reader { service, context, mut entries, .. } = self;
        if context.services.get(&service) == Some(&ServiceShape::Single) && !entries.is_empty() {
            let slot = VersionName::new(service.as_str())
                .map_err(|source| CatalogError::Name { path: format!("services.{service}"), source })?;
            let count = entries.len();
            let entry = match entries.pop_first() {
                Some((_, entry)) if count == 1 => entry,
                Some(_) | None => {
                    blocked(format!("the route has no {{version}}, and the catalog lists {count} versions"))
                }
            };
            entries = BTreeMap::from([(slot, entry)]);
        }
        Ok((service, entries))
    }
}

/// The release in effect at the context's height, for its platform. Every release is read, so that a
/// document is malformed for all hosts or for none.
fn effective(releases: &At<'_>, context: &ParseContext) -> Result<Effective, CatalogError> {
    let mut by_height: BTreeMap<Option<u64>, Option<Artifact>> = BTreeMap::new();
    for release in releases.list()? {
        let fields = release.fields(&["activate", "artifacts"])?;
        let height = match fields.get("activate") {
            None => None,
            Some(activate) => {
                let fields = activate.fields(&["height"])?;
                Some(fields.get("height").ok_or_else(|| activate.missing("height"))?.number()?)
            }
        };
        let mut here = None;
        for (platform, artifact) in fields.get("artifacts").ok_or_else(|| release.missing("artifacts"))?.map()? {
            let artifact = artifact_of(&artifact)?;
            if platform == context.platform {
                here = Some(artifact);
            }
        }
        if by_height.insert(height, here).is_some() {
            let name = height.map_or("release without activate".to_owned(), |height| format!("release at {height}"));
            return Err(CatalogError::Duplicate { path: release.path, name });
        }
    }
    let Some((first, _)) = by_height.first_key_value() else {
        return Err(releases.shape("a version needs at least one release"));
    };
    let first = first.unwrap_or_default();
    let in_effect = by_height.into_iter().rfind(|(height, _)| *height <= context.height);
    Ok(match in_effect {
        Some((_, Some(artifact))) => Effective::Artifact(artifact),
        Some((_, None)) => Effective::Nothing(format!("no artifact for {}", context.platform)),
        None => Effective::Nothing(match context.height {
            Some(now) => format!("activates at height {first}, now is {now}"),
            None => format!("activates at height {first}, and the height is unknown"),
        }),
    })
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

/// Leaves the addresses that may be used here.
fn reachable(mut artifact: Artifact, rules: UrlRules) -> Entry {
    let mut refused = String::new();
    artifact.urls.retain(|url| match rules.check(url) {
        Ok(()) => true,
        Err(refusal) => {
            refused = format!("no usable URL: {refusal}");
            false
        }
    });
    if artifact.urls.is_empty() { blocked(refused) } else { Entry::Release(artifact) }
}

/// Takes `checksum=sha256:<hex>` out of the query of an upstream URL.
fn split_checksum(binary: &At<'_>) -> Result<(String, Option<Sha256>), CatalogError> {
    let url = binary.text()?;
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), None)) };
    let mut found = None;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.strip_prefix("checksum=sha256:").or_else(|| pair.strip_prefix("checksum=sha256%3A")) {
            Some(hex) if found.is_none() => {
                let hash = hex.parse();
                found = Some(hash.map_err(|source| CatalogError::Name { path: binary.path.clone(), source })?);
            }
            Some(_) => return Err(binary.shape("two checksums in one URL")),
            None => rest.push(pair),
        }
    }
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((url, found))
}

fn sha256(hash: &At<'_>) -> Result<Sha256, CatalogError> {
    hash.text()?.parse().map_err(|source| CatalogError::Name { path: hash.path.clone(), source })
}

fn blocked(detail: String) -> Entry {
    Entry::Blocked(Reason::Unservable { detail })
}
