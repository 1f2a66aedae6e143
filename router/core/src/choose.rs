//! The choice for one request, and the next choice after a failure.
//!
//! A [`Search`] is what one request remembers. Each next choice is made from the view of that moment, so that
//! what became known meanwhile counts. Lives here: the order of choices, and refusals where there is none. Must
//! not live here: who may be chosen at all ([`crate::view`]), and whether a failure allows another attempt
//! ([`crate::retry`]).

use supervisor_protocol::{Refusal, VersionName};

use crate::drain::Refusals;
use crate::members::MemberId;
use crate::placement::KeyHash;
use crate::pool::Policy;
use crate::retry::{BodyState, Decision, Failure, decide};
use crate::spread::{least_inflight, round_robin};
use crate::view::{Alarm, AnyVersion, Out, OutReason, Role, ScopeView, Seat, View};

/// What a request is placed by.
pub struct Ask<'a> {
    pub key: &'a [u8],
    /// What the path names, if it names one.
    pub version: Option<&'a VersionName>,
    pub spread: Spread<'a>,
}

/// What the policies without a key go by.
#[derive(Clone, Copy)]
pub struct Spread<'a> {
    /// Counts the requests of the pool.
    pub turn: u64,
    /// How many requests of this router a host has in flight.
    pub inflight: &'a dyn Fn(&MemberId) -> u64,
}

/// What one request remembers of its choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    key: KeyHash,
    version: Option<VersionName>,
    tried: Vec<MemberId>,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Nobody has said that it does not admit this.
    Open,
    /// Somebody has, and this one last.
    Refused { by: MemberId },
    /// The last one was told that it must. Should it not be there, the one that refused last is told so too.
    LastResort { then: Option<MemberId> },
}

/// Whom to send to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub id: MemberId,
    pub attempt: Attempt,
}

/// What the chosen one is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    Ordinary,
    /// `Versiond-Last-Resort: 1`: nobody else is left, and this one, the last cordoned where one is known, must
    /// admit.
    LastResort,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    pub failure: Failure,
    pub is_idempotent: bool,
    pub body: BodyState,
    /// What the budget still allows.
    pub attempts_left: u32,
}

/// What to do after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Try(Choice),
    GiveUp(Refusal),
}

/// Why there is nobody to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the pool has no member that has said who it is")]
    NoMember,
    #[error("no host has this version")]
    UnknownVersion,
    #[error("hosts have this version, and none is ready for it")]
    VersionNotReady,
    #[error("no host is ready")]
    NotReady,
}

/// Everything about one choice, for `/v1/lookup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Why there are no candidates.
    pub refused: Option<Unavailable>,
    /// The first choice first.
    pub candidates: Vec<Candidate>,
    pub out: Vec<Out>,
    pub alarms: Vec<Alarm>,
}

/// One who may be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub id: MemberId,
    pub seat: Seat,
    pub role: Role,
}

impl Unavailable {
    /// The wire name, also the metric label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Unavailable::NoMember => "no_member",
            Unavailable::UnknownVersion => "unknown_version",
            Unavailable::VersionNotReady => "version_not_ready",
            Unavailable::NotReady => "not_ready",
        }
    }
}

impl View {
    /// The first choice. Never a guess: a version that nobody has is refused.
    pub fn choose(&self, ask: &Ask<'_>, refusals: &Refusals) -> Result<(Choice, Search), Unavailable> {
        let scope = self.scope(ask.version)?;
        let key = KeyHash::of(ask.key);
        let first = match self.policy {
            // The common case, without an order of everybody.
            Policy::Sticky if refusals.is_empty() => scope.placed.first(key).or_else(|| scope.fallback.first()),
            Policy::Sticky | Policy::LeastInflight | Policy::RoundRobin => {
                self.order(scope, key, ask.spread, refusals).first().copied()
            }
        };
        let choice = match (first, &scope.last_resort) {
            (Some(id), _) => Choice { id: id.clone(), attempt: Attempt::Ordinary },
            // Everybody drains session by session, and has refused this one before.
            (None, Some(id)) => Choice { id: id.clone(), attempt: Attempt::LastResort },
            (None, None) => return Err(self.unavailable(ask.version)),
        };
        let stage = match choice.attempt {
            Attempt::Ordinary => Stage::Open,
            Attempt::LastResort => Stage::LastResort { then: None },
        };
        let search = Search { key, version: ask.version.cloned(), tried: vec![choice.id.clone()], stage };
        Ok((choice, search))
    }

    /// The next choice after a failure, among those that are left now. What a host did not admit while it
    /// drains session by session is remembered in `refusals`.
    pub fn failed(&self, search: &mut Search, failed: Failed, spread: Spread<'_>, refusals: &mut Refusals) -> Next {
        let scope = self.scope(search.version.as_ref()).ok();
        if failed.failure == Failure::NotAdmitted {
            search.refused();
            if let (Some(scope), Some(id)) = (scope, search.tried.last())
                && let Some(drain) = scope.roles.get(id).copied().and_then(Role::sessions)
            {
                refusals.note(id, drain, search.key);
            }
        }
        let failed = self.taken(failed);
        let refusal = match failed.decide(failed.attempts_left) {
            Decision::RetryElsewhere => {
                let order = scope.map(|scope| self.order(scope, search.key, spread, refusals)).unwrap_or_default();
                match search.next(order) {
                    Some(choice) => return Next::Try(choice),
                    None => failed.refusal(),
                }
            }
            Decision::GiveUp(refusal) => refusal,
        };
        // What nobody has begun may be asked for once more, whatever the budget says.
        let last = scope.and_then(|scope| scope.last_resort.as_ref());
        let choice = match failed.decide(1) {
            Decision::RetryElsewhere => search.insist(last, failed.failure),
            Decision::GiveUp(_) => None,
        };
        choice.map_or(Next::GiveUp(refusal), Next::Try)
    }

    /// A failure as it counts.
    #[cfg(not(feature = "faults"))]
    #[allow(clippy::unused_self, reason = "a build with faults asks what is left out")]
    const fn taken(&self, failed: Failed) -> Failed {
        failed
    }

    #[cfg(feature = "faults")]
    fn taken(&self, failed: Failed) -> Failed {
        use crate::faults::Sabotage;
        match (self.sabotage, failed.failure) {
            (Some(Sabotage::RetryPost), Failure::NoResponse) => Failed { is_idempotent: true, ..failed },
            (Some(Sabotage::NoNotAdmitted), Failure::NotAdmitted) => Failed { failure: Failure::BadResponse, ..failed },
            (Some(Sabotage::RetryPost | Sabotage::StaleView | Sabotage::NoNotAdmitted) | None, _) => failed,
        }
    }

    /// Who would be chosen, who would be next, and why nobody else.
    #[must_use]
    pub fn lookup(&self, ask: &Ask<'_>, refusals: &Refusals) -> Lookup {
        let scope = match self.scope(ask.version) {
            Ok(scope) => scope,
            Err(reason) => return self.nobody(reason),
        };
        let order = self.order(scope, KeyHash::of(ask.key), ask.spread, refusals);
        let candidates = order.iter().filter_map(|id| {
            let (seat, role) = (self.seats.get(*id)?.clone(), *scope.roles.get(*id)?);
            Some(Candidate { id: (*id).clone(), seat, role })
        });
        let candidates: Vec<Candidate> = candidates.collect();
        let not_held = scope.roles.keys().filter(|id| !order.contains(id));
        let not_held = not_held.filter_map(|id| self.out(id, OutReason::NotHeld));
        let is_refused = candidates.is_empty() && scope.last_resort.is_none();
        Lookup {
            refused: is_refused.then(|| self.unavailable(ask.version)),
            candidates,
            out: scope.out.iter().cloned().chain(not_held).collect(),
            alarms: scope.alarms.clone(),
        }
    }

    fn scope(&self, version: Option<&VersionName>) -> Result<&ScopeView, Unavailable> {
        let Some(version) = version else { return Ok(&self.whole) };
        match (self.versions.get(version), &self.any_version) {
            (Some(scope), _) | (None, AnyVersion::Plain(scope)) => Ok(scope),
            (None, AnyVersion::Whole) => Ok(&self.whole),
            (None, AnyVersion::Nobody) if self.seats.is_empty() => Err(Unavailable::NoMember),
            (None, AnyVersion::Nobody) => Err(Unavailable::UnknownVersion),
        }
    }

    fn order<'v>(
        &self,
        scope: &'v ScopeView,
        key: KeyHash,
        spread: Spread<'_>,
        refusals: &Refusals,
    ) -> Vec<&'v MemberId> {
        let placed = match self.policy {
            Policy::Sticky => {
                let is_refused = |id: &MemberId| {
                    let drain = scope.roles.get(id).copied().and_then(Role::sessions);
                    drain.is_some_and(|drain| refusals.has(id, drain, key))
                };
                scope.placed.ranked(key).into_iter().filter(|id| !is_refused(id)).collect()
            }
            Policy::LeastInflight => least_inflight(&scope.placed.hosts(), spread.turn, spread.inflight),
            Policy::RoundRobin => round_robin(&scope.placed.hosts(), spread.turn),
        };
        placed.into_iter().chain(&scope.fallback).collect()
    }

    fn unavailable(&self, version: Option<&VersionName>) -> Unavailable {
        match (version, &self.any_version) {
            _ if self.seats.is_empty() => Unavailable::NoMember,
            (Some(_), AnyVersion::Plain(_) | AnyVersion::Nobody) => Unavailable::VersionNotReady,
            (Some(_), AnyVersion::Whole) | (None, _) => Unavailable::NotReady,
        }
    }

    /// For a version that nobody has, nobody who might serve another is of use.
    fn nobody(&self, reason: Unavailable) -> Lookup {
        let others = self.whole.roles.keys().filter_map(|id| self.out(id, OutReason::NoSuchVersion));
        Lookup {
            refused: Some(reason),
            candidates: Vec::new(),
            out: self.whole.out.iter().cloned().chain(others).collect(),
            alarms: self.whole.alarms.clone(),
        }
    }

    fn out(&self, id: &MemberId, reason: OutReason) -> Option<Out> {
        Some(Out { address: self.seats.get(id)?.address.clone(), id: Some(id.clone()), reason })
    }
}

impl Search {
    fn refused(&mut self) {
        match (&self.stage, self.tried.last()) {
            (Stage::Open | Stage::Refused { .. }, Some(by)) => self.stage = Stage::Refused { by: by.clone() },
            (Stage::Open | Stage::Refused { .. } | Stage::LastResort { .. }, _) => {}
        }
    }

    fn next(&mut self, order: Vec<&MemberId>) -> Option<Choice> {
        match self.stage {
            Stage::Open | Stage::Refused { .. } => {}
            Stage::LastResort { .. } => return None,
        }
        let id = order.into_iter().find(|id| !self.tried.contains(id))?.clone();
        self.tried.push(id.clone());
        Some(Choice { id, attempt: Attempt::Ordinary })
    }

    /// Nobody is left to ask: the last cordoned host must admit, or whoever refused last.
    fn insist(&mut self, last: Option<&MemberId>, failure: Failure) -> Option<Choice> {
        let (id, then) = match (&self.stage, last) {
            (Stage::Refused { by }, Some(last)) => (last.clone(), Some(by.clone()).filter(|by| by != last)),
            // It may drain without its word having come yet.
            (Stage::Refused { by }, None) => (by.clone(), None),
            // Nobody is there, and one that is cordoned still admits.
            (Stage::Open, Some(last)) if !self.tried.contains(last) => (last.clone(), None),
            (Stage::LastResort { then: Some(by) }, _) if failure == Failure::NotSent => (by.clone(), None),
            (Stage::Open | Stage::LastResort { .. }, _) => return None,
        };
        self.stage = Stage::LastResort { then };
        self.tried.push(id.clone());
        Some(Choice { id, attempt: Attempt::LastResort })
    }
}

impl Failed {
    const fn decide(self, attempts_left: u32) -> Decision {
        decide(self.failure, self.is_idempotent, self.body, attempts_left)
    }

    /// What a client is told when nobody is left.
    const fn refusal(self) -> Refusal {
        match self.decide(0) {
            Decision::GiveUp(refusal) => refusal,
            Decision::RetryElsewhere => Refusal::NotServing,
        }
    }
}
