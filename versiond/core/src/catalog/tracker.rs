//! How a host follows a succession of documents: which are refused, what is believed to be removed,
//! and what is wanted in each slot. Time is a parameter; keeping the state is the shell's.
//!
//! A document that was read says what to add or change at once. What it leaves out is believed at
//! once only when it carries a revision, since a source that answers wrongly leaves out far more
//! often than it invents. [`Tracker::observe`] returns the state after a document and leaves the one
//! before as it was, so that a state that cannot be kept is not acted on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use supervisor_protocol::{Reason, ServiceName, Sha256, SlotId, Tick, VersionName};

use super::{Artifact, Catalog, Desired, Entry, Intent, Release, Releases, Staged};

/// How often a document without a revision must be read, unchanged, before what it leaves out is gone.
pub const CONFIRM_SEEN: u32 = 3;
/// And over how long.
pub const CONFIRM_OVER: Duration = Duration::from_secs(60);
/// The widest step between two revisions: one absurd number must not lock out all that follow.
pub const MAX_JUMP: u64 = 1_000_000;

/// What the absence of a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Removals {
    /// The version is to go.
    #[default]
    Follow,
    /// Nothing.
    Explicit,
}

/// Why a well-formed document was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("revision {offered} is lower than {in_force}, which is in force")]
    RevisionLower { offered: u64, in_force: u64 },
    #[error("revision {revision} has been read before with other content")]
    RevisionReused { revision: u64 },
    #[error("revision {offered} is more than {MAX_JUMP} above {in_force}, which is in force")]
    RevisionJump { offered: u64, in_force: u64 },
    #[error("the document carries no revision, and {in_force} is in force")]
    RevisionMissing { in_force: u64 },
    #[error("the document lists no version at all, and allow_empty is not set")]
    Empty,
}

/// What must outlive a restart beside the document in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Believed {
    /// The last servable artifact of every name that is not (yet) believed to be removed.
    pub services: BTreeMap<ServiceName, BTreeMap<VersionName, Artifact>>,
    #[serde(default)]
    pub deny: BTreeSet<Sha256>,
    /// The greatest height that is known to be reached. Heights do not go back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
}

/// The state of following one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracker {
    removals: Removals,
    /// Whether the last version of the host may be removed.
    allow_empty: bool,
    /// The document in force.
    latest: Option<Catalog>,
    /// Readings of `latest` since the start.
    repeated: Option<Repeated>,
    believed: BTreeMap<SlotId, Artifact>,
    deny: BTreeSet<Sha256>,
    height: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Repeated {
    seen: u32,
    since: Tick,
    last: Tick,
}

impl Tracker {
    /// A host that has read nothing yet.
    #[must_use]
    pub fn new(removals: Removals, allow_empty: bool) -> Self {
        Self {
            removals,
            allow_empty,
            latest: None,
            repeated: None,
            believed: BTreeMap::new(),
            deny: BTreeSet::new(),
            height: None,
        }
    }

    /// A host that goes on from what it kept. `latest` is `None` when the kept document came from
    /// another source, so that its revision says nothing about this one's.
    #[must_use]
    pub fn restored(self, latest: Option<Catalog>, believed: Believed) -> Self {
        let slots = believed.services.into_iter().flat_map(|(service, versions)| {
            versions.into_iter().map(move |(name, artifact)| (SlotId { service: service.clone(), name }, artifact))
        });
        Self { latest, believed: slots.collect(), deny: believed.deny, height: believed.height, ..self }
    }

    /// The same host, for which the next document is the first one: no revision binds it. `height` is what is
    /// known now, be it lower than before; unknown, the last one stays. So does what is believed, until that
    /// document says otherwise.
    #[must_use]
    pub fn reset(&self, height: Option<u64>) -> Tracker {
        Tracker { latest: None, repeated: None, height: height.or(self.height), ..self.clone() }
    }

    /// The state once this height is known to be reached. A lower one than before is a lagging answer.
    #[must_use]
    pub fn at_height(&self, height: Option<u64>) -> Tracker {
        let mut next = Tracker { height: self.height.max(height), ..self.clone() };
        next.adopt();
        next
    }

    /// The state after one good reading of the source at `now`. A failed reading is no observation.
    pub fn observe(&self, document: Catalog, now: Tick) -> Result<Tracker, Refused> {
        self.admits(&document)?;
        let seen_before = self.latest.as_ref().is_some_and(|latest| identity(latest) == identity(&document));
        let repeated = match self.repeated {
            Some(Repeated { seen, since, .. }) if seen_before => {
                Repeated { seen: seen.saturating_add(1), since, last: now }
            }
            Some(_) | None => Repeated { seen: 1, since: now, last: now },
        };
        let listed: BTreeSet<SlotId> = document.entries().map(|(slot, _)| slot).collect();
        let height = self.height.max(document.reached);
        let mut next = Tracker { repeated: Some(repeated), latest: Some(document), height, ..self.clone() };
        next.adopt();
        if next.is_confirmed() {
            next.deny = next.latest.as_ref().map(|latest| latest.deny.clone()).unwrap_or_default();
            if next.removals == Removals::Follow {
                next.remove_all_but(&listed);
            }
        }
        Ok(next)
    }

    /// What is wanted now.
    #[must_use]
    pub fn desired(&self) -> Desired {
        let mut slots: BTreeMap<SlotId, Intent> = BTreeMap::new();
        for (slot, artifact) in &self.believed {
            let intent = Intent { artifact: Some(artifact.clone()), blocked: self.absence(), ..Intent::default() };
            slots.insert(slot.clone(), intent);
        }
        for (slot, entry) in self.latest.iter().flat_map(Catalog::entries) {
            let intent = slots.entry(slot).or_default();
            match entry {
                Entry::Releases(releases) => self.follow(releases, intent),
                Entry::Blocked(reason) => intent.blocked = Some(reason.clone()),
            }
        }
        slots
            .retain(|_, intent| !intent.artifact.as_ref().is_some_and(|artifact| self.deny.contains(&artifact.sha256)));
        Desired { revision: self.revision(), height: self.height, slots, deny: self.deny.clone() }
    }

    /// What to keep over a restart.
    #[must_use]
    pub fn believed(&self) -> Believed {
        let mut services: BTreeMap<ServiceName, BTreeMap<VersionName, Artifact>> = BTreeMap::new();
        for (SlotId { service, name }, artifact) in &self.believed {
            services.entry(service.clone()).or_default().insert(name.clone(), artifact.clone());
        }
        Believed { services, deny: self.deny.clone(), height: self.height }
    }

    /// Of the document in force.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.latest.as_ref().and_then(|latest| latest.revision)
    }

    /// The greatest height that is known to be reached.
    #[must_use]
    pub fn height(&self) -> Option<u64> {
        self.height
    }

    /// The names that the document in force leaves out, and why each is still wanted.
    #[must_use]
    pub fn absent(&self) -> BTreeMap<SlotId, Reason> {
        let listed: BTreeSet<SlotId> = self.latest.iter().flat_map(Catalog::entries).map(|(slot, _)| slot).collect();
        let absent = self.believed.keys().filter(|slot| !listed.contains(slot));
        absent.filter_map(|slot| Some((slot.clone(), self.absence()?))).collect()
    }

    /// Believes the document in force as far as its releases are in effect.
    fn adopt(&mut self) {
        for (slot, entry) in self.latest.iter().flat_map(Catalog::entries) {
            if let Entry::Releases(releases) = entry
                && let Some((_, Release::Artifact(artifact))) = releases.at(self.height)
            {
                self.believed.insert(slot, artifact.clone());
            }
        }
    }

    /// What the releases of a slot make of its intent, which holds the artifact already where one is believed.
    fn follow(&self, releases: &Releases, intent: &mut Intent) {
        intent.staged = releases
            .after(self.height)
            .filter_map(|(height, release)| match release {
                Release::Artifact(artifact) => Some(Staged { height, artifact: artifact.clone() }),
                Release::Blocked(_) => None,
            })
            .filter(|staged| !self.deny.contains(&staged.artifact.sha256))
            .collect();
        let next = releases.after(self.height).next();
        let to_come = next.map(|(activates_at, release)| match release {
            Release::Artifact(_) => Reason::NotYetActive { height: self.height, activates_at },
            Release::Blocked(reason) => reason.clone(),
        });
        intent.blocked = match releases.at(self.height) {
            Some((since, Release::Artifact(_))) => {
                intent.since_height = since;
                to_come
            }
            Some((_, Release::Blocked(reason))) => Some(reason.clone()),
            None => to_come,
        };
    }

    fn admits(&self, document: &Catalog) -> Result<(), Refused> {
        match (self.revision(), document.revision) {
            (Some(in_force), None) => return Err(Refused::RevisionMissing { in_force }),
            (Some(in_force), Some(offered)) if offered < in_force => {
                return Err(Refused::RevisionLower { offered, in_force });
            }
            (Some(in_force), Some(offered)) if offered - in_force > MAX_JUMP => {
                return Err(Refused::RevisionJump { offered, in_force });
            }
            (Some(in_force), Some(offered)) if offered == in_force && self.latest.as_ref() != Some(document) => {
                return Err(Refused::RevisionReused { revision: offered });
            }
            (Some(_), Some(_)) | (None, _) => {}
        }
        if document.is_empty() && !self.believed.is_empty() && !self.allow_empty {
            return Err(Refused::Empty);
        }
        Ok(())
    }

    /// Whether what the document in force leaves out is to be believed.
    fn is_confirmed(&self) -> bool {
        self.revision().is_some()
            || self
                .repeated
                .is_some_and(|Repeated { seen, since, last }| seen >= CONFIRM_SEEN && last.since(since) >= CONFIRM_OVER)
    }

    fn remove_all_but(&mut self, listed: &BTreeSet<SlotId>) {
        let stays = |slot: &SlotId| listed.contains(slot);
        if self.allow_empty || self.believed.keys().any(stays) {
            self.believed.retain(|slot, _| stays(slot));
        }
    }

    /// Why a name that the document in force leaves out is still wanted.
    fn absence(&self) -> Option<Reason> {
        self.latest.as_ref()?;
        let held = |detail: &str| Some(Reason::RemovalHeld { detail: detail.to_owned() });
        match self.removals {
            Removals::Explicit => held("removals = \"explicit\" ignores absence"),
            Removals::Follow if self.is_confirmed() => held("it is this host's last version; allow_empty lets it go"),
            Removals::Follow => Some(Reason::RemovalUnconfirmed {
                seen: self.repeated.map_or(0, |repeated| repeated.seen.min(CONFIRM_SEEN)),
                needed: CONFIRM_SEEN,
            }),
        }
    }
}

/// The bytes that each name stands for, at each height.
type Named = BTreeMap<(SlotId, Option<u64>), Option<Sha256>>;

/// What makes two readings the same. Another mirror, or a signature in a URL that changes at each reading, is
/// no difference.
fn identity(document: &Catalog) -> (Named, &BTreeSet<Sha256>) {
    let mut named = Named::new();
    for (slot, entry) in document.entries() {
        match entry {
            Entry::Blocked(_) => drop(named.insert((slot, None), None)),
            Entry::Releases(releases) => named.extend(releases.iter().map(|(height, release)| {
                let sha256 = match release {
                    Release::Artifact(artifact) => Some(artifact.sha256),
                    Release::Blocked(_) => None,
                };
                ((slot.clone(), height), sha256)
            })),
        }
    }
    (named, &document.deny)
}
