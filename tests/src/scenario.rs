//! The plan of a demo: which slot is changed to what, in which order. Pure.
//!
//! Swaps go round the slots. All slots of a round change in one catalog revision (even rounds) or in two
//! revisions, the second as soon as the first is seen to serve (odd rounds), so that swaps overlap in time.
//! A trial (a wrong hash, a build that never becomes ready) precedes the swap of its slot in its round.

use std::fmt;

use serde::Serialize;

/// One of the routed names, by its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Slot(pub usize);

impl Slot {
    /// The version name in the catalog, and so the first path segment.
    #[must_use]
    pub fn name(self) -> String {
        format!("v0.{}", self.0 + 3)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// The two real builds of the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Build {
    A,
    B,
}

impl Build {
    /// What the build says of itself in every answer.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Build::A => "a",
            Build::B => "b",
        }
    }

    /// The build that comes next.
    #[must_use]
    pub const fn other(self) -> Build {
        match self {
            Build::A => Build::B,
            Build::B => Build::A,
        }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag())
    }
}

/// What one catalog revision does to one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The slot is to run this build.
    Swap(Build),
    /// The catalog names a hash that the bytes behind its URL (a valid zip of this build) do not have.
    WrongHash { bytes_of: Build },
    /// The slot is to run a build that starts and never becomes ready.
    NeverReady,
    /// The name leaves the catalog.
    Remove,
}

/// One document of the catalog, as a difference to the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub changes: Vec<(Slot, Change)>,
}

/// What to plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    pub slots: usize,
    pub swaps: usize,
    pub wrong_hash: bool,
    pub never_ready: bool,
    pub removal: bool,
}

/// The whole demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What each slot runs at first.
    pub first: Vec<Build>,
    pub revisions: Vec<Revision>,
}

impl Plan {
    /// The number of swaps that clients must see.
    #[must_use]
    pub fn swaps(&self) -> usize {
        let changes = self.revisions.iter().flat_map(|revision| &revision.changes);
        changes.filter(|(_, change)| matches!(change, Change::Swap(_))).count()
    }
}

/// Lays the demo out.
#[must_use]
pub fn plan(options: &PlanOptions) -> Plan {
    let first: Vec<Build> = (0..options.slots).map(|slot| if slot % 2 == 0 { Build::A } else { Build::B }).collect();
    let mut runs = first.clone();
    let rounds = options.swaps.div_ceil(options.slots.max(1));
    let mut revisions = Vec::new();
    for round in 0..rounds {
        let left = options.swaps - round * options.slots;
        let slots: Vec<Slot> = (0..options.slots.min(left)).map(Slot).collect();
        let trial = |slot: Slot| trial_of(options, rounds, round, slot, runs[slot.0]);
        let tried: Vec<(Slot, Change)> = slots.iter().filter_map(|slot| Some((*slot, trial(*slot)?))).collect();
        let mut swap = |slot: Slot| {
            runs[slot.0] = runs[slot.0].other();
            (slot, Change::Swap(runs[slot.0]))
        };
        if tried.is_empty() {
            let at_once = if round % 2 == 0 { slots.len() } else { slots.len().div_ceil(2) };
            for part in slots.chunks(at_once.max(1)) {
                revisions.push(Revision { changes: part.iter().map(|slot| swap(*slot)).collect() });
            }
        } else {
            let is_tried = |slot: &Slot| tried.iter().any(|(other, _)| other == slot);
            let (later, now): (Vec<Slot>, Vec<Slot>) = slots.iter().partition(|slot| is_tried(slot));
            let mut changes = tried.clone();
            changes.extend(now.into_iter().map(&mut swap));
            revisions.push(Revision { changes });
            revisions.push(Revision { changes: later.into_iter().map(&mut swap).collect() });
        }
    }
    if options.removal && options.slots > 1 {
        revisions.push(Revision { changes: vec![(Slot(options.slots - 1), Change::Remove)] });
    }
    Plan { first, revisions }
}

/// The wrong hash meets the first slot in the second round, the build that never becomes ready the second
/// slot in the third; with fewer rounds, in the last there is.
fn trial_of(options: &PlanOptions, rounds: usize, round: usize, slot: Slot, runs: Build) -> Option<Change> {
    if options.wrong_hash && slot == Slot(0) && round == 1.min(rounds - 1) {
        return Some(Change::WrongHash { bytes_of: runs.other() });
    }
    let second = Slot(1.min(options.slots - 1));
    let apart = options.slots > 1 || !options.wrong_hash || rounds > 2;
    (options.never_ready && apart && slot == second && round == 2.min(rounds - 1)).then_some(Change::NeverReady)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: PlanOptions = PlanOptions { slots: 4, swaps: 20, wrong_hash: true, never_ready: true, removal: true };

    fn changes(plan: &Plan) -> Vec<(Slot, Change)> {
        plan.revisions.iter().flat_map(|revision| revision.changes.clone()).collect()
    }

    #[test]
    fn every_swap_changes_the_build_and_all_of_them_are_there() {
        for swaps in 1..30 {
            for slots in 1..6 {
                let plan = plan(&PlanOptions { slots, swaps, ..FULL });
                assert_eq!(plan.swaps(), swaps, "{slots} slots");
                let mut runs = plan.first.clone();
                for (slot, change) in changes(&plan) {
                    match change {
                        Change::Swap(build) => {
                            assert_ne!(runs[slot.0], build);
                            runs[slot.0] = build;
                        }
                        // Otherwise the clients could not tell that it was served.
                        Change::WrongHash { bytes_of } => assert_ne!(runs[slot.0], bytes_of),
                        Change::NeverReady | Change::Remove => {}
                    }
                }
            }
        }
    }

    #[test]
    fn the_full_demo_holds_one_of_each_trial_and_swaps_that_overlap() {
        let plan = plan(&FULL);
        let count = |wanted: fn(&Change) -> bool| changes(&plan).iter().filter(|(_, change)| wanted(change)).count();
        assert_eq!(count(|change| matches!(change, Change::WrongHash { .. })), 1);
        assert_eq!(count(|change| matches!(change, Change::NeverReady)), 1);
        assert_eq!(count(|change| matches!(change, Change::Remove)), 1);
        let together = plan.revisions.iter().filter(|revision| revision.changes.len() >= 3).count();
        assert!(together >= 4, "{together} revisions change at least three slots at once");
        assert!(matches!(plan.revisions.last().unwrap().changes[..], [(Slot(3), Change::Remove)]));
    }

    #[test]
    fn one_revision_changes_a_slot_once() {
        for swaps in 1..30 {
            for slots in 1..6 {
                for revision in plan(&PlanOptions { slots, swaps, ..FULL }).revisions {
                    let mut seen: Vec<Slot> = revision.changes.iter().map(|(slot, _)| *slot).collect();
                    assert!(!seen.is_empty());
                    seen.sort();
                    seen.dedup();
                    assert_eq!(seen.len(), revision.changes.len());
                }
            }
        }
    }
}
