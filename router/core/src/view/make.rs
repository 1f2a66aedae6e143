//! Making a view: everybody is sorted by how they stand, then silence is judged, then it is seen who is left.

use std::collections::{BTreeMap, BTreeSet};

use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::{Tick, VersionName};

use super::{Alarm, AnyVersion, Out, OutReason, Role, ScopeView, Seat, View};
use crate::drain::{OwnDrains, latest_first};
use crate::members::{Address, Kept, Last, Member, MemberId, Members, Rule, Standing, kept};
use crate::placement::{Placement, Weight};
use crate::pool::{Holders, Policy, PoolSettings, PoolState, Versions, scope, scopes};

pub(super) fn view(settings: &PoolSettings, members: &Members, own: &OwnDrains, holders: &Holders) -> View {
    let maker = Maker { settings, members, own, holders };
    let whole = maker.sort(None, |_| true);
    let panic = whole.panic(settings, Rule::Pool);
    let versions = scopes(settings, members).into_iter().flatten().map(|version| {
        let sorted = maker.sort(Some(&version), |_| true);
        let last = sorted.panic(settings, Rule::Version);
        let pool = panic.as_ref().and_then(|panic| sorted.of(panic));
        (version, maker.finish(sorted, merged(pool, last)))
    });
    let versions: BTreeMap<VersionName, ScopeView> = versions.collect();
    let any_version = match (&settings.versions, settings.state) {
        (Versions::Together, _) => AnyVersion::Whole,
        // Of several that name no version nobody knows which one holds it.
        (Versions::Each { .. }, PoolState::Local) => AnyVersion::Nobody,
        (Versions::Each { .. }, PoolState::Shared) => {
            let sorted = maker.sort(None, |member| member.id().is_some() && !member.has_versions());
            let panic = sorted.panic(settings, Rule::Pool);
            let plain = maker.finish(sorted, panic);
            if plain.is_usable() { AnyVersion::Plain(plain) } else { AnyVersion::Nobody }
        }
    };
    let seats = members.iter().filter_map(|(address, member)| {
        let seat = Seat { address: address.clone(), weight: member.listed.weight, boot: member.boot().cloned() };
        Some((member.id()?.clone(), seat))
    });
    let seats = seats.collect();
    View {
        policy: settings.policy,
        whole: maker.finish(whole, panic),
        versions,
        any_version,
        seats,
        #[cfg(feature = "faults")]
        sabotage: settings.sabotage,
    }
}

struct Maker<'a> {
    settings: &'a PoolSettings,
    members: &'a Members,
    own: &'a OwnDrains,
    holders: &'a Holders,
}

/// Everybody, by how they stand towards one scope.
#[derive(Default)]
struct Sorted {
    /// In the running.
    placed: BTreeMap<MemberId, (Role, Weight)>,
    /// Ready when they were heard last.
    silent: BTreeMap<MemberId, Silent>,
    /// In either mode.
    cordoned: Vec<(Tick, MemberId)>,
    announcing: Vec<(Tick, MemberId)>,
    /// The role that each would have if nobody were ready.
    spare: BTreeMap<MemberId, Role>,
    out: Vec<Out>,
    alarms: Vec<Alarm>,
}

struct Silent {
    since: Tick,
    weight: Weight,
    address: Address,
}

impl Maker<'_> {
    fn sort(&self, version: Option<&VersionName>, of: impl Fn(&Member) -> bool) -> Sorted {
        let mut sorted = Sorted::default();
        for (address, member) in self.members.iter().filter(|(_, member)| of(member)) {
            let standing = member.standing(scope(self.settings, version));
            match member.id() {
                None => sorted.stranger(address, member, standing),
                Some(id) => match self.first(version, id) {
                    Some(first) => sorted.second(address, id, first, standing),
                    None if self.own.holds(id) => sorted.drained_here(address, id, standing),
                    None => sorted.member(self.settings.policy, address, (id, member.listed.weight), standing),
                },
            }
        }
        sorted
    }

    /// Who holds what a member may therefore not serve.
    fn first(&self, version: Option<&VersionName>, id: &MemberId) -> Option<&MemberId> {
        match self.settings.state {
            PoolState::Shared => None,
            PoolState::Local => self.holders.get(&version.cloned()).filter(|first| *first != id),
        }
    }

    fn finish(&self, sorted: Sorted, panic: Option<Kept<MemberId>>) -> ScopeView {
        let Sorted { mut placed, silent, cordoned, announcing, spare, mut out, mut alarms } = sorted;
        let has_ready = placed.values().any(|(role, _)| *role == Role::Ready);
        for (id, Silent { weight, address, .. }) in silent {
            match panic.as_ref().filter(|panic| panic.members.contains(&id)) {
                Some(panic) => {
                    placed.insert(id, (Role::Kept(panic.cause), weight));
                }
                None => out.push(Out { address, id: Some(id), reason: OutReason::Silent }),
            }
        }
        let last_cordoned = latest_first(cordoned);
        let mut fallback = Vec::new();
        if !has_ready {
            let here = self.own.latest_first().into_iter().cloned();
            let spares = last_cordoned.iter().cloned().chain(latest_first(announcing)).chain(here);
            fallback.extend(spares.filter(|id| spare.contains_key(id)));
            out.retain(|out| !out.id.as_ref().is_some_and(|id| fallback.contains(id)));
        }
        let last_resort = last_cordoned.into_iter().next();
        let is_kept = panic.is_some();
        alarms.extend(panic.map(Alarm::Panic));
        if !has_ready && !is_kept {
            let used = if placed.is_empty() { fallback.first() } else { last_resort.as_ref() };
            alarms.extend(used.map(|used| match spare.get(used) {
                Some(Role::Announcing(_)) => Alarm::AllLeaving { used: used.clone() },
                Some(Role::Ready | Role::Kept(_) | Role::Sessions(_) | Role::Cordoned(_) | Role::DrainedHere)
                | None => Alarm::AllCordoned { used: used.clone() },
            }));
        }
        let weights = placed.iter().map(|(id, (_, weight))| (id.clone(), *weight)).collect();
        let mut roles: BTreeMap<MemberId, Role> = placed.into_iter().map(|(id, (role, _))| (id, role)).collect();
        roles.extend(fallback.iter().filter_map(|id| Some((id.clone(), *spare.get(id)?))));
        ScopeView { placed: Placement::new(weights), roles, fallback, last_resort, out, alarms }
    }
}

impl Sorted {
    /// One that is not let in, or has never said who it is.
    fn stranger(&mut self, address: &Address, member: &Member, standing: Standing) {
        let Some((called, conflict)) = member.conflict() else {
            let reason = match standing {
                Standing::Silent { .. } => OutReason::Silent,
                Standing::Unknown
                | Standing::Ready
                | Standing::Unready
                | Standing::Absent
                | Standing::Starting
                | Standing::Cordoned(_)
                | Standing::Announcing(_)
                | Standing::Draining(_)
                | Standing::Ending => OutReason::Unknown,
            };
            self.leave_out(address, None, reason);
            return;
        };
        self.leave_out(address, Some(called), OutReason::Identity(conflict.clone()));
        self.alarms.push(Alarm::Identity {
            address: address.clone(),
            called: called.clone(),
            conflict: conflict.clone(),
        });
    }

    fn second(&mut self, address: &Address, id: &MemberId, first: &MemberId, standing: Standing) {
        self.leave_out(address, Some(id), OutReason::SecondLocal { first: first.clone() });
        if standing == Standing::Ready {
            self.alarms.push(Alarm::SecondLocal { first: first.clone(), refused: id.clone() });
        }
    }

    fn drained_here(&mut self, address: &Address, id: &MemberId, standing: Standing) {
        if standing.last() == Last::Ready {
            self.spare.insert(id.clone(), Role::DrainedHere);
        }
        self.leave_out(address, Some(id), OutReason::DrainedHere);
    }

    fn member(&mut self, policy: Policy, address: &Address, of: (&MemberId, Weight), standing: Standing) {
        let (id, weight) = of;
        let reason = match standing {
            Standing::Ready => {
                self.placed.insert(id.clone(), (Role::Ready, weight));
                return;
            }
            Standing::Silent { since, last: Last::Ready } => {
                self.silent.insert(id.clone(), Silent { since, weight, address: address.clone() });
                return;
            }
            Standing::Cordoned(drain) => {
                self.cordoned.push((drain.since, id.clone()));
                match (drain.mode, policy) {
                    (DrainMode::Sessions, Policy::Sticky) => {
                        self.placed.insert(id.clone(), (Role::Sessions(drain), weight));
                        return;
                    }
                    // Without keys there is no session to stay with.
                    (DrainMode::Sessions, Policy::LeastInflight | Policy::RoundRobin) | (DrainMode::All, _) => {
                        self.spare.insert(id.clone(), Role::Cordoned(drain));
                        OutReason::Cordoned
                    }
                }
            }
            Standing::Announcing(drain) => {
                self.announcing.push((drain.since, id.clone()));
                self.spare.insert(id.clone(), Role::Announcing(drain));
                OutReason::Announcing
            }
            Standing::Silent { last: Last::Other, .. } => OutReason::Silent,
            Standing::Unknown => OutReason::Unknown,
            Standing::Unready => OutReason::Unready,
            Standing::Absent => OutReason::NoSuchVersion,
            Standing::Starting => OutReason::Starting,
            Standing::Draining(_) => OutReason::Draining,
            Standing::Ending => OutReason::Ending,
        };
        self.leave_out(address, Some(id), reason);
    }

    fn leave_out(&mut self, address: &Address, id: Option<&MemberId>, reason: OutReason) {
        self.out.push(Out { address: address.clone(), id: id.cloned(), reason });
    }

    fn panic(&self, settings: &PoolSettings, rule: Rule) -> Option<Kept<MemberId>> {
        let ready = self.placed.values().filter(|(role, _)| *role == Role::Ready).count();
        let silent = self.silent.iter().map(|(id, silent)| (id.clone(), silent.since)).collect();
        kept(ready, &silent, settings.detection.window, rule)
    }

    /// The part of a panic of the pool that is about this scope.
    fn of(&self, panic: &Kept<MemberId>) -> Option<Kept<MemberId>> {
        let members: BTreeSet<MemberId> =
            panic.members.iter().filter(|id| self.silent.contains_key(*id)).cloned().collect();
        (!members.is_empty()).then_some(Kept { cause: panic.cause, members })
    }
}

fn merged(pool: Option<Kept<MemberId>>, last: Option<Kept<MemberId>>) -> Option<Kept<MemberId>> {
    match (pool, last) {
        (Some(pool), Some(mut last)) => {
            last.members.extend(pool.members);
            Some(Kept { cause: last.cause.min(pool.cause), ..last })
        }
        (pool, last) => pool.or(last),
    }
}
