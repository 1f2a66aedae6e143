//! One pool of a router: what comes in moves its members, what goes out is a [`View`] for requests.
//!
//! ```text
//! list, hear, tick, drain ──▶ Pool ──view()──▶ View ──choose()──▶ Search ──failed()──▶ the next choice
//! ```
//!
//! A shell keeps one pool per `[pool.X]`, calls one method per event, and publishes a new view whenever the
//! revision has grown. Lives here: the settings of a pool and what must outlive one event. Must not live
//! here: checks, sockets, and counting what is in flight.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use supervisor_protocol::{ServiceName, Tick, VersionName};

use crate::drain::{NotDrained, OwnDrains};
use crate::members::{
    Address, Answer, Detection, Last, Listed, Listing, MemberId, Members, Relisted, Scope, Standing, Views, Wake,
};
use crate::placement::Weight;
use crate::view::View;

/// How a pool chooses among those that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// By the key of the request.
    #[default]
    Sticky,
    /// Whoever has least in flight for its weight.
    LeastInflight,
    RoundRobin,
}

/// Whether readiness is asked for version by version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Versions {
    /// A host is ready, or it is not.
    #[default]
    Together,
    /// One readiness per version; of this service alone where hosts have several.
    Each { service: Option<ServiceName> },
}

/// Where the truth of the work lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolState {
    #[default]
    Shared,
    /// With one host: of two that are ready for a version the second is refused.
    Local,
}

/// The settings of one pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolSettings {
    pub policy: Policy,
    pub versions: Versions,
    pub state: PoolState,
    pub detection: Detection,
    #[cfg(feature = "faults")]
    pub sabotage: Option<crate::faults::Sabotage>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    settings: PoolSettings,
    members: Members,
    own_drains: OwnDrains,
    /// With `state = local`: whose word each version follows.
    holders: Holders,
    revision: u64,
}

/// By version; by nothing where versions are ready together.
pub(crate) type Holders = BTreeMap<Option<VersionName>, MemberId>;

/// What outlives a restart of the router.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Remembered {
    pub members: Vec<RememberedMember>,
    pub own_drains: OwnDrains,
    /// With `state = local`: version and holder.
    pub holders: Vec<(Option<VersionName>, MemberId)>,
}

/// What was last known of one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedMember {
    pub id: MemberId,
    pub address: Address,
    pub weight: Weight,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(settings: PoolSettings, now: Tick) -> Self {
        let members = Members::new(settings.detection, now);
        Self { settings, members, own_drains: OwnDrains::default(), holders: Holders::new(), revision: 0 }
    }

    /// Takes in what was written down before a restart: once, after the configuration was listed. Without a
    /// listing so far, what was known last is the list.
    pub fn recall(&mut self, remembered: Remembered, now: Tick) {
        let Remembered { members, own_drains, holders } = remembered;
        if self.members.iter().next().is_none() {
            let listed = members.iter().map(|member| Listed {
                id: None,
                address: member.address.clone(),
                weight: member.weight,
            });
            self.members.list(Listing::Resolved(listed.collect()), now);
        }
        self.members.remember(&members.into_iter().map(|member| (member.address, member.id)).collect());
        self.own_drains = own_drains;
        self.holders = holders.into_iter().collect();
        self.revision += 1;
        self.tick(now);
    }

    /// What to write down. It changes rarely.
    #[must_use]
    pub fn remembered(&self) -> Remembered {
        let known = self.members.known();
        let members = self.members.iter().filter_map(|(address, member)| {
            let id = known.get(address)?.clone();
            Some(RememberedMember { id, address: address.clone(), weight: member.listed.weight })
        });
        Remembered {
            members: members.collect(),
            own_drains: self.own_drains.clone(),
            holders: self.holders.iter().map(|(version, id)| (version.clone(), id.clone())).collect(),
        }
    }

    /// Follows a source of addresses.
    pub fn list(&mut self, listing: Listing, now: Tick) -> Relisted {
        let relisted = self.members.list(listing, now);
        self.tick(now);
        relisted
    }

    /// Takes in what one check of one address brought.
    pub fn hear(&mut self, address: &Address, answer: Answer, now: Tick) {
        self.members.hear(address, answer, now);
        self.tick(now);
    }

    /// Does what time alone brings, at [`Pool::wake`] or later.
    pub fn tick(&mut self, now: Tick) {
        self.members.settle(now);
        if !self.own_drains.follow(&self.members).is_empty() {
            self.revision += 1;
        }
        match self.settings.state {
            PoolState::Shared => {}
            PoolState::Local => {
                let before = self.holders.clone();
                self.settle_holders();
                self.revision += u64::from(self.holders != before);
            }
        }
    }

    /// When [`Pool::tick`] should be called next, and why.
    #[must_use]
    pub fn wake(&self) -> Option<(Tick, Wake)> {
        self.members.wake()
    }

    /// Drains a member that cannot say it itself.
    pub fn drain(&mut self, id: &MemberId, now: Tick) -> Result<(), NotDrained> {
        self.own_drains.begin(id, &self.members)?;
        self.revision += 1;
        self.tick(now);
        Ok(())
    }

    /// Takes [`Pool::drain`] back. False when there was none.
    pub fn undrain(&mut self, id: &MemberId, now: Tick) -> bool {
        let was_drained = self.own_drains.end(id);
        self.revision += u64::from(was_drained);
        self.tick(now);
        was_drained
    }

    /// Grows by everything that a view may show: the same number, the same view. Most answers bring nothing.
    #[must_use]
    pub fn revision(&self) -> u64 {
        #[cfg(feature = "faults")]
        if self.settings.sabotage == Some(crate::faults::Sabotage::StaleView) && self.views() == Views::Known {
            return u64::MAX;
        }
        self.revision + self.members.revision()
    }

    /// What requests are placed by from now on.
    #[must_use]
    pub fn view(&self) -> View {
        View::of(&self.settings, &self.members, &self.own_drains, &self.holders)
    }

    /// Whether the router knows enough to be ready.
    #[must_use]
    pub const fn views(&self) -> Views {
        self.members.views()
    }

    /// The members, to look at.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// The router's own drains, to look at.
    #[must_use]
    pub const fn own_drains(&self) -> &OwnDrains {
        &self.own_drains
    }

    fn settle_holders(&mut self) {
        let names = self.holders.keys().cloned().chain(scopes(&self.settings, &self.members));
        let names: BTreeSet<Option<VersionName>> = names.collect();
        for name in names {
            let scope = scope(&self.settings, name.as_ref());
            let stays = self.holders.get(&name).is_some_and(|id| {
                let standing = self.members.find(id).map(|(_, member)| member.standing(scope));
                !self.own_drains.holds(id) && standing.is_some_and(is_still_its_own)
            });
            if stays {
                continue;
            }
            let ready = self.members.iter().filter(|(_, member)| member.standing(scope) == Standing::Ready);
            let first = ready.filter_map(|(_, member)| member.id()).filter(|id| !self.own_drains.holds(id)).min();
            match first.cloned() {
                Some(id) => self.holders.insert(name, id),
                // Remembered from before a restart, it may still answer.
                None if self.members.views() != Views::Known => continue,
                None => self.holders.remove(&name),
            };
        }
    }
}

/// Every scope that members speak of.
pub(crate) fn scopes(settings: &PoolSettings, members: &Members) -> BTreeSet<Option<VersionName>> {
    match &settings.versions {
        Versions::Together => BTreeSet::from([None]),
        Versions::Each { service } => members
            .iter()
            .filter(|(_, member)| member.id().is_some())
            .filter_map(|(_, member)| member.health.said())
            .flat_map(|said| said.versions(service.as_ref()))
            .map(|version| Some(version.clone()))
            .collect(),
    }
}

pub(crate) fn scope<'a>(settings: &'a PoolSettings, version: Option<&'a VersionName>) -> Scope<'a> {
    match (&settings.versions, version) {
        (Versions::Each { service }, Some(version)) => Scope::Version { service: service.as_ref(), version },
        (Versions::Each { .. }, None) | (Versions::Together, _) => Scope::Whole,
    }
}

/// Whether a host may still change what it holds alone: silence is no proof that it does not.
const fn is_still_its_own(standing: Standing) -> bool {
    match standing {
        Standing::Ready
        | Standing::Cordoned(_)
        | Standing::Announcing(_)
        | Standing::Draining(_)
        | Standing::Silent { last: Last::Ready, .. } => true,
        Standing::Unknown
        | Standing::Unready
        | Standing::Absent
        | Standing::Starting
        | Standing::Ending
        | Standing::Silent { last: Last::Other, .. } => false,
    }
}
