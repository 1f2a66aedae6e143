//! The policies, versions, and what `/v1/lookup` would say.

use std::collections::BTreeMap;

use router_core::choose::{Ask, Spread, Unavailable};
use router_core::members::{Answer, MemberId};
use router_core::pool::{Policy, PoolSettings};
use router_core::retry::Failure::{NoResponse, NotAdmitted, NotSent};

use crate::support::{Host, World, each, id, policy};

fn plain(settings: PoolSettings, weights: &[u16]) -> World {
    let mut world = World::with(settings);
    let names = ["a", "b", "c", "d"];
    let listed = (1..)
        .zip(names)
        .zip(weights)
        .map(|((at, name), weight)| format!(r#"{{"id":"{name}","address":"10.0.0.{at}:8080","weight":{weight}}}"#));
    let json = format!("[{}]", listed.collect::<Vec<_>>().join(","));
    world.pool.list(router_core::members::Listing::Written(serde_json::from_str(&json).unwrap()), world.now);
    for at in 1..=weights.len() {
        world.hears(at, Answer::Connected);
    }
    world
}

fn ask<'a>(turn: u64, inflight: &'a dyn Fn(&MemberId) -> u64) -> Ask<'a> {
    Ask { key: b"x", version: None, spread: Spread { turn, inflight } }
}

fn shares(world: &World, turns: u64) -> BTreeMap<String, u64> {
    let view = world.pool.view();
    let mut shares = BTreeMap::new();
    for turn in 0..turns {
        let (choice, _) = view.choose(&ask(turn, &|_| 0), &world.refusals).unwrap();
        *shares.entry(choice.id.to_string()).or_default() += 1;
    }
    shares
}

#[test]
fn round_robin_takes_turns_by_weight() {
    let equal = plain(policy(Policy::RoundRobin), &[5, 5, 5]);
    let view = equal.pool.view();
    let chosen = |turn| view.choose(&ask(turn, &|_| 0), &equal.refusals).unwrap().0.id.to_string();
    assert_eq!((0..4).map(chosen).collect::<Vec<_>>(), ["a", "b", "c", "a"]);
    let order = view.lookup(&ask(1, &|_| 0), &equal.refusals).candidates;
    assert_eq!(order.iter().map(|candidate| candidate.id.as_str()).collect::<Vec<_>>(), ["b", "c", "a"]);
    let unequal = shares(&plain(policy(Policy::RoundRobin), &[1, 2, 0, 7]), 1_000);
    for (name, share) in [("a", 100), ("b", 200), ("d", 700)] {
        assert!(unequal[name].abs_diff(share) <= 2, "{unequal:?}");
    }
    assert_eq!(unequal.get("c"), None);
}

#[test]
fn least_inflight_goes_by_what_is_in_flight_for_a_weight() {
    let world = plain(policy(Policy::LeastInflight), &[1, 1, 4]);
    let view = world.pool.view();
    let chosen = |loads: [u64; 3]| {
        let load = |id: &MemberId| loads[usize::from(id.as_str().as_bytes()[0] - b'a')];
        view.choose(&ask(0, &load), &world.refusals).unwrap().0.id.to_string()
    };
    assert_eq!(chosen([1, 1, 6]), "c");
    assert_eq!(chosen([1, 1, 8]), "a");
    assert_eq!(chosen([2, 1, 8]), "b");
    // Of idle ones each has its turn.
    assert_eq!(shares(&plain(policy(Policy::LeastInflight), &[1, 1]), 10), [("a".into(), 5), ("b".into(), 5)].into());
}

#[test]
fn f48_sticky_shares_follow_the_weights_of_the_listing() {
    let mut world = plain(PoolSettings::default(), &[1, 3]);
    let share = |world: &World| world.all().iter().filter(|id| *id == "b").count();
    assert!((200..250).contains(&share(&world)), "{}", share(&world));
    let before = world.all();
    let listed = serde_json::from_str(
        r#"[{"id":"a","address":"10.0.0.1:8080"},{"id":"b","address":"10.0.0.2:8080","weight":30}]"#,
    );
    world.pool.list(router_core::members::Listing::Written(listed.unwrap()), world.now);
    assert!(before.iter().zip(world.all()).all(|(old, new)| *old == new || new == "b"));
    assert!(share(&world) > 280);
}

#[test]
fn a_version_that_nobody_has_is_refused_and_never_guessed() {
    let mut world = World::with(each());
    assert_eq!(world.begin("v1", "x").unwrap_err(), Unavailable::NoMember);
    world.list(&["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(world.begin("v1", "x").unwrap_err(), Unavailable::NoMember);
    world.says(1, &Host::new("a"));
    assert_eq!(world.begin("v9", "x").unwrap_err(), Unavailable::UnknownVersion);
    let lookup = world.lookup(Some("v9"), "x");
    assert_eq!(lookup.refused, Some(Unavailable::UnknownVersion));
    let out: Vec<&str> = lookup.out.iter().map(|out| out.reason.code()).collect();
    assert_eq!(out, ["unknown", "no_such_version"]);
    world.says(1, &Host::new("a").slots(&[("v1", false)]));
    assert_eq!(world.begin("v1", "x").unwrap_err(), Unavailable::VersionNotReady);
    // Without a version in the path any host that is ready will do.
    world.says(2, &Host::new("b").slots(&[("v2", true)]));
    assert_eq!(world.lookup(None, "x").candidates[0].id, id("b"));
    // A plain member serves whatever it is asked for: it names no versions.
    world.list(&["10.0.0.1:8080", "10.0.0.2:8080", "p=10.0.0.3:8080"]);
    world.hears(3, Answer::Connected);
    assert_eq!([world.begin("v9", "x").unwrap().0, world.begin("v1", "x").unwrap().0], ["p", "p"]);
    let mut local = World::with(crate::support::local());
    local.list(&["p=10.0.0.1:8080", "q=10.0.0.2:8080"]);
    for at in [1, 2] {
        local.hears(at, Answer::Connected);
    }
    assert_eq!(local.begin("v9", "x").unwrap_err(), Unavailable::UnknownVersion);
}

#[test]
fn f52_f63_the_next_choice_is_the_next_of_the_order_and_nothing_is_sent_twice_that_may_have_run() {
    let mut world = World::of(&["a", "b", "c"].map(Host::new));
    let order: Vec<String> =
        world.lookup(Some("v1"), "x").candidates.iter().map(|candidate| candidate.id.to_string()).collect();
    let (first, mut search) = world.begin("v1", "x").unwrap();
    let next = [world.fails(&mut search, NotAdmitted), world.fails(&mut search, NotSent)];
    assert_eq!([vec![first], next.to_vec()].concat(), order);
    // Somebody has said that it drains: the last who did is asked once more, and must admit.
    assert_eq!(world.fails(&mut search, NotSent), format!("{}!", order[0]));
    assert_eq!(world.fails(&mut search, NotAdmitted), "child_draining");
    let (_, mut search) = world.begin("v1", "x").unwrap();
    assert_eq!(world.fails(&mut search, NoResponse), "child_broke");
    // Nobody is remembered as refusing who does not drain session by session.
    assert!(world.refusals.is_empty());
}

#[test]
fn a_next_choice_goes_by_what_has_become_known_meanwhile() {
    let mut world = World::of(&["a", "b", "c"].map(Host::new));
    let order: Vec<String> =
        world.lookup(Some("v1"), "x").candidates.iter().map(|candidate| candidate.id.to_string()).collect();
    let (_, mut search) = world.begin("v1", "x").unwrap();
    let second = ["a", "b", "c"].iter().position(|name| *name == order[1]).unwrap();
    world.says(second + 1, &Host::new(&order[1]).slots(&[("v1", false)]));
    assert_eq!(world.fails(&mut search, NotSent), order[2]);
}

#[test]
fn every_host_is_either_a_candidate_or_left_out_with_a_reason() {
    let mut world = World::of(&["a", "b", "c", "d"].map(Host::new));
    world.list(&["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080", "10.0.0.4:8080", "x=10.0.0.5:8080"]);
    world.dies(1);
    world.says(2, &Host::new("b").cordoned(supervisor_protocol::contract::DrainMode::All));
    world.says(5, &Host::new("y"));
    assert_eq!(world.roles(), ["c ready", "d ready"]);
    let mut out = world.out();
    out.sort();
    assert_eq!(out, ["a silent", "b cordoned", "y identity_mismatch"]);
}

#[test]
fn f63_a_refusal_is_believed_with_the_nonce_of_that_host_alone() {
    let mut world = World::of(&[Host::new("a")]);
    world.list(&["10.0.0.1:8080", "p=10.0.0.2:8080"]);
    world.hears(2, Answer::Connected);
    let view = world.pool.view();
    let believed = |name: &str, value: &str| view.seat(&id(name)).unwrap().believes(&value.parse().unwrap());
    assert!(believed("a", "draining; nonce=b1"));
    assert!(!believed("a", "draining; nonce=b2") && !believed("p", "draining; nonce=b1"));
}
