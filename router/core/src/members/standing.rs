//! How a member stands towards a whole pool, or towards one version of it.

use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::{ServiceName, SlotId, Tick, VersionName};

use super::health::{Check, Health, HostSaid, Phase, Said};

/// What readiness is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    Whole,
    /// One version, of one service where a host has several.
    Version {
        service: Option<&'a ServiceName>,
        version: &'a VersionName,
    },
}

/// A drain of a host as a router sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drain {
    pub since: Tick,
    pub mode: DrainMode,
}

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has not answered yet.
    Unknown,
    Ready,
    /// It says so itself.
    Unready,
    /// It has no such version.
    Absent,
    Starting,
    /// It admits what arrives, and wants to be left.
    Cordoned(Drain),
    /// On its way out; it still admits.
    Announcing(Drain),
    Draining(Drain),
    Ending,
    Silent {
        since: Tick,
        last: Last,
    },
}

/// What a silent member was when it was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    Ready,
    Other,
}

impl Standing {
    /// How a member of this health stands.
    #[must_use]
    pub fn of(health: &Health, scope: Scope<'_>) -> Self {
        match health {
            Health::Unknown { .. } => Standing::Unknown,
            Health::Answering { said, .. } => said.standing(scope),
            Health::Silent { since, said, .. } => {
                let last = said.as_ref().map_or(Last::Other, |said| said.standing(scope).last());
                Standing::Silent { since: *since, last }
            }
        }
    }

    /// What it was when it was heard last, which may be now.
    #[must_use]
    pub const fn last(self) -> Last {
        match self {
            Standing::Ready => Last::Ready,
            Standing::Silent { last, .. } => last,
            Standing::Unknown
            | Standing::Unready
            | Standing::Absent
            | Standing::Starting
            | Standing::Cordoned(_)
            | Standing::Announcing(_)
            | Standing::Draining(_)
            | Standing::Ending => Last::Other,
        }
    }
}

impl Said {
    fn standing(&self, scope: Scope<'_>) -> Standing {
        match (self, scope) {
            (Said::Host(said), _) => said.standing(scope),
            (Said::Checks(versions), Scope::Version { version, .. }) => {
                versions.get(version).map_or(Standing::Absent, |check| check.standing())
            }
            // The best of its versions stands for the host.
            (Said::Checks(versions), Scope::Whole) => {
                let checks = || versions.values().map(|check| check.standing());
                let ready = checks().find(|standing| *standing == Standing::Ready);
                let lost = || checks().find(|standing| matches!(standing, Standing::Silent { .. }));
                ready.or_else(lost).unwrap_or(Standing::Unready)
            }
            (Said::Plain, _) => Standing::Ready,
        }
    }

    /// Every version that a member has, ready or not.
    pub fn versions<'a>(&'a self, service: Option<&'a ServiceName>) -> Vec<&'a VersionName> {
        match self {
            Said::Host(said) => said.slots(service).map(|(slot, _)| &slot.name).collect(),
            Said::Checks(versions) => versions.keys().collect(),
            Said::Plain => Vec::new(),
        }
    }
}

impl HostSaid {
    fn slots<'a>(&'a self, service: Option<&'a ServiceName>) -> impl Iterator<Item = (&'a SlotId, bool)> {
        let slots = self.word.slots.iter().map(|(slot, is_ready)| (slot, *is_ready));
        slots.filter(move |(slot, _)| service.is_none_or(|service| slot.service == *service))
    }

    fn standing(&self, scope: Scope<'_>) -> Standing {
        let (is_there, is_ready) = match scope {
            // A host that is cordoned is not ready, whatever it could do.
            Scope::Whole if self.phase == Phase::Serving => (true, self.word.ready),
            Scope::Whole => (true, self.slots(None).any(|(_, is_ready)| is_ready)),
            Scope::Version { service, version } => {
                let mut slots = self.slots(service).filter(|(slot, _)| slot.name == *version).peekable();
                (slots.peek().is_some(), slots.any(|(_, is_ready)| is_ready))
            }
        };
        if !is_there {
            return Standing::Absent;
        }
        match self.phase {
            Phase::Starting => Standing::Starting,
            Phase::Ending => Standing::Ending,
            Phase::Draining(drain) => Standing::Draining(drain),
            Phase::Serving if is_ready => Standing::Ready,
            Phase::Cordoned(drain) if is_ready => Standing::Cordoned(drain),
            Phase::Announcing(drain) if is_ready => Standing::Announcing(drain),
            Phase::Serving | Phase::Cordoned(_) | Phase::Announcing(_) => Standing::Unready,
        }
    }
}

impl Check {
    const fn standing(self) -> Standing {
        match self {
            Check::Ready | Check::Doubted => Standing::Ready,
            Check::Lost { since, .. } => Standing::Silent { since, last: Last::Ready },
            Check::Never => Standing::Unready,
        }
    }
}
