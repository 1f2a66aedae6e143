use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use supervisor_protocol::Tick;

use super::*;

const WINDOW: Duration = Duration::from_secs(7);

/// `name@second` of each that is silent.
fn silent(of: &str) -> BTreeMap<String, Tick> {
    let each = of.split_whitespace().map(|text| text.split_once('@').unwrap());
    each.map(|(name, second)| (name.to_owned(), Tick(second.parse::<u64>().unwrap() * 1_000))).collect()
}

fn check(ready: usize, of: &str, rule: Rule, expected: Option<(Cause, &str)>) {
    let found = kept(ready, &silent(of), WINDOW, rule);
    let found = found.map(|kept| (kept.cause, kept.members.into_iter().collect::<Vec<_>>().join(" ")));
    assert_eq!(found, expected.map(|(cause, members)| (cause, members.to_owned())), "{ready} ready, {of} silent");
}

#[test]
fn f60_silence_is_not_believed_of_the_last_one_nor_of_more_than_half_at_once() {
    use Cause::{LastReady, MoreThanHalf};
    for (ready, of, expected) in [
        (0, "", None),
        (3, "", None),
        (1, "a@0", None),
        (2, "a@0 b@1", None),
        (1, "a@0 b@1", Some((MoreThanHalf, "a b"))),
        (1, "a@0 b@8", None),
        (0, "a@0", Some((LastReady, "a"))),
        // One by one: the last one alone.
        (0, "a@0 b@60 c@120", Some((LastReady, "c"))),
        // What was kept stays kept when the last one goes too.
        (0, "a@0 b@0 c@60", Some((LastReady, "a b c"))),
        (1, "a@0 b@0 c@60", None),
        (1, "a@0 b@7 c@14", Some((MoreThanHalf, "b c"))),
    ] {
        check(ready, of, Rule::Pool, expected);
    }
    check(1, "a@0 b@1", Rule::Version, None);
    check(0, "a@0 b@1 c@60", Rule::Version, Some((LastReady, "c")));
}

proptest! {
    #[test]
    fn f60_where_somebody_was_ready_somebody_is_tried(
        ready in 0..4_usize,
        silent in prop::collection::btree_map(0..8_u8, (0..60_u64).prop_map(|second| Tick(second * 1_000)), 0..8),
        rule in prop_oneof![Just(Rule::Pool), Just(Rule::Version)],
    ) {
        let found = kept(ready, &silent, WINDOW, rule);
        let members = found.iter().flat_map(|kept| &kept.members).count();
        prop_assert!(ready + members > 0 || silent.is_empty());
        prop_assert!(found.iter().flat_map(|kept| &kept.members).all(|id| silent.contains_key(id)));
    }
}
