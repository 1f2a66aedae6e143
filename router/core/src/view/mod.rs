//! What requests are placed by: who may be chosen for the pool and for each version, in which role, and why
//! everybody else may not.
//!
//! A view is a value. Two routers whose views are equal choose alike for every key. Lives here: making one of
//! what is known. Must not live here: the order of choices, or anything that one request changes.

mod make;
mod reason;

use std::collections::BTreeMap;

use supervisor_protocol::headers::NotAdmitted;
use supervisor_protocol::{BootNonce, VersionName};

use crate::drain::OwnDrains;
use crate::members::{Address, Drain, MemberId, Members};
use crate::placement::{Placement, Weight};
use crate::pool::{Holders, Policy, PoolSettings};

pub use reason::{Alarm, Out, OutReason, Role};

/// What requests are placed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub(crate) policy: Policy,
    pub(crate) whole: ScopeView,
    pub(crate) versions: BTreeMap<VersionName, ScopeView>,
    pub(crate) any_version: AnyVersion,
    pub(crate) seats: BTreeMap<MemberId, Seat>,
    #[cfg(feature = "faults")]
    pub(crate) sabotage: Option<crate::faults::Sabotage>,
}

/// What serves a version that nobody names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AnyVersion {
    /// Versions are ready together.
    Whole,
    /// Members that know nothing of versions.
    Plain(ScopeView),
    Nobody,
}

/// Where a member is reached, and what it signs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub address: Address,
    pub weight: Weight,
    /// Without one, nothing that it says of admission is believed.
    pub boot: Option<BootNonce>,
}

/// The part of a view that is about one version, or about the whole pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeView {
    pub(crate) placed: Placement<MemberId>,
    pub(crate) roles: BTreeMap<MemberId, Role>,
    /// What is tried when nobody is ready.
    pub(crate) fallback: Vec<MemberId>,
    pub(crate) last_resort: Option<MemberId>,
    pub out: Vec<Out>,
    pub alarms: Vec<Alarm>,
}

impl View {
    pub(crate) fn of(settings: &PoolSettings, members: &Members, own: &OwnDrains, holders: &Holders) -> Self {
        make::view(settings, members, own, holders)
    }

    /// The whole pool, whatever the version.
    #[must_use]
    pub const fn whole(&self) -> &ScopeView {
        &self.whole
    }

    /// Each version that somebody names.
    pub fn versions(&self) -> impl Iterator<Item = (&VersionName, &ScopeView)> {
        self.versions.iter()
    }

    /// Where a member is reached.
    #[must_use]
    pub fn seat(&self, id: &MemberId) -> Option<&Seat> {
        self.seats.get(id)
    }

    /// The drains that go session by session: what [`crate::drain::Refusals::follow`] is told.
    #[must_use]
    pub fn session_drains(&self) -> BTreeMap<MemberId, Drain> {
        let scopes = self.versions.values().chain([&self.whole]);
        let roles = scopes.flat_map(|scope| &scope.roles);
        let sessions = roles.filter_map(|(id, role)| Some((id.clone(), role.sessions()?)));
        sessions.collect()
    }
}

impl Seat {
    /// Whether a refusal before work is this host's own word. Anybody else's is an ordinary 503.
    #[must_use]
    pub fn believes(&self, refusal: &NotAdmitted) -> bool {
        self.boot.as_ref().is_some_and(|boot| boot.as_str() == refusal.nonce.as_str())
    }
}

impl ScopeView {
    /// Everybody who may be chosen, and in which role.
    #[must_use]
    pub const fn roles(&self) -> &BTreeMap<MemberId, Role> {
        &self.roles
    }

    /// Whether a request would find anybody.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.roles.is_empty()
    }
}
