//! What has changed between two views of a pool: for the log, and for the event stream of the admin API.
//!
//! Must not live here: what a view means (that is `router-core`), and who reads the changes.

use std::collections::{BTreeMap, BTreeSet};

use router_core::members::{Address, MemberId};
use router_core::view::{Alarm, Role, ScopeView, View};
use supervisor_protocol::VersionName;
use supervisor_protocol::router::Worded;
use supervisor_protocol::router::events::{AlarmChange, Change, RoleChange};

/// Members first, then roles and alarms: of the whole pool, and of each version what is its own.
pub(crate) fn changes(pool: &str, before: &View, after: &View) -> Vec<Change> {
    let (had, has) = (addresses(before), addresses(after));
    let added = has.difference(&had).map(|address| (address, true));
    let removed = had.difference(&has).map(|address| (address, false));
    let mut found: Vec<Change> = added
        .chain(removed)
        .map(|(address, is_new)| {
            let (pool, address) = (pool.to_owned(), address.to_string());
            if is_new { Change::MemberAdded { pool, address } } else { Change::MemberRemoved { pool, address } }
        })
        .collect();
    let versions: BTreeSet<&VersionName> = before.versions().chain(after.versions()).map(|(name, _)| name).collect();
    let (of_before, of_after): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (before.versions().collect(), after.versions().collect());
    let scopes = versions.into_iter().map(|name| (Some(name), of_before.get(name), of_after.get(name)));
    for (version, before_it, after_it) in
        std::iter::once((None, Some(&before.whole()), Some(&after.whole()))).chain(scopes)
    {
        let place = Place { pool, version };
        place.roles(before_it.copied(), after_it.copied(), &mut found);
        let own = |scope: Option<&&ScopeView>, whole: &ScopeView| -> Vec<Alarm> {
            let alarms = scope.iter().flat_map(|scope| &scope.alarms);
            alarms.filter(|alarm| version.is_none() || !whole.alarms.contains(alarm)).cloned().collect()
        };
        place.alarms(&own(before_it, before.whole()), &own(after_it, after.whole()), &mut found);
    }
    found
}

/// Every address that belongs to a pool.
fn addresses(view: &View) -> BTreeSet<&Address> {
    let whole = view.whole();
    let chosen = whole.roles().keys().filter_map(|id| Some(&view.seat(id)?.address));
    chosen.chain(whole.out.iter().map(|out| &out.address)).collect()
}

/// Where something changes.
struct Place<'a> {
    pool: &'a str,
    version: Option<&'a VersionName>,
}

impl Place<'_> {
    fn roles(&self, before: Option<&ScopeView>, after: Option<&ScopeView>, found: &mut Vec<Change>) {
        let nobody = BTreeMap::new();
        let roles = |scope: Option<&'_ ScopeView>| scope.map_or_else(|| nobody.clone(), |scope| scope.roles().clone());
        let (had, has): (BTreeMap<MemberId, Role>, BTreeMap<MemberId, Role>) = (roles(before), roles(after));
        let hosts: BTreeSet<&MemberId> = had.keys().chain(has.keys()).collect();
        for host in hosts {
            let (from, to) = (had.get(host).map(|role| role.code()), has.get(host).map(|role| role.code()));
            if from == to {
                continue;
            }
            let out = after.iter().flat_map(|scope| &scope.out).find(|out| out.id.as_ref() == Some(host));
            found.push(Change::Role(RoleChange {
                pool: self.pool.to_owned(),
                host: host.to_string(),
                version: self.version.cloned(),
                from: from.map(str::to_owned),
                to: to.map(str::to_owned),
                reason: out
                    .filter(|_| to.is_none())
                    .map(|out| Worded { code: out.reason.code().to_owned(), text: out.reason.to_string() }),
            }));
        }
    }

    fn alarms(&self, before: &[Alarm], after: &[Alarm], found: &mut Vec<Change>) {
        let changed = |alarm: &Alarm| AlarmChange {
            pool: self.pool.to_owned(),
            version: self.version.cloned(),
            alarm: Worded { code: alarm.code().to_owned(), text: alarm.to_string() },
        };
        let over = before.iter().filter(|alarm| !after.contains(alarm));
        found.extend(over.map(|alarm| Change::AlarmOver(changed(alarm))));
        let raised = after.iter().filter(|alarm| !before.contains(alarm));
        found.extend(raised.map(|alarm| Change::AlarmRaised(changed(alarm))));
    }
}

/// As one line of the log.
pub(crate) fn log(change: &Change) {
    match change {
        Change::MemberAdded { pool, address } => tracing::info!(pool, address, "member added"),
        Change::MemberRemoved { pool, address } => tracing::info!(pool, address, "member removed"),
        Change::Role(RoleChange { pool, host, version, from: _, to: Some(role), reason: _ }) => {
            tracing::info!(pool, host, version = version.as_ref().map(VersionName::as_str), role, "may be chosen");
        }
        Change::Role(RoleChange { pool, host, version, from: _, to: None, reason }) => {
            let why = reason.as_ref().map(|reason| reason.text.as_str());
            tracing::info!(
                pool,
                host,
                version = version.as_ref().map(VersionName::as_str),
                why,
                "is not chosen any more"
            );
        }
        Change::AlarmRaised(AlarmChange { pool, version, alarm }) => {
            let version = version.as_ref().map(VersionName::as_str);
            tracing::warn!(pool, version, alarm = alarm.code, "{}", alarm.text);
        }
        Change::AlarmOver(AlarmChange { pool, version, alarm }) => {
            let version = version.as_ref().map(VersionName::as_str);
            tracing::info!(pool, version, alarm = alarm.code, "over: {}", alarm.text);
        }
        Change::ViewsKnown { pool } => tracing::info!(pool, "every member is known"),
        // Nobody writes it: a reader is told it.
        Change::Missed { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use router_core::members::{Answer, Listing, Silence};
    use router_core::pool::{Pool, PoolSettings};
    use serde_json::json;
    use supervisor_protocol::Tick;

    use super::*;

    /// What a step of a pool changes, as the stream tells it.
    fn told(pool: &mut Pool, step: impl FnOnce(&mut Pool)) -> Vec<serde_json::Value> {
        let before = pool.view();
        step(pool);
        changes("p", &before, &pool.view()).iter().map(|change| json!(change)).collect()
    }

    fn listing(text: &[&str]) -> Listing {
        Listing::Written(text.iter().map(|host| host.parse().unwrap()).collect())
    }

    #[test]
    fn members_come_get_a_role_and_go() {
        let mut pool = Pool::new(PoolSettings::default(), Tick(1));
        let [a, b] = ["10.0.0.1:80", "10.0.0.2:80"].map(|text| Address::new(text).unwrap());
        let listed = told(&mut pool, |pool| drop(pool.list(listing(&["a=10.0.0.1:80", "b=10.0.0.2:80"]), Tick(1))));
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert!(listed.iter().all(|change| change["event"] == "member_added" && change["pool"] == "p"), "{listed:?}");

        let ready = told(&mut pool, |pool| {
            for address in [&a, &b] {
                pool.hear(address, Answer::Connected, Tick(2));
                pool.hear(address, Answer::Connected, Tick(3));
            }
        });
        let role = |host: &str| json!({"event": "role", "pool": "p", "host": host, "to": "ready"});
        assert_eq!(ready, [role("a"), role("b")]);
        assert_eq!(told(&mut pool, |pool| pool.hear(&a, Answer::Connected, Tick(4))), [json!(null); 0]);

        let gone = told(&mut pool, |pool| drop(pool.list(listing(&["b=10.0.0.2:80"]), Tick(9))));
        let leaves = json!({"event": "member_removed", "pool": "p", "address": "10.0.0.1:80"});
        let role = json!({"event": "role", "pool": "p", "host": "a", "from": "ready"});
        assert_eq!(gone, [leaves, role]);
    }

    #[test]
    fn a_role_that_is_lost_has_a_reason_and_an_alarm_is_raised_once_and_over_once() {
        let mut pool = Pool::new(PoolSettings::default(), Tick(1));
        pool.list(listing(&["a=10.0.0.1:80", "b=10.0.0.2:80"]), Tick(1));
        let [a, b] = ["10.0.0.1:80", "10.0.0.2:80"].map(|text| Address::new(text).unwrap());
        for address in [&a, &b] {
            pool.hear(address, Answer::Connected, Tick(2));
            pool.hear(address, Answer::Connected, Tick(3));
        }
        let id = MemberId::new("a").unwrap();
        let lost = told(&mut pool, |pool| pool.drain(&id, Tick(4)).unwrap());
        assert_eq!(lost.len(), 1, "{lost:?}");
        assert_eq!((&lost[0]["from"], &lost[0]["reason"]["code"]), (&json!("ready"), &json!("drained_here")));
        assert_eq!(lost[0]["to"], json!(null));

        let codes = |told: &[serde_json::Value]| -> Vec<(String, String)> {
            let alarms = told.iter().filter(|change| change["alarm"].is_object());
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            alarms.map(|change| (text(&change["event"]), text(&change["alarm"]["code"]))).collect()
        };
        let alone = told(&mut pool, |pool| {
            for at in 5..9 {
                pool.hear(&b, Answer::Silent(Silence::Refused), Tick(at));
            }
        });
        assert_eq!(codes(&alone), [("alarm_raised".to_owned(), "panic".to_owned())], "{alone:?}");
        let over = told(&mut pool, |pool| {
            pool.hear(&b, Answer::Connected, Tick(10));
            pool.hear(&b, Answer::Connected, Tick(11));
        });
        assert_eq!(codes(&over), [("alarm_over".to_owned(), "panic".to_owned())], "{over:?}");
    }
}
