use proptest::prelude::*;

use super::*;

type Hosts = BTreeMap<String, Weight>;

fn hosts() -> impl Strategy<Value = Hosts> {
    prop::collection::btree_map("[a-z0-9.:-]{1,12}", prop_oneof![Just(1), 0..5_u16, any::<u16>()], 0..40)
        .prop_map(|hosts| hosts.into_iter().map(|(id, weight)| (id, Weight(weight))).collect())
}

fn keys() -> impl Iterator<Item = KeyHash> {
    (0..200_u32).map(|key| KeyHash::of(&key.to_be_bytes()))
}

fn equal(count: usize) -> Hosts {
    (0..count).map(|host| (format!("host-{host}"), Weight::DEFAULT)).collect()
}

proptest! {
    // P8: replicas that know the same hosts agree; each next choice is the first one without those before it.
    #[test]
    fn f48_the_first_choice_is_the_head_of_the_order_in_any_set(hosts in hosts(), key in any::<Vec<u8>>()) {
        let key = KeyHash::of(&key);
        let placement = Placement::new(hosts.clone());
        let ranked: Vec<String> = placement.ranked(key).into_iter().cloned().collect();
        prop_assert_eq!(ranked.len(), hosts.len());
        let mut left = hosts;
        for id in ranked {
            let replica = Placement::new(left.clone().into_iter().rev().collect());
            prop_assert_eq!(replica.first(key), Some(&id));
            left.remove(&id);
        }
    }

    #[test]
    fn f48_nothing_moves_but_the_keys_of_a_host_that_comes_or_goes(hosts in hosts(), id in "[a-z]{13}", weight in any::<u16>()) {
        let without = Placement::new(hosts.clone());
        let mut more = hosts;
        more.insert(id.clone(), Weight(weight));
        let with = Placement::new(more);
        for key in keys() {
            let (before, after) = (without.first(key), with.first(key));
            prop_assert!(before == after || after == Some(&id));
        }
    }

    #[test]
    fn f48_a_weight_that_grows_takes_keys_and_moves_no_others(
        hosts in hosts(),
        id in "[a-z]{13}",
        less in 0..100_u16,
        more in 100..=u16::MAX,
    ) {
        let with = |weight| {
            let mut hosts = hosts.clone();
            hosts.insert(id.clone(), Weight(weight));
            Placement::new(hosts)
        };
        let (before, after) = (with(less), with(more));
        for key in keys() {
            let (old, new) = (before.first(key), after.first(key));
            prop_assert!(old == new || new == Some(&id));
        }
    }

    #[test]
    fn a_greater_hash_is_never_farther(a in any::<u64>(), b in any::<u64>(), shift in 0..64_u32) {
        let (low, high) = (a.min(b) >> shift, a.max(b) >> shift);
        prop_assert!(score::distance(low) >= score::distance(high));
        prop_assert!(score::distance(high) >= 1);
    }

    #[test]
    fn nobody_is_passed_over_who_would_come_first(
        a in any::<u64>(),
        b in any::<u64>(),
        shifts in (0..64_u32, 0..64_u32),
        weights in (any::<u16>(), any::<u16>()),
    ) {
        // Both ends of the scale as often as its middle.
        for (a, b) in [(a >> shifts.0, b >> shifts.1), (!(a >> shifts.0), !(b >> shifts.1))] {
            let (best, other) = (Score::new(a, Weight(weights.0)), Score::new(b, Weight(weights.1)));
            prop_assert!(!best.rival().is_safe_from(b, Weight(weights.1)) || best < other);
        }
    }

    #[test]
    fn a_weight_of_zero_takes_a_key_only_where_there_is_no_other(hosts in hosts()) {
        let placement = Placement::new(hosts.clone());
        let someone = hosts.values().any(|weight| *weight > Weight(0));
        for key in keys() {
            let first = placement.first(key);
            prop_assert_eq!(first.is_some_and(|id| hosts[id] > Weight(0)), someone);
        }
    }
}

#[test]
fn the_ends_of_the_scale_are_what_they_should_be() {
    assert_eq!(score::distance(0), 64 << 40);
    assert_eq!(score::distance(1), 64 << 40);
    assert_eq!(score::distance(1 << 63), (1 << 40));
    assert_eq!(score::distance(u64::MAX), 1);
    assert!(Placement::<String>::new(BTreeMap::new()).first(KeyHash::of(b"x")).is_none());
    assert_eq!(score::mix(0), 0);
}

const DRAWS: u32 = 10_000;
const SETS: u32 = 30;

/// Each host has a binomial number of keys: so many draws, with its share of the weight as their chance. How
/// far each is off, in its own sigmas, must be what chance makes of it: their mean square over many sets of
/// names is 1 to within three sigmas of its own, and none is beyond five.
fn balanced(weights: &[u16]) {
    let mut squares = Vec::new();
    for set in 0..SETS {
        let hosts: Hosts =
            weights.iter().enumerate().map(|(at, weight)| (format!("{set}-gpu-{at}"), Weight(*weight))).collect();
        let placement = Placement::new(hosts.clone());
        let mut taken: BTreeMap<&String, f64> = BTreeMap::new();
        for draw in 0..DRAWS {
            let key = format!("session-{draw}");
            let first = placement.first(KeyHash::of(key.as_bytes())).unwrap();
            *taken.entry(first).or_default() += 1.0;
        }
        let whole: f64 = hosts.values().map(|weight| f64::from(weight.0)).sum();
        for (id, weight) in &hosts {
            let share = f64::from(weight.0) / whole;
            let sigma = (f64::from(DRAWS) * share * (1.0 - share)).sqrt();
            let off = (taken.get(id).copied().unwrap_or_default() - f64::from(DRAWS) * share) / sigma;
            assert!(off.abs() < 5.0, "{id} of weight {weight} is off by {off:.2} sigma");
            squares.push(off * off);
        }
    }
    let count = f64::from(SETS) * weights.len() as f64;
    // The hosts of one set share their draws: one of them says nothing new.
    let sigma = (2.0 / (f64::from(SETS) * (weights.len() - 1) as f64)).sqrt();
    let mean = squares.iter().sum::<f64>() / count;
    assert!((mean - 1.0).abs() <= 3.0 * sigma, "{weights:?}: {mean:.3}, not 1 to within {:.3}", 3.0 * sigma);
}

#[test]
fn f48_the_balance_over_equal_weights_is_that_of_a_perfect_random_choice() {
    balanced(&[1; 2]);
    balanced(&[1; 3]);
    balanced(&[1; 16]);
}

#[test]
fn f48_the_balance_over_unequal_weights_is_that_of_a_perfect_random_choice() {
    balanced(&[1, 2, 4, 8]);
    balanced(&[1, 1, 1, 97]);
    balanced(&[1_000, 3_000, 60_000]);
}

#[test]
fn a_host_that_is_named_like_a_key_is_nothing_special() {
    let taken = (0..64).filter(|host| {
        let name = format!("host-{host}");
        Placement::new(equal(64)).first(KeyHash::of(name.as_bytes())) == Some(&name)
    });
    assert!(taken.count() < 6);
}
