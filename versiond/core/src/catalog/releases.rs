//! The releases of one version: each is in effect from a height on, until the next one is.

use std::collections::BTreeMap;

use supervisor_protocol::Reason;

use super::Artifact;

/// One release of a version, as far as it can be had here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    Artifact(Artifact),
    /// It is well-formed and cannot be served here: [`Reason::Unservable`].
    Blocked(Reason),
}

/// Releases by the height from which each is in effect; the one without a height is from the beginning.
/// There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Releases(BTreeMap<Option<u64>, Release>);

impl Releases {
    /// One release, from the beginning.
    #[must_use]
    pub fn only(release: Release) -> Releases {
        Releases(BTreeMap::from([(None, release)]))
    }

    /// `None` without any.
    #[must_use]
    pub fn new(by_height: BTreeMap<Option<u64>, Release>) -> Option<Releases> {
        (!by_height.is_empty()).then_some(Releases(by_height))
    }

    /// The release in effect, with its height; `height` is the greatest that is known to be reached.
    #[must_use]
    pub fn at(&self, height: Option<u64>) -> Option<(Option<u64>, &Release)> {
        self.0.range(..=height).next_back().map(|(from, release)| (*from, release))
    }

    /// The releases that are still to come.
    pub fn after(&self, height: Option<u64>) -> impl Iterator<Item = (u64, &Release)> {
        self.0.iter().filter_map(move |(from, release)| {
            let from = (*from)?;
            height.is_none_or(|height| from > height).then_some((from, release))
        })
    }

    /// Every release, the earliest first.
    pub fn iter(&self) -> impl Iterator<Item = (Option<u64>, &Release)> {
        self.0.iter().map(|(from, release)| (*from, release))
    }
}
