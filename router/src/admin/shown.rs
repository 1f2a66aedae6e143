//! How pools, hosts and choices are shown.

use std::sync::Arc;

use router_core::members::{Address, Member, Said, Views};
use router_core::pattern::Found;
use router_core::pool::{Policy, Pool};
use router_core::view::{Alarm, Out, View};
use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::router::{
    CandidateStatus, HostDrainSeen, HostStatus, LookupReport, OutStatus, PoolStatus, VersionStatus, Worded,
};
use supervisor_protocol::time::millis;
use supervisor_protocol::{ByClass, SCHEMA, Tick};

use crate::front::Roster;
use crate::keeper::Keeper;
use crate::run::Router;

/// Every pool with its hosts.
pub(super) async fn pools(router: &Router) -> Vec<PoolStatus> {
    let keepers: Vec<Arc<Keeper>> = router.pools.read().values().cloned().collect();
    let mut shown = Vec::new();
    for keeper in keepers {
        if let Some(pool) = keeper.look().await {
            shown.push(one_pool(&keeper, &pool, router.clock.now()));
        }
    }
    shown
}

fn one_pool(keeper: &Keeper, pool: &Pool, now: Tick) -> PoolStatus {
    let (front, roster) = (&keeper.front, keeper.front.roster());
    let hosts = pool.members().iter();
    PoolStatus {
        name: front.name().to_owned(),
        policy: policy(keeper.config.settings.policy).to_owned(),
        known: pool.views() == Views::Known,
        requests: front.requests(),
        hosts: hosts.map(|(address, member)| host(front.name(), address, member, pool, &roster, now)).collect(),
        versions: versions(&roster.view),
        alarms: roster.view.whole().alarms.iter().map(alarm).collect(),
    }
}

fn versions(view: &View) -> Vec<VersionStatus> {
    let hosts = view.versions().map(|(version, scope)| VersionStatus {
        version: version.clone(),
        hosts: scope.roles().keys().map(ToString::to_string).collect(),
    });
    hosts.collect()
}

fn host(pool_name: &str, address: &Address, member: &Member, pool: &Pool, roster: &Roster, now: Tick) -> HostStatus {
    let (whole, id) = (roster.view.whole(), member.id());
    let load = id.and_then(|id| roster.targets.get(id)).map(|target| target.load());
    let role = id.and_then(|id| whole.roles().get(id));
    let out = whole.out.iter().find(|out| out.address == *address);
    let said = match member.health.said() {
        Some(Said::Host(said)) => Some(said),
        Some(Said::Checks(_) | Said::Plain) | None => None,
    };
    let of_router = id.is_some_and(|id| pool.own_drains().holds(id));
    let own = said.and_then(|said| said.phase.drain());
    let drain = match (own, of_router) {
        (Some(drain), _) => {
            Some(HostDrainSeen { mode: drain.mode, since_ms: millis(now.since(drain.since)), of_router })
        }
        (None, true) => Some(HostDrainSeen { mode: DrainMode::All, since_ms: 0, of_router }),
        (None, false) => None,
    };
    HostStatus {
        pool: pool_name.to_owned(),
        id: id.map(ToString::to_string).or_else(|| member.conflict().map(|(id, _)| id.to_string())),
        address: address.to_string(),
        weight: member.listed.weight.0,
        health: member.health.code().to_owned(),
        state: said.map(|said| said.word.state),
        role: role.map(|role| role.code().to_owned()),
        out: out.filter(|_| role.is_none()).map(|out| worded(out.reason.code(), &out.reason)),
        share_percent: share(roster, member),
        drain,
        inflight: load.as_ref().map_or(0, |load| load.inflight),
        by_class: load.as_ref().map_or_else(ByClass::default, |load| load.by_class),
        oldest_ms: load.as_ref().map_or(0, |load| load.oldest_ms),
        forecast_ms: load.as_ref().map_or(0, |load| load.forecast_ms),
        admitted: load.as_ref().map_or(0, |load| load.admitted),
    }
}

/// By weight, among those that may be chosen.
fn share(roster: &Roster, member: &Member) -> f64 {
    let roles = roster.view.whole().roles();
    let weight = |id| roster.view.seat(id).map_or(0, |seat| u32::from(seat.weight.0));
    let all: u32 = roles.keys().map(weight).sum();
    match member.id() {
        Some(id) if all > 0 && roles.contains_key(id) => f64::from(weight(id)) * 100.0 / f64::from(all),
        Some(_) | None => 0.0,
    }
}

/// What would become of a request.
pub(super) fn lookup(router: &Router, path: &str) -> LookupReport {
    let directory = router.directory.read().clone();
    let path_alone = path.split('?').next().unwrap_or_default();
    let nowhere = |code: &str, text: &str| LookupReport {
        schema: SCHEMA,
        path: path.to_owned(),
        pool: None,
        key: None,
        version: None,
        refused: Some(Worded { code: code.to_owned(), text: text.to_owned() }),
        candidates: Vec::new(),
        out: Vec::new(),
        alarms: Vec::new(),
    };
    let routed = match directory.find(path_alone) {
        Found::Reserved => return nowhere("reserved", "the path is the router's own, and never forwarded"),
        Found::Unrouted => return nowhere("not_found", "no route matches this path"),
        Found::Routed(routed) => routed,
    };
    let found = routed.to.lookup(routed.key.as_bytes(), routed.version.as_ref());
    LookupReport {
        schema: SCHEMA,
        path: path.to_owned(),
        pool: Some(routed.to.name().to_owned()),
        key: Some(routed.key.into_owned()),
        version: routed.version,
        refused: found.refused.map(|refused| worded(refused.code(), &refused)),
        candidates: found
            .candidates
            .into_iter()
            .map(|candidate| CandidateStatus {
                id: candidate.id.to_string(),
                address: candidate.seat.address.to_string(),
                role: candidate.role.code().to_owned(),
            })
            .collect(),
        out: found.out.into_iter().map(out).collect(),
        alarms: found.alarms.iter().map(alarm).collect(),
    }
}

fn out(out: Out) -> OutStatus {
    OutStatus {
        id: out.id.map(|id| id.to_string()),
        address: out.address.to_string(),
        reason: worded(out.reason.code(), &out.reason),
    }
}

fn alarm(alarm: &Alarm) -> Worded {
    worded(alarm.code(), alarm)
}

fn worded(code: &str, text: &impl std::fmt::Display) -> Worded {
    Worded { code: code.to_owned(), text: text.to_string() }
}

const fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Sticky => "sticky",
        Policy::LeastInflight => "least-inflight",
        Policy::RoundRobin => "round-robin",
    }
}
