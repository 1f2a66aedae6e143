//! What silence, overload and a host's own word do.

use std::collections::BTreeMap;

use router_core::members::{Answer, Silence, Views};
use supervisor_protocol::VersionName;
use supervisor_protocol::host::HostState;

use crate::support::{Host, World, each};

fn three() -> World {
    World::of(&["a", "b", "c"].map(Host::new))
}

fn versions(of: &[(&str, bool)]) -> Answer {
    let named = of.iter().map(|(name, ready)| (name.parse::<VersionName>().unwrap(), *ready));
    Answer::Checks(named.collect::<BTreeMap<_, _>>())
}

#[test]
fn f60_one_lost_probe_moves_no_session() {
    let mut world = three();
    let before = world.all();
    for lost in [Silence::TimedOut, Silence::Broken] {
        world.silent(1, lost);
        assert_eq!(world.all(), before);
        world.says(1, &Host::new("a"));
    }
    world.silent(1, Silence::TimedOut);
    world.silent(1, Silence::TimedOut);
    assert_eq!(world.chosen(), ["b", "c"]);
    assert_eq!(world.out(), ["a silent"]);
    // Nothing moved but what was a's.
    assert!(before.iter().zip(world.all()).all(|(old, new)| *old == new || old == "a"));
}

#[test]
fn f60_a_refused_connection_is_enough_and_two_successes_bring_a_host_back() {
    let mut world = three();
    let before = world.all();
    world.silent(1, Silence::Refused);
    assert_eq!(world.chosen(), ["b", "c"]);
    world.says(1, &Host::booted("a", "b2"));
    assert_eq!(world.chosen(), ["b", "c"]);
    world.silent(1, Silence::TimedOut);
    world.says(1, &Host::booted("a", "b2"));
    assert_eq!(world.chosen(), ["b", "c"]);
    world.says(1, &Host::booted("a", "b2"));
    assert_eq!(world.all(), before);
}

#[test]
fn f60_what_a_host_says_itself_counts_at_once_even_of_all() {
    let mut world = three();
    let unready = |id: &str| Host::new(id).slots(&[("v1", false)]);
    world.says(1, &unready("a"));
    assert_eq!(world.chosen(), ["b", "c"]);
    world.says(2, &unready("b"));
    world.says(3, &unready("c"));
    assert_eq!(world.chosen(), ["version_not_ready"]);
    assert_eq!(world.alarms(), Vec::<&str>::new());
    world.says(2, &unready("b").slots(&[("v1", true)]));
    assert_eq!(world.chosen(), ["b"]);
}

#[test]
fn f60_silence_of_everybody_leaves_the_last_ready_set() {
    let mut world = three();
    let before = world.all();
    world.dies(1);
    world.dies(2);
    assert_eq!(world.alarms(), ["panic"]);
    world.dies(3);
    assert_eq!(world.all(), before);
    assert_eq!(world.roles(), ["a kept", "b kept", "c kept"]);
    // They answer again one by one, and the panic ends by itself.
    for (at, name) in [(1, "a"), (2, "b"), (3, "c")] {
        world.says(at, &Host::new(name));
        world.says(at, &Host::new(name));
    }
    assert_eq!((world.all(), world.alarms()), (before, vec![]));
}

#[test]
fn f60_more_than_half_at_once_are_kept_and_half_or_one_by_one_are_not() {
    let names = ["a", "b", "c", "d"].map(Host::new);
    let mut world = World::of(&names);
    world.dies(1);
    world.dies(2);
    assert_eq!((world.chosen(), world.alarms()), (vec!["c".to_owned(), "d".to_owned()], vec![]));
    world.dies(3);
    assert_eq!(world.roles(), ["a kept", "b kept", "c kept", "d ready"]);
    let mut slowly = World::of(&names);
    for at in 1..=3 {
        slowly.dies(at);
        slowly.after(60);
    }
    assert_eq!((slowly.chosen(), slowly.alarms()), (vec!["d".to_owned()], vec![]));
    // The last one is kept all the same, and alone: the others are known to be gone.
    slowly.dies(4);
    assert_eq!((slowly.roles(), slowly.alarms()), (vec!["d kept".to_owned()], vec!["panic"]));
}

#[test]
fn f60_the_last_ready_host_of_a_version_is_kept_though_others_are_ready_for_another() {
    let mut world = World::of(&[
        Host::new("a"),
        Host::new("b").slots(&[("v2", true)]),
        Host::new("c").slots(&[("v1", false), ("v2", true)]),
    ]);
    assert_eq!(world.out(), ["b no_such_version", "c unready"]);
    world.dies(1);
    assert_eq!((world.chosen(), world.alarms()), (vec!["a".to_owned()], vec!["panic"]));
    assert!(world.begin("v2", "x").is_ok());
    assert_eq!(world.lookup(Some("v2"), "x").alarms, []);
}

#[test]
fn f61_overload_is_neither_unreadiness_nor_silence() {
    let mut world = three();
    let before = world.all();
    for _ in 0..5 {
        world.silent(1, Silence::TimedOut);
        world.hears(1, Answer::Overloaded);
    }
    assert_eq!(world.all(), before);
}

#[test]
fn a_word_that_comes_late_says_nothing_new() {
    let mut world = three();
    let old = Host::new("a");
    world.says(1, &old.clone().slots(&[("v1", false)]));
    world.says(1, &old);
    assert_eq!(world.chosen(), ["b", "c"]);
    // A new boot begins to count anew.
    world.says(1, &Host::booted("a", "b2"));
    assert_eq!(world.chosen(), ["a", "b", "c"]);
}

#[test]
fn f60_an_older_host_needs_two_to_lose_a_version_and_two_to_have_it_back() {
    let mut world = World::with(each());
    world.list(&["old=10.0.0.1:8080", "10.0.0.2:8080"]);
    world.hears(1, versions(&[("v1", true), ("v2", false)]));
    world.hears(2, versions(&[("v1", true), ("v2", true)]));
    assert_eq!(world.chosen(), ["10.0.0.2:8080", "old"]);
    world.hears(1, versions(&[("v1", false)]));
    assert_eq!(world.chosen(), ["10.0.0.2:8080", "old"]);
    world.hears(1, versions(&[("v1", false)]));
    assert_eq!(world.chosen(), ["10.0.0.2:8080"]);
    world.hears(1, versions(&[("v1", true)]));
    assert_eq!(world.chosen(), ["10.0.0.2:8080"]);
    world.hears(1, versions(&[("v1", true)]));
    assert_eq!(world.chosen(), ["10.0.0.2:8080", "old"]);
    let asked = world.begin("v2", "x").unwrap();
    assert_eq!(asked.0, "10.0.0.2:8080");
}

#[test]
fn f60_a_503_of_every_older_host_ejects_nobody() {
    let mut world = World::with(each());
    world.list(&["10.0.0.1:8080", "10.0.0.2:8080"]);
    for at in [1, 2] {
        world.hears(at, versions(&[("v1", true)]));
    }
    let before = world.all();
    for at in [1, 2, 1, 2, 1, 2] {
        world.hears(at, versions(&[("v1", false)]));
    }
    assert_eq!((world.all(), world.alarms()), (before, vec!["panic"]));
}

#[test]
fn a_router_is_ready_when_all_have_answered_or_a_window_has_passed() {
    let mut world = World::with(each());
    assert!(matches!(world.pool.views(), Views::Gathering { .. }));
    world.list(&["10.0.0.1:8080", "10.0.0.2:8080"]);
    world.says(1, &Host::new("a"));
    assert!(matches!(world.pool.views(), Views::Gathering { .. }));
    let mut all = World::with(each());
    all.list(&["10.0.0.1:8080", "10.0.0.2:8080"]);
    all.says(1, &Host::new("a"));
    all.silent(2, Silence::Refused);
    assert_eq!(all.pool.views(), Views::Known);
    let (at, _) = world.pool.wake().unwrap();
    world.now = at;
    world.after(0);
    assert_eq!((world.pool.views(), world.pool.wake()), (Views::Known, None));
    // One that is added later does not take it back.
    world.list(&["10.0.0.1:8080", "10.0.0.3:8080"]);
    assert_eq!(world.pool.views(), Views::Known);
    assert_eq!(world.out(), ["10.0.0.3:8080 unknown"]);
}

#[test]
fn a_host_that_starts_or_ends_is_left_alone_with_its_reason() {
    let mut world = three();
    for (state, code) in [
        (HostState::Starting, "a starting"),
        (HostState::Announcing, "a announcing"),
        (HostState::Draining, "a draining"),
        (HostState::Stopping, "a ending"),
    ] {
        world.says(1, &Host::booted("a", state.as_str()).state(state));
        assert_eq!((world.out(), world.chosen()), (vec![code.to_owned()], vec!["b".to_owned(), "c".to_owned()]));
    }
}
