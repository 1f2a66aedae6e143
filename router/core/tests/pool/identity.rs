//! Who a member is, whatever its address, and who of two with one name is in.

use router_core::members::{Answer, Silence};
use router_core::pool::PoolSettings;

use crate::support::{Host, World, address, id};

fn two() -> World {
    let mut world = World::of(&[Host::new("a"), Host::new("b")]);
    world.list(&["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"]);
    world
}

#[test]
fn f48_a_host_that_changes_its_address_keeps_every_key() {
    let mut world = two();
    let before = world.all();
    world.list(&["10.0.0.2:8080", "10.0.0.9:8080"]);
    world.says(9, &Host::booted("a", "b2"));
    assert_eq!(world.all(), before);
    assert_eq!(world.pool.view().seat(&id("a")).unwrap().address, address(9));
}

#[test]
fn f65_a_newcomer_with_the_identity_of_a_live_host_stays_out() {
    let mut world = two();
    let before = world.all();
    world.says(3, &Host::booted("a", "clone"));
    assert_eq!(world.all(), before);
    assert_eq!((world.out(), world.alarms()), (vec!["a identity_taken".to_owned()], vec!["identity"]));
    assert_eq!(world.pool.view().seat(&id("a")).unwrap().address, address(1));
    // A restart of the one that was there first is not a new host, and one lost probe does not make room.
    world.silent(1, Silence::TimedOut);
    world.says(3, &Host::booted("a", "clone"));
    world.says(1, &Host::booted("a", "b2"));
    assert_eq!(world.pool.view().seat(&id("a")).unwrap().address, address(1));
    // Nor does a restart during which nobody listens.
    world.silent(1, Silence::Refused);
    world.says(3, &Host::booted("a", "clone"));
    world.says(1, &Host::booted("a", "b3"));
    world.says(1, &Host::booted("a", "b3"));
    assert_eq!((world.all(), world.pool.view().seat(&id("a")).unwrap().address.clone()), (before, address(1)));
}

#[test]
fn f65_an_identity_is_free_when_its_holder_is_unlisted_or_silent_for_a_window() {
    let mut world = two();
    world.says(3, &Host::booted("a", "clone"));
    world.silent(1, Silence::Refused);
    let (at, _) = world.pool.wake().unwrap();
    assert_eq!(world.pool.view().seat(&id("a")).unwrap().address, address(1));
    world.now = at;
    world.after(0);
    assert_eq!(world.pool.view().seat(&id("a")).unwrap().address, address(3));
    assert_eq!(world.out(), ["a identity_taken"]);
    // Back again, the first one is the newcomer.
    world.says(1, &Host::new("a"));
    world.says(1, &Host::new("a"));
    assert_eq!(world.pool.view().seat(&id("a")).unwrap().address, address(3));
    world.list(&["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(world.pool.view().seat(&id("a")).unwrap().address, address(1));
}

#[test]
fn f65_one_host_at_two_addresses_is_one_host() {
    let mut world = two();
    let before = world.all();
    world.says(3, &Host::new("a"));
    assert_eq!((world.all(), world.out()), (before.clone(), vec!["a same_host".to_owned()]));
    // The other address of the same boot is as good, and at once.
    world.silent(1, Silence::Refused);
    assert_eq!((world.all(), world.pool.view().seat(&id("a")).unwrap().address.clone()), (before, address(3)));
}

#[test]
fn a_host_that_is_not_the_one_expected_stays_out() {
    let mut world = two();
    world.list(&["a=10.0.0.1:8080", "c=10.0.0.2:8080"]);
    assert_eq!((world.chosen(), world.out()), (vec!["a".to_owned()], vec!["b identity_mismatch".to_owned()]));
    world.list(&["a=10.0.0.1:8080", "b=10.0.0.2:8080"]);
    assert_eq!(world.chosen(), ["a", "b"]);
}

#[test]
fn f65_a_plain_member_is_called_by_its_name_and_takes_no_identity_of_a_host() {
    let mut world = World::with(PoolSettings::default());
    world.list(&["gpu-1=10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"]);
    world.hears(1, Answer::Connected);
    world.hears(2, Answer::Connected);
    world.says(3, &Host::new("gpu-1"));
    assert_eq!(world.chosen(), ["10.0.0.2:8080", "gpu-1"]);
    assert_eq!(world.out(), ["gpu-1 identity_taken"]);
    world.list(&["gpu-7=10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"]);
    assert_eq!(world.chosen(), ["10.0.0.2:8080", "gpu-1", "gpu-7"]);
}

#[test]
fn f48_a_host_that_for_once_is_taken_for_a_plain_member_keeps_its_identity_and_its_word() {
    let mut world = two();
    world.says(1, &Host::new("a").slots(&[("v1", false)]));
    let before = world.all();
    world.hears(1, Answer::Connected);
    world.hears(1, Answer::Checks([("v1".parse().unwrap(), true)].into()));
    assert_eq!((world.all(), world.chosen()), (before, vec!["b".to_owned()]));
    // After a silence it may have become another one.
    world.silent(1, Silence::Refused);
    world.hears(1, Answer::Connected);
    world.hears(1, Answer::Connected);
    assert_eq!(world.chosen(), ["10.0.0.1:8080", "b"]);
}

#[test]
fn f65_what_was_known_before_a_restart_of_the_router_still_counts() {
    let mut world = two();
    world.says(3, &Host::booted("c", "b1"));
    let json = serde_json::to_string(&world.pool.remembered()).unwrap();
    let mut next = World::with(crate::support::each());
    next.pool.recall(serde_json::from_str(&json).unwrap(), next.now);
    // The clone is first to answer, and the address of the first is known.
    next.says(2, &Host::booted("a", "clone"));
    assert_eq!(next.chosen(), ["no_member"]);
    next.says(1, &Host::new("a"));
    assert_eq!(next.pool.view().seat(&id("a")).unwrap().address, address(1));
}
