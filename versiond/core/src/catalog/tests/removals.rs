//! Successions of documents: what is believed to be removed, and when.

use proptest::prelude::*;
use supervisor_protocol::Tick;

use super::*;

fn seconds(n: u64) -> Tick {
    Tick(n * 1_000)
}

/// The slots that are wanted, with the byte of their hash (0 = nothing yet) and the code of what blocks them.
fn wanted(tracker: &Tracker) -> Vec<(String, u8, Option<&'static str>)> {
    let desired = tracker.desired();
    let slots = desired.slots.iter().map(|(slot, intent)| {
        let of = intent.artifact.as_ref().map_or(0, |artifact| artifact.sha256.0[0]);
        (slot.name.to_string(), of, intent.blocked.as_ref().map(Reason::code))
    });
    slots.collect()
}

fn names(tracker: &Tracker) -> Vec<String> {
    wanted(tracker).into_iter().map(|(name, ..)| name).collect()
}

fn following() -> Tracker {
    Tracker::new(Removals::Follow, false)
}

#[test]
fn a_revisioned_document_removes_at_once_and_an_observed_one_after_three_over_a_minute() {
    let revisioned = following().observe(document(Some(1), &[("v1", 1), ("v2", 2)]), seconds(0)).unwrap();
    let revisioned = revisioned.observe(document(Some(2), &[("v2", 2)]), seconds(1)).unwrap();
    assert_eq!(wanted(&revisioned), [("v2".to_owned(), 2, None)]);

    let without = || document(None, &[("v2", 2)]);
    let mut observed = following().observe(document(None, &[("v1", 1), ("v2", 2)]), seconds(0)).unwrap();
    for at in [30, 60] {
        observed = observed.observe(without(), seconds(at)).unwrap();
        assert_eq!(wanted(&observed), [("v1".to_owned(), 1, Some("removal_unconfirmed")), ("v2".to_owned(), 2, None)]);
    }
    // Three readings, but not a whole minute.
    let early = observed.observe(without(), seconds(89)).unwrap();
    assert_eq!(names(&early), ["v1", "v2"]);
    let confirmed = observed.observe(without(), seconds(90)).unwrap();
    assert_eq!(names(&confirmed), ["v2"]);
    // A minute, but only two readings.
    let few = following().observe(document(None, &[("v1", 1), ("v2", 2)]), seconds(0)).unwrap();
    let few = few.observe(without(), seconds(1)).unwrap().observe(without(), seconds(100)).unwrap();
    assert_eq!(names(&few), ["v1", "v2"]);
    // Back again: nothing is counted any more.
    let back = observed.observe(document(None, &[("v1", 1), ("v2", 2)]), seconds(90)).unwrap();
    assert_eq!(wanted(&back), [("v1".to_owned(), 1, None), ("v2".to_owned(), 2, None)]);
    let again = back.observe(without(), seconds(91)).unwrap();
    assert_eq!(names(&again), ["v1", "v2"]);
}

/// F25: an empty list is an upstream fault, for whoever runs something.
#[test]
fn f25_an_empty_list_changes_nothing() {
    let running = following().observe(document(None, &[("v1", 1)]), seconds(0)).unwrap();
    for at in 0..10 {
        assert_eq!(running.observe(document(None, &[]), seconds(30 * at)), Err(Refused::Empty));
    }
    let fresh = following().observe(document(None, &[]), seconds(0)).unwrap();
    assert_eq!(fresh.desired(), Desired::default());
    let allowed = Tracker::new(Removals::Follow, true);
    let allowed = allowed.observe(document(Some(1), &[("v1", 1)]), seconds(0)).unwrap();
    assert_eq!(names(&allowed.observe(document(Some(2), &[]), seconds(1)).unwrap()), Vec::<String>::new());
}

#[test]
fn the_last_version_of_a_host_stays_until_another_can_be_served() {
    let tracker = following().observe(document(Some(1), &[("v1", 1)]), seconds(0)).unwrap();
    let tracker = tracker.observe(document(Some(2), &[("v2", 0)]), seconds(1)).unwrap();
    assert_eq!(
        wanted(&tracker),
        [("v1".to_owned(), 1, Some("removal_held")), ("v2".to_owned(), 0, Some("unservable"))]
    );
    let tracker = tracker.observe(document(Some(3), &[("v2", 2)]), seconds(2)).unwrap();
    assert_eq!(wanted(&tracker), [("v2".to_owned(), 2, None)]);
}

#[test]
fn explicit_removals_ignore_absence() {
    let tracker = Tracker::new(Removals::Explicit, false);
    let tracker = tracker.observe(document(Some(1), &[("v1", 1), ("v2", 2)]), seconds(0)).unwrap();
    let tracker = tracker.observe(document(Some(2), &[("v2", 3)]), seconds(1)).unwrap();
    assert_eq!(wanted(&tracker), [("v1".to_owned(), 1, Some("removal_held")), ("v2".to_owned(), 3, None)]);
}

#[test]
fn a_blocked_entry_leaves_what_was_wanted_before() {
    let tracker = following().observe(document(None, &[("v1", 1)]), seconds(0)).unwrap();
    let tracker = tracker.observe(document(None, &[("v1", 0), ("v2", 2)]), seconds(1)).unwrap();
    assert_eq!(wanted(&tracker), [("v1".to_owned(), 1, Some("unservable")), ("v2".to_owned(), 2, None)]);
}

/// F12: another mirror is the same artifact, so that readings which differ in it count as identical.
#[test]
fn f12_the_same_hash_under_another_url_is_the_same_artifact() {
    let mirrored = |url: &str| {
        let mut catalog = document(None, &[("v2", 2)]);
        let moved = Artifact { urls: vec![url.to_owned()], ..artifact(2) };
        catalog.services.get_mut(&service("demo")).unwrap().insert(version("v2"), always(moved));
        catalog
    };
    let mut tracker = following().observe(document(None, &[("v1", 1), ("v2", 2)]), seconds(0)).unwrap();
    for (at, url) in [(30, "https://a/1"), (60, "https://a/2"), (90, "https://a/3")] {
        tracker = tracker.observe(mirrored(url), seconds(at)).unwrap();
    }
    assert_eq!(names(&tracker), ["v2"]);
    let desired = tracker.desired();
    let found = desired.slots[&slot("v2")].artifact.as_ref().unwrap();
    assert!(found.is_same(&artifact(2)));
    assert_eq!(found.urls, ["https://a/3"]);
}

/// F70: one document with an absurd revision must not lock out the rest.
#[test]
fn f70_revisions_only_grow_and_not_absurdly() {
    let tracker = following().observe(document(Some(7), &[("v1", 1)]), seconds(0)).unwrap();
    let offer = |revision, of| tracker.observe(document(revision, &[("v1", of)]), seconds(1)).map(|_| ());
    assert_eq!(offer(Some(6), 1), Err(Refused::RevisionLower { offered: 6, in_force: 7 }));
    assert_eq!(offer(Some(7), 2), Err(Refused::RevisionReused { revision: 7 }));
    assert_eq!(offer(Some(7), 1), Ok(()));
    assert_eq!(offer(Some(7 + MAX_JUMP), 2), Ok(()));
    let absurd = 8 + MAX_JUMP;
    assert_eq!(offer(Some(absurd), 2), Err(Refused::RevisionJump { offered: absurd, in_force: 7 }));
    assert_eq!(offer(Some(u64::MAX), 2), Err(Refused::RevisionJump { offered: u64::MAX, in_force: 7 }));
    assert_eq!(offer(None, 2), Err(Refused::RevisionMissing { in_force: 7 }));
}

#[test]
fn denied_bytes_are_not_wanted_by_any_name() {
    let denying = |revision, of: &[u8]| {
        let deny = of.iter().map(|of| hash(*of)).collect();
        Catalog { deny, ..document(revision, &[("v1", 1), ("v2", 2)]) }
    };
    let tracker = following().observe(denying(Some(1), &[]), seconds(0)).unwrap();
    let denied = tracker.observe(denying(Some(2), &[1]), seconds(1)).unwrap();
    assert_eq!(names(&denied), ["v2"]);
    assert_eq!(denied.desired().deny, BTreeSet::from([hash(1)]));
    assert_eq!(names(&denied.observe(denying(Some(3), &[]), seconds(2)).unwrap()), ["v1", "v2"]);
    // Without a revision a denial is agreed to like a removal.
    let mut observed = following().observe(denying(None, &[]), seconds(0)).unwrap();
    for at in [30, 60] {
        observed = observed.observe(denying(None, &[1]), seconds(at)).unwrap();
        assert_eq!(names(&observed), ["v1", "v2"]);
    }
    assert_eq!(names(&observed.observe(denying(None, &[1]), seconds(90)).unwrap()), ["v2"]);
}

#[test]
fn a_restart_forgets_no_name_and_no_revision() {
    let tracker = following().observe(document(None, &[("v1", 1), ("v2", 2)]), seconds(0)).unwrap();
    let tracker = tracker.observe(document(None, &[("v2", 2)]), seconds(30)).unwrap();
    let tracker = tracker.observe(document(None, &[("v2", 2)]), seconds(60)).unwrap();
    let kept = serde_json::to_string(&tracker.believed()).unwrap();
    let restored = following().restored(Some(document(None, &[("v2", 2)])), serde_json::from_str(&kept).unwrap());
    assert_eq!(wanted(&restored), [("v1".to_owned(), 1, Some("removal_unconfirmed")), ("v2".to_owned(), 2, None)]);
    // Counting begins anew, on a clock that does.
    let restored = restored.observe(document(None, &[("v2", 2)]), seconds(0)).unwrap();
    assert_eq!(names(&restored.observe(document(None, &[("v2", 2)]), seconds(90)).unwrap()), ["v1", "v2"]);

    let revisioned = following().restored(Some(document(Some(7), &[("v1", 1)])), Believed::default());
    assert!(revisioned.observe(document(Some(6), &[("v1", 1)]), seconds(0)).is_err());
    // Another source's revisions are its own.
    let elsewhere = following().restored(None, tracker.believed());
    assert_eq!(names(&elsewhere.observe(document(Some(1), &[("v3", 3)]), seconds(0)).unwrap()), ["v3"]);
}

/// What a host may believe, found by looking over the whole history each time.
fn model(history: &[(u64, Option<u64>, Vec<u8>)]) -> BTreeSet<usize> {
    let mut believed: BTreeSet<usize> = BTreeSet::new();
    for (index, (at, revision, versions)) in history.iter().enumerate() {
        let listed: BTreeSet<usize> =
            versions.iter().enumerate().filter(|(_, of)| **of > 0).map(|(name, _)| name).collect();
        believed.extend(&listed);
        let run = history[..=index].iter().rev().take_while(|(_, _, earlier)| earlier == versions);
        let (count, began) = run.fold((0, *at), |(count, _), (at, ..)| (count + 1, *at));
        let is_believed = revision.is_some() || (count >= 3 && at - began >= 60_000);
        if is_believed && !listed.is_empty() {
            believed = listed;
        }
    }
    believed
}

proptest! {
    /// Versions are lists of two names, 0 where a name is absent: so few that readings repeat often.
    #[test]
    fn the_tracker_agrees_with_a_model_of_the_whole_history(
        readings in proptest::collection::vec((0u64..50_000, proptest::collection::vec(0u8..2, 2)), 1..40),
        revisioned in any::<bool>(),
    ) {
        let mut tracker = following();
        let mut history: Vec<(u64, Option<u64>, Vec<u8>)> = Vec::new();
        let mut now = 0;
        for (index, (pause, versions)) in readings.into_iter().enumerate() {
            now += pause;
            let revision = revisioned.then_some(index as u64);
            let named: Vec<(String, u8)> = versions
                .iter()
                .enumerate()
                .filter(|(_, of)| **of > 0)
                .map(|(name, of)| (format!("v{name}"), *of))
                .collect();
            let named: Vec<(&str, u8)> = named.iter().map(|(name, of)| (name.as_str(), *of)).collect();
            match tracker.observe(document(revision, &named), Tick(now)) {
                Ok(next) => {
                    tracker = next;
                    history.push((now, revision, versions));
                }
                Err(Refused::Empty) => prop_assert!(named.is_empty() && !model(&history).is_empty()),
                Err(other) => prop_assert!(false, "{other}"),
            }
            let expected: Vec<String> = model(&history).into_iter().map(|name| format!("v{name}")).collect();
            prop_assert_eq!(names(&tracker), expected);
        }
    }
}
