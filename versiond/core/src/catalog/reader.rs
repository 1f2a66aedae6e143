//! Collects what a document says of one service, and blocks what this host cannot serve.

use std::collections::BTreeMap;

use supervisor_protocol::{Reason, ServiceName, VersionName};

use super::json::At;
use super::parse::{CatalogError, MAX_SERVICES, MAX_VERSIONS, ParseContext, Place, ServiceShape};
use super::url::UrlRules;
use super::{Artifact, Entry, Release, Releases};

/// The entries of one service.
pub(super) struct Reader<'c> {
    service: ServiceName,
    within_cap: bool,
    context: &'c ParseContext,
    entries: BTreeMap<VersionName, Entry>,
}

impl<'c> Reader<'c> {
    pub(super) fn new(service: ServiceName, within_cap: bool, context: &'c ParseContext) -> Self {
        Self { service, within_cap, context, entries: BTreeMap::new() }
    }

    /// Takes one version.
    pub(super) fn insert(&mut self, name: &At<'_>, releases: Releases) -> Result<(), CatalogError> {
        let version =
            VersionName::new(name.text()?).map_err(|source| CatalogError::Name { path: name.path.clone(), source })?;
        let entry = self.judge(&version, releases);
        match self.entries.insert(version, entry) {
            Some(_) => Err(CatalogError::Duplicate { path: name.path.clone(), name: name.text()?.to_owned() }),
            None => Ok(()),
        }
    }

    /// The whole service.
    pub(super) fn finish(self) -> Result<(ServiceName, BTreeMap<VersionName, Entry>), CatalogError> {
        let Reader { service, context, mut entries, .. } = self;
        if context.services.place_of(&service) == Place::Configured(ServiceShape::Single) && !entries.is_empty() {
            let count = entries.len();
            let entry = match entries.pop_first() {
                Some((_, entry)) if count == 1 => entry,
                Some(_) | None => Entry::Blocked(unservable(format!(
                    "the route has no {{version}}, and the catalog lists {count} versions"
                ))),
            };
            entries = BTreeMap::from([(own_name(&service)?, entry)]);
        }
        Ok((service, entries))
    }

    fn judge(&self, name: &VersionName, releases: Releases) -> Entry {
        let first_segment = match self.context.services.place_of(&self.service) {
            Place::None => return Entry::Blocked(not_configured(&self.service)),
            Place::Any | Place::Configured(ServiceShape::Single) => false,
            Place::Configured(ServiceShape::Versioned { first_segment }) => first_segment,
        };
        if !self.within_cap {
            return Entry::Blocked(unservable(format!("a host takes {MAX_SERVICES} services")));
        }
        if self.entries.len() >= MAX_VERSIONS {
            return Entry::Blocked(unservable(format!("a service takes {MAX_VERSIONS} versions")));
        }
        if first_segment && name.is_reserved() {
            return Entry::Blocked(unservable(format!("{name} is one of the host's own paths")));
        }
        Entry::Releases(releases)
    }
}

/// The one entry of a service that has upgrade plans instead of versions.
pub(super) fn planned(
    service: &ServiceName,
    releases: Releases,
    context: &ParseContext,
) -> Result<BTreeMap<VersionName, Entry>, CatalogError> {
    let entry = match context.services.place_of(service) {
        Place::Any | Place::Configured(ServiceShape::Single) => Entry::Releases(releases),
        Place::Configured(ServiceShape::Versioned { .. }) => Entry::Blocked(unservable(format!(
            "upgrade plans replace one program by the next, and a route or alias of [service.{service}] holds {{version}}"
        ))),
        Place::None => Entry::Blocked(not_configured(service)),
    };
    Ok(BTreeMap::from([(own_name(service)?, entry)]))
}

/// The artifact with the addresses that may be used here, if there are any.
pub(super) fn reachable(mut artifact: Artifact, rules: UrlRules) -> Release {
    let mut refused = String::new();
    artifact.urls.retain(|url| match rules.check(url) {
        Ok(()) => true,
        Err(refusal) => {
            refused = format!("no usable URL: {refusal}");
            false
        }
    });
    if artifact.urls.is_empty() { Release::Blocked(unservable(refused)) } else { Release::Artifact(artifact) }
}

pub(super) fn unservable(detail: String) -> Reason {
    Reason::Unservable { detail }
}

fn not_configured(service: &ServiceName) -> Reason {
    unservable(format!("this host has no [service.{service}]"))
}

/// The slot of a service without version names.
fn own_name(service: &ServiceName) -> Result<VersionName, CatalogError> {
    VersionName::new(service.as_str())
        .map_err(|source| CatalogError::Name { path: format!("services.{service}"), source })
}
