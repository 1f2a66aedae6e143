//! What of a store may go. Pure: what is there and what it is used for come in, a verdict for each comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use supervisor_protocol::Sha256;
use supervisor_protocol::admin::{ArtifactUse, GcCause, KeptFor};
use supervisor_protocol::time::millis;

/// Of those that nothing needs so many stay, the newest, for a quick way back.
pub(super) const NEWEST: usize = 3;
/// How long something unfinished is left alone: its maker may be alive.
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What every slot of the host needs.
pub type Uses = BTreeMap<Sha256, BTreeSet<ArtifactUse>>;

/// A folder of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) sha256: Sha256,
    pub(super) bytes: u64,
    pub(super) wholeness: Wholeness,
    /// Since it was committed, or since something was last done in it.
    pub(super) age: Duration,
}

/// Whether a folder has its commit mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wholeness {
    Whole,
    Incomplete,
}

/// What becomes of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep(Vec<KeptFor>),
    Remove(GcCause),
}

/// Judges every folder, in the order of `found`.
pub(super) fn judge(found: &[Found], uses: &Uses) -> Vec<Verdict> {
    let newest = newest(found, uses);
    let verdict = |folder: &Found| {
        if let Some(uses) = uses.get(&folder.sha256).filter(|uses| !uses.is_empty()) {
            return Verdict::Keep(uses.iter().cloned().map(KeptFor::Use).collect());
        }
        match folder.wholeness {
            Wholeness::Incomplete if folder.age > DAY => Verdict::Remove(GcCause::Incomplete),
            Wholeness::Incomplete => {
                Verdict::Keep(vec![KeptFor::Young { left_ms: millis(DAY.saturating_sub(folder.age)) }])
            }
            Wholeness::Whole if newest.contains(&folder.sha256) => Verdict::Keep(vec![KeptFor::Newest]),
            Wholeness::Whole => Verdict::Remove(GcCause::Unused),
        }
    };
    found.iter().map(verdict).collect()
}

fn newest(found: &[Found], uses: &Uses) -> BTreeSet<Sha256> {
    let is_used = |folder: &Found| uses.get(&folder.sha256).is_some_and(|uses| !uses.is_empty());
    let unused = found.iter().filter(|folder| folder.wholeness == Wholeness::Whole && !is_used(folder));
    let mut unused: Vec<&Found> = unused.collect();
    unused.sort_by_key(|folder| (folder.age, folder.sha256));
    unused.into_iter().take(NEWEST).map(|folder| folder.sha256).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use supervisor_protocol::admin::ArtifactRole;
    use supervisor_protocol::{ServiceName, SlotId, VersionName};

    use super::*;

    const ROLES: [ArtifactRole; 7] = [
        ArtifactRole::Desired,
        ArtifactRole::Live,
        ArtifactRole::Draining,
        ArtifactRole::Parked,
        ArtifactRole::LastGood,
        ArtifactRole::Staged,
        ArtifactRole::Pinned,
    ];

    fn sha256(name: u8) -> Sha256 {
        Sha256([name; 32])
    }

    fn found(name: u8, wholeness: Wholeness, hours: u64) -> Found {
        Found { sha256: sha256(name), bytes: 1, wholeness, age: Duration::from_secs(hours * 3_600) }
    }

    fn used(how: ArtifactRole) -> ArtifactUse {
        let slot = SlotId { service: ServiceName::new("a").unwrap(), name: VersionName::new("b").unwrap() };
        ArtifactUse { slot, how }
    }

    fn removed(found: &[Found], uses: &Uses) -> Vec<u8> {
        let verdicts = judge(found, uses);
        let gone = found.iter().zip(verdicts).filter(|(_, verdict)| matches!(verdict, Verdict::Remove(_)));
        gone.map(|(folder, _)| folder.sha256.0[0]).collect()
    }

    #[test]
    fn what_is_needed_stays_and_of_the_rest_the_three_newest() {
        let six: Vec<Found> = (1..=6).map(|age| found(age, Wholeness::Whole, age.into())).collect();
        assert_eq!(removed(&six, &Uses::new()), [4, 5, 6]);
        for role in ROLES {
            let uses =
                Uses::from([(sha256(6), BTreeSet::from([used(role)])), (sha256(1), BTreeSet::from([used(role)]))]);
            assert_eq!(removed(&six, &uses), [5], "{role:?}");
        }
        // A name without a use is none.
        assert_eq!(removed(&six, &Uses::from([(sha256(6), BTreeSet::new())])), [4, 5, 6]);
    }

    #[test]
    fn what_is_unfinished_is_left_alone_for_a_day_and_takes_no_place_of_the_three() {
        let folders = [
            found(1, Wholeness::Incomplete, 1),
            found(2, Wholeness::Incomplete, 24),
            found(3, Wholeness::Incomplete, 25),
            found(4, Wholeness::Whole, 1),
            found(5, Wholeness::Whole, 2),
            found(6, Wholeness::Whole, 3),
        ];
        assert_eq!(removed(&folders, &Uses::new()), [3]);
        assert_eq!(judge(&folders[..1], &Uses::new()), [Verdict::Keep(vec![KeptFor::Young { left_ms: 82_800_000 }])]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a model that takes one folder after the other away, the oldest first, as long as it may.
        #[test]
        fn the_verdicts_are_those_of_a_model_that_takes_the_oldest_away_one_by_one(
            folders in proptest::collection::btree_map(0u8..20, (any::<bool>(), 0u64..60), 0..16),
            needed in proptest::collection::btree_map(0u8..20, proptest::sample::select(ROLES.to_vec()), 0..6),
        ) {
            let wholeness = |whole| if whole { Wholeness::Whole } else { Wholeness::Incomplete };
            let all: Vec<Found> = folders.iter().map(|(name, (whole, age))| found(*name, wholeness(*whole), *age)).collect();
            let uses: Uses = needed.iter().map(|(name, role)| (sha256(*name), BTreeSet::from([used(*role)]))).collect();

            let mut left: Vec<(u64, u8)> = folders.iter().map(|(name, (_, age))| (*age, *name)).collect();
            left.sort_unstable_by(|a, b| b.cmp(a));
            let mut gone = BTreeSet::new();
            for (age, name) in left {
                let is_whole = folders[&name].0;
                let others = folders.iter().filter(|(other, (whole, _))| {
                    **other != name && *whole && !needed.contains_key(other) && !gone.contains(*other)
                });
                let may_go = !needed.contains_key(&name) && if is_whole { others.count() >= NEWEST } else { age > 24 };
                if may_go {
                    gone.insert(name);
                }
            }
            prop_assert_eq!(removed(&all, &uses), gone.into_iter().collect::<Vec<_>>());
        }
    }
}
