//! Releases that are in effect from a height on: staged before, and not taken back after.

use supervisor_protocol::Tick;

use super::*;

/// Two names: one with a release from the beginning and one from 100, one that begins at 200.
fn catalog(revision: u64) -> Catalog {
    let at = |of, height| (height, Release::Artifact(artifact(of)));
    let releases = |list: Vec<_>| Entry::Releases(Releases::new(list.into_iter().collect()).unwrap());
    let versions = BTreeMap::from([
        (version("v1"), releases(vec![at(1, None), at(2, Some(100))])),
        (version("v2"), releases(vec![at(3, Some(200))])),
    ]);
    let services = BTreeMap::from([(service("demo"), versions)]);
    Catalog { revision: Some(revision), services, ..Catalog::default() }
}

/// By name: the byte of the wanted hash (0 = none), its height, the staged ones, what blocks.
type Shown = (String, u8, Option<u64>, Vec<(u64, u8)>, Option<Reason>);

fn shown(tracker: &Tracker) -> Vec<Shown> {
    let slots = tracker.desired().slots.into_iter().map(|(slot, intent)| {
        let of = intent.artifact.map_or(0, |artifact| artifact.sha256.0[0]);
        let staged = intent.staged.iter().map(|staged| (staged.height, staged.artifact.sha256.0[0])).collect();
        (slot.name.to_string(), of, intent.since_height, staged, intent.blocked)
    });
    slots.collect()
}

fn waits(height: Option<u64>, activates_at: u64) -> Option<Reason> {
    Some(Reason::NotYetActive { height, activates_at })
}

#[test]
fn the_greatest_height_that_is_reached_decides_and_the_rest_is_staged() {
    let begun = Tracker::new(Removals::Follow, false).observe(catalog(1), Tick(0)).unwrap();
    let unknown = [
        ("v1".to_owned(), 1, None, vec![(100, 2)], waits(None, 100)),
        ("v2".to_owned(), 0, None, vec![(200, 3)], waits(None, 200)),
    ];
    assert_eq!(shown(&begun), unknown);
    let before = begun.at_height(Some(99));
    assert_eq!(shown(&before)[0], ("v1".to_owned(), 1, None, vec![(100, 2)], waits(Some(99), 100)));
    let reached = before.at_height(Some(100));
    assert_eq!(shown(&reached)[0], ("v1".to_owned(), 2, Some(100), vec![], None));
    assert_eq!(shown(&reached)[1].1, 0);
    let beyond = reached.at_height(Some(5_000));
    assert_eq!(shown(&beyond)[1], ("v2".to_owned(), 3, Some(200), vec![], None));
}

#[test]
fn a_lagging_or_lost_height_takes_nothing_back_and_a_restart_remembers_it() {
    let begun = Tracker::new(Removals::Follow, false).observe(catalog(1), Tick(0)).unwrap();
    let reached = begun.at_height(Some(150));
    for later in [None, Some(1)] {
        assert_eq!(shown(&reached.at_height(later)), shown(&reached));
    }
    let kept = serde_json::to_string(&reached.believed()).unwrap();
    let restored = Tracker::new(Removals::Follow, false)
        .restored(Some(catalog(1)), serde_json::from_str(&kept).unwrap())
        .at_height(None);
    assert_eq!(shown(&restored), shown(&reached));
    // Reading the same document at another height is no second content of its revision.
    assert!(restored.observe(catalog(1), Tick(9)).is_ok());
    assert!(restored.at_height(Some(300)).observe(catalog(1), Tick(9)).is_ok());
}

#[test]
fn only_a_reset_brings_a_lower_height_and_an_earlier_revision() {
    let reached = Tracker::new(Removals::Follow, false).observe(catalog(9), Tick(0)).unwrap().at_height(Some(u64::MAX));
    assert_eq!(reached.observe(catalog(1), Tick(1)), Err(Refused::RevisionLower { offered: 1, in_force: 9 }));
    let reset = reached.reset(Some(50)).observe(catalog(1), Tick(1)).unwrap();
    assert_eq!((reset.revision(), shown(&reset)[0].1), (Some(1), 1));
    // A height that cannot be read now is no reason to go back.
    let blind = reached.reset(None).observe(catalog(1), Tick(1)).unwrap();
    assert_eq!(shown(&blind)[0].1, 2);
    assert_eq!(reached.reset(None).believed(), reached.believed());
}

#[test]
fn a_release_to_come_that_cannot_be_had_is_said_before_its_height() {
    let missing = Reason::Unservable { detail: "no artifact".to_owned() };
    let list = [(None, Release::Artifact(artifact(1))), (Some(100), Release::Blocked(missing.clone()))];
    let releases = Entry::Releases(Releases::new(list.into_iter().collect()).unwrap());
    let services = BTreeMap::from([(service("demo"), BTreeMap::from([(version("v1"), releases)]))]);
    let document = Catalog { services, ..Catalog::default() };
    let tracker = Tracker::new(Removals::Follow, false).observe(document, Tick(0)).unwrap();
    assert_eq!(shown(&tracker), [("v1".to_owned(), 1, None, vec![], Some(missing.clone()))]);
    // At its height what serves goes on.
    let reached = tracker.at_height(Some(100));
    assert_eq!(shown(&reached), [("v1".to_owned(), 1, None, vec![], Some(missing))]);
}

#[test]
fn denied_bytes_are_not_staged() {
    let denying = Catalog { deny: BTreeSet::from([hash(2)]), ..catalog(1) };
    let tracker = Tracker::new(Removals::Follow, false).observe(denying, Tick(0)).unwrap();
    assert_eq!(shown(&tracker)[0].3, []);
}
