//! Following a host's word, the router's own drains, and what is remembered of refusals.

use router_core::drain::NotDrained;
use router_core::members::{Answer, Silence};
use router_core::pool::PoolSettings;
use router_core::retry::Failure::{NotAdmitted, NotSent};
use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::host::HostState;

use crate::support::{Host, KEYS, World, id, local};

fn three() -> World {
    World::of(&["a", "b", "c"].map(Host::new))
}

fn cordoned(id: &str) -> Host {
    Host::new(id).cordoned(DrainMode::All)
}

fn sessions(id: &str) -> Host {
    Host::new(id).cordoned(DrainMode::Sessions)
}

/// A key of `v1` whose order of choices begins so.
fn key_of(world: &World, order: &str) -> String {
    let ids = |key: &u32| {
        let candidates = world.lookup(Some("v1"), &key.to_string()).candidates;
        candidates.iter().map(|candidate| candidate.id.as_str()).collect::<String>()
    };
    (0..KEYS).find(|key| ids(key).starts_with(order)).unwrap().to_string()
}

#[test]
fn f62_a_cordoned_host_is_left_for_each_keys_next_choice_and_comes_back() {
    let mut world = three();
    let before = world.all();
    let nexts: Vec<String> = (0..KEYS)
        .map(|key| {
            let order = world.lookup(Some("v1"), &key.to_string()).candidates;
            order.into_iter().map(|candidate| candidate.id.to_string()).find(|id| id != "a").unwrap()
        })
        .collect();
    world.says(1, &cordoned("a"));
    assert_eq!((world.all(), world.out()), (nexts, vec!["a cordoned".to_owned()]));
    world.says(1, &cordoned("a").state(HostState::Serving));
    assert_eq!(world.all(), before);
}

#[test]
fn f51_f62_of_hosts_that_are_all_cordoned_the_last_one_is_used_and_an_alarm_raised() {
    let mut world = three();
    for (at, name) in [(2, "b"), (3, "c"), (1, "a")] {
        assert_eq!(world.alarms(), Vec::<&str>::new());
        world.says(at, &cordoned(name));
    }
    assert_eq!((world.chosen(), world.alarms()), (vec!["a".to_owned()], vec!["all_cordoned"]));
    // The order in which they answer afterwards changes nothing.
    world.says(2, &cordoned("b"));
    assert_eq!(world.chosen(), ["a"]);
    let (first, mut search) = world.begin("v1", "x").unwrap();
    let next = [world.fails(&mut search, NotSent), world.fails(&mut search, NotSent)];
    assert_eq!((first.as_str(), next), ("a", ["c".to_owned(), "b".to_owned()]));
    world.says(3, &cordoned("c").state(HostState::Serving));
    assert_eq!((world.chosen(), world.alarms()), (vec!["c".to_owned()], vec![]));
}

#[test]
fn f51_the_only_host_is_used_while_it_is_cordoned_and_while_it_announces() {
    let mut world = World::of(&[Host::new("a")]);
    world.says(1, &cordoned("a"));
    assert_eq!((world.chosen(), world.alarms()), (vec!["a".to_owned()], vec!["all_cordoned"]));
    world.says(1, &cordoned("a").state(HostState::Announcing));
    assert_eq!((world.chosen(), world.alarms()), (vec!["a".to_owned()], vec!["all_leaving"]));
    world.says(1, &cordoned("a").state(HostState::Announcing).state(HostState::Draining));
    assert_eq!((world.chosen(), world.out()), (vec!["version_not_ready".to_owned()], vec!["a draining".to_owned()]));
}

#[test]
fn f62_where_the_ready_ones_fall_silent_cordoned_ones_are_next() {
    let mut world = three();
    world.says(1, &cordoned("a"));
    world.says(2, &cordoned("b"));
    world.dies(3);
    let (first, mut search) = world.begin("v1", "x").unwrap();
    assert_eq!((first.as_str(), world.alarms()), ("c", vec!["panic"]));
    assert_eq!([world.fails(&mut search, NotSent), world.fails(&mut search, NotSent)], ["b", "a"]);
}

#[test]
fn f63_session_by_session_what_is_not_held_goes_to_the_next_choice_and_stays_there() {
    let mut world = three();
    let before = world.all();
    let (held, moved) = (key_of(&world, "ab"), key_of(&world, "ac"));
    world.says(1, &sessions("a"));
    assert_eq!((world.all(), world.out()), (before.clone(), vec![]));
    let (_, mut search) = world.begin("v1", &moved).unwrap();
    assert_eq!(world.fails(&mut search, NotAdmitted), "c");
    // Remembered for this key, and for no other.
    assert_eq!(world.begin("v1", &moved).unwrap().0, "c");
    assert_eq!(world.begin("v1", &held).unwrap().0, "a");
    let out = world.lookup(Some("v1"), &moved).out;
    assert_eq!((out.len(), out[0].reason.code()), (1, "not_held"));
    // As long as the drain lasts: another answer of the same is no other drain.
    world.says(1, &sessions("a"));
    assert_eq!(world.begin("v1", &moved).unwrap().0, "c");
    world.says(1, &sessions("a").state(HostState::Serving));
    assert!(world.refusals.is_empty());
    assert_eq!(world.all(), before);
}

#[test]
fn f63_when_everybody_has_refused_the_last_cordoned_host_must_admit() {
    let mut world = three();
    for (at, name) in [(1, "a"), (3, "c"), (2, "b")] {
        world.says(at, &sessions(name));
    }
    assert_eq!(world.alarms(), ["all_cordoned"]);
    let key = key_of(&world, "abc");
    let (first, mut search) = world.begin("v1", &key).unwrap();
    let next: Vec<String> = (0..4).map(|_| world.fails(&mut search, NotAdmitted)).collect();
    assert_eq!((first.as_str(), next.join(" ")), ("a", "b c b! child_draining".to_owned()));
    // The next request of this key need not ask again.
    assert_eq!(world.begin("v1", &key).unwrap().0, "b!");
    let (_, mut search) = world.begin("v1", &key).unwrap();
    assert_eq!(world.fails(&mut search, NotSent), "child_unreachable");
}

#[test]
fn f62_f63_where_the_ready_ones_are_not_there_a_cordoned_one_still_admits() {
    let mut world = three();
    world.says(1, &cordoned("a"));
    let (_, mut search) = world.begin("v1", "x").unwrap();
    let next: Vec<String> = (0..3).map(|_| world.fails(&mut search, NotSent)).collect();
    assert_eq!(next[1..], ["a!", "child_unreachable"]);
}

#[test]
fn f63_a_refusal_is_insisted_on_also_without_budget_but_not_with_a_body_that_is_gone() {
    use router_core::choose::{Failed, Next};
    use router_core::retry::BodyState;

    let mut world = three();
    world.says(1, &cordoned("a"));
    for (body, expected) in [(BodyState::Unread, true), (BodyState::Streaming, false)] {
        let (_, mut search) = world.begin("v1", "x").unwrap();
        let failed = Failed { failure: NotAdmitted, is_idempotent: true, body, attempts_left: 0 };
        let next = world.pool.view().failed(&mut search, failed, crate::support::IDLE, &mut world.refusals);
        assert_eq!(matches!(next, Next::Try(choice) if choice.id == id("a")), expected);
    }
}

#[test]
fn f62_a_router_drains_by_itself_only_who_cannot_speak() {
    let mut world = three();
    assert_eq!(world.pool.drain(&id("a"), world.now), Err(NotDrained::HasAWord(id("a"))));
    assert_eq!(world.pool.drain(&id("x"), world.now), Err(NotDrained::NoMember(id("x"))));
    for at in 1..=3 {
        world.dies(at);
    }
    world.pool.drain(&id("a"), world.now).unwrap();
    assert_eq!((world.chosen(), world.roles()[0].as_str()), (vec!["b".to_owned(), "c".to_owned()], "a drained_here"));
    // It speaks again: its own word is followed.
    world.says(1, &Host::new("a"));
    assert!(world.pool.own_drains().holds(&id("a")));
    world.says(1, &Host::new("a"));
    assert!(!world.pool.own_drains().holds(&id("a")));
    assert!(world.chosen().contains(&"a".to_owned()));
}

#[test]
fn f50_f51_drains_of_plain_members_outlive_a_reload_and_never_leave_nobody() {
    let mut world = World::with(PoolSettings::default());
    let names = ["a=10.0.0.1:8080", "b=10.0.0.2:8080"];
    world.list(&names);
    for at in [1, 2] {
        world.hears(at, Answer::Connected);
    }
    world.pool.drain(&id("a"), world.now).unwrap();
    world.list(&names);
    world.hears(1, Answer::Connected);
    assert_eq!(world.chosen(), ["b"]);
    let json = serde_json::to_string(&world.pool.remembered()).unwrap();
    let mut next = World::with(PoolSettings::default());
    next.list(&names);
    next.pool.recall(serde_json::from_str(&json).unwrap(), next.now);
    for at in [1, 2] {
        next.hears(at, Answer::Connected);
    }
    assert_eq!(next.chosen(), ["b"]);
    next.pool.drain(&id("b"), next.now).unwrap();
    assert_eq!((next.chosen(), next.alarms()), (vec!["b".to_owned()], vec!["all_cordoned"]));
    assert!(next.pool.undrain(&id("a"), next.now) && !next.pool.undrain(&id("a"), next.now));
    assert_eq!((next.chosen(), next.alarms()), (vec!["a".to_owned()], vec![]));
}

#[test]
fn of_local_state_one_host_is_chosen_per_version_and_a_second_refused() {
    let mut world = World::with(local());
    world.list(&["10.0.0.1:8080", "10.0.0.2:8080"]);
    world.says(2, &Host::new("b"));
    world.says(1, &Host::new("a").slots(&[("v1", true), ("v2", true)]));
    assert_eq!((world.chosen(), world.out()), (vec!["b".to_owned()], vec!["a second_local".to_owned()]));
    assert_eq!(world.alarms(), ["second_local"]);
    assert_eq!(world.begin("v2", "x").unwrap().0, "a");
    // Silence, and a cordon, are no proof that it does not write any more.
    world.silent(2, Silence::Refused);
    assert_eq!((world.chosen(), world.alarms()), (vec!["b".to_owned()], vec!["second_local", "panic"]));
    for _ in 0..2 {
        world.says(2, &cordoned("b"));
    }
    assert_eq!(world.chosen(), ["b"]);
    // Its own word is.
    world.says(2, &cordoned("b").slots(&[("v1", false)]));
    assert_eq!((world.chosen(), world.out()), (vec!["a".to_owned()], vec!["b second_local".to_owned()]));
}
