//! What a source of addresses moves, and what it does not.

use router_core::members::{Listed, Listing, Moved};

use crate::support::{Host, World, address};

fn resolved(of: &[usize]) -> Listing {
    let listed = of.iter().map(|at| address(*at).as_str().parse::<Listed>().unwrap());
    Listing::Resolved(listed.collect())
}

#[test]
fn f58_nothing_moves_by_an_empty_answer_an_error_another_order_or_an_address_twice() {
    let mut world = World::of(&["a", "b", "c"].map(Host::new));
    let (before, pool) = (world.all(), world.pool.clone());
    for (listing, moved) in [
        (Listing::Failed, Moved::Failed),
        (resolved(&[]), Moved::Empty),
        (Listing::Written(Vec::new()), Moved::Empty),
        (resolved(&[3, 1, 2]), Moved::Followed),
        (resolved(&[2, 2, 1, 3, 1]), Moved::Followed),
    ] {
        let relisted = world.pool.list(listing, world.now);
        assert_eq!(relisted.moved, moved);
        assert!(relisted.added.is_empty() && relisted.removed.is_empty() && relisted.doubted.is_empty());
        assert_eq!((world.all(), &world.pool), (before.clone(), &pool));
    }
}

#[test]
fn f58_what_dns_leaves_out_is_believed_the_second_time() {
    let mut world = World::of(&["a", "b", "c"].map(Host::new));
    let before = world.all();
    let relisted = world.pool.list(resolved(&[1, 2]), world.now);
    assert_eq!((relisted.doubted.len(), world.all()), (1, before.clone()));
    world.pool.list(Listing::Failed, world.now);
    world.pool.list(resolved(&[1, 2, 3]), world.now);
    world.pool.list(resolved(&[1, 2]), world.now);
    assert_eq!(world.all(), before);
    let relisted = world.pool.list(resolved(&[2, 1]), world.now);
    assert_eq!(relisted.removed.into_iter().collect::<Vec<_>>(), [address(3)]);
    assert_eq!(world.chosen(), ["a", "b"]);
    assert!(before.iter().zip(world.all()).all(|(old, new)| *old == new || old == "c"));
    // A set that is written down means what it says.
    world.list(&["10.0.0.2:8080"]);
    assert_eq!(world.chosen(), ["b"]);
}

#[test]
fn a_member_is_written_as_an_address_with_or_without_a_name() {
    let listed: Listed = "gpu-1=10.0.0.1:8080".parse().unwrap();
    assert_eq!((listed.id.unwrap().as_str(), listed.address.as_str()), ("gpu-1", "10.0.0.1:8080"));
    for good in ["host:1", "[::1]:80", "versiond-pool:8080"] {
        assert!(good.parse::<Listed>().is_ok(), "{good}");
    }
    for bad in ["", "host", "host:0", "host:99999", ":80", "::1:80", "=host:1", "a b=host:1", "a=b=host:1", "h h:1"] {
        assert!(bad.parse::<Listed>().is_err(), "{bad}");
    }
    let file: Vec<Listed> =
        serde_json::from_str(r#"[{"address":"h:1"},{"id":"a","address":"h:2","weight":3}]"#).unwrap();
    assert_eq!((file[0].weight.0, file[1].weight.0), (1, 3));
    assert!(serde_json::from_str::<Listed>(r#"{"address":"h:1","wieght":3}"#).is_err());
}
