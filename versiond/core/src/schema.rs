//! Which builds wait until another build of their service has brought the schema of a shared database up to date.
//!
//! A build of the older contract either does so itself, in a step before it starts, or is too old for that and
//! finds the schema as others left it. Must not live here: the step, or what tells of it.

use std::collections::BTreeMap;

use supervisor_protocol::{Sha256, VersionName};

/// What is known of a build and the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its step is done.
    Done,
    /// Its step has failed, or it could not say what it is: asked again, it may do it.
    Failed,
    /// It is too old to know the step.
    Legacy,
    /// It has nothing to do with the schema, or will not run as it is.
    Apart,
}

/// What is known of the builds of one service, from the start of the daemon on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Barrier {
    is_open: bool,
    slots: BTreeMap<VersionName, Wanted>,
}

/// What should serve in one slot of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    /// By the catalog or the configuration.
    named: Sha256,
    /// By all that the slot knows: an operator's word goes ahead of the catalog's, and a hash may be denied.
    goal: Option<Sha256>,
    known: BTreeMap<Sha256, Standing>,
}

impl Barrier {
    /// Takes the slots in which several hosts share the database, and what each should run. A hash that is named
    /// anew is what its slot is to run, until the slot says otherwise.
    pub fn name(&mut self, named: &BTreeMap<VersionName, Sha256>) {
        self.slots.retain(|slot, _| named.contains_key(slot));
        for (slot, sha256) in named {
            let fresh = || Wanted { named: *sha256, goal: Some(*sha256), known: BTreeMap::new() };
            let wanted = self.slots.entry(slot.clone()).or_insert_with(fresh);
            if wanted.named != *sha256 {
                (wanted.named, wanted.goal) = (*sha256, Some(*sha256));
            }
        }
    }

    /// Takes a slot's own word on what it is to run.
    pub fn aim(&mut self, slot: &VersionName, goal: Option<Sha256>) {
        if let Some(wanted) = self.slots.get_mut(slot) {
            wanted.goal = goal;
            let named = wanted.named;
            wanted.known.retain(|sha256, _| *sha256 == named || goal == Some(*sha256));
        }
    }

    /// Takes what has become known of a build.
    pub fn learn(&mut self, slot: &VersionName, sha256: Sha256, standing: Standing) {
        self.is_open |= standing == Standing::Done;
        if let Some(wanted) = self.slots.get_mut(slot) {
            wanted.known.insert(sha256, standing);
        }
    }

    /// The slots whose builds one that is too old for the step waits for: those that may do it and have not. None
    /// once it is done, or when all of them are too old.
    pub fn ahead_of<'b>(&'b self, slot: &'b VersionName) -> impl Iterator<Item = &'b VersionName> {
        let others = self.slots.iter().filter(move |(other, _)| !self.is_open && *other != slot);
        others.filter(|(_, wanted)| wanted.may_do_it()).map(|(other, _)| other)
    }
}

impl Wanted {
    fn may_do_it(&self) -> bool {
        let Some(goal) = self.goal else { return false };
        match self.known.get(&goal) {
            None | Some(Standing::Failed) => true,
            Some(Standing::Done | Standing::Legacy | Standing::Apart) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> VersionName {
        VersionName::new(text).unwrap()
    }

    const fn build(byte: u8) -> Sha256 {
        Sha256([byte; 32])
    }

    fn barrier(named: &[(&str, u8)]) -> Barrier {
        let mut barrier = Barrier::default();
        rename(&mut barrier, named);
        barrier
    }

    fn rename(barrier: &mut Barrier, named: &[(&str, u8)]) {
        barrier.name(&named.iter().map(|(slot, byte)| (name(slot), build(*byte))).collect());
    }

    fn waits(barrier: &Barrier, slot: &str) -> Vec<String> {
        barrier.ahead_of(&name(slot)).map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_too_old_waits_for_whatever_may_bring_the_schema() {
        let mut barrier = barrier(&[("v1", 1), ("v2", 2), ("v3", 3)]);
        assert_eq!(waits(&barrier, "v1"), ["v2", "v3"], "nothing is known of them yet");
        barrier.learn(&name("v1"), build(1), Standing::Legacy);
        barrier.learn(&name("v3"), build(3), Standing::Legacy);
        assert_eq!(waits(&barrier, "v1"), ["v2"]);
        assert_eq!(waits(&barrier, "v3"), ["v2"]);
        barrier.learn(&name("v2"), build(2), Standing::Done);
        assert_eq!(waits(&barrier, "v1"), [""; 0]);
        rename(&mut barrier, &[("v1", 1), ("v2", 2), ("v4", 4)]);
        assert_eq!(waits(&barrier, "v1"), [""; 0], "what is done stays done");
    }

    #[test]
    fn a_step_that_failed_opens_nothing() {
        let mut barrier = barrier(&[("v1", 1), ("v2", 2)]);
        barrier.learn(&name("v1"), build(1), Standing::Legacy);
        barrier.learn(&name("v2"), build(2), Standing::Failed);
        assert_eq!(waits(&barrier, "v1"), ["v2"]);
        barrier.learn(&name("v2"), build(2), Standing::Done);
        assert_eq!(waits(&barrier, "v1"), [""; 0]);
    }

    #[test]
    fn where_all_are_too_old_or_apart_nobody_waits() {
        let mut barrier = barrier(&[("v1", 1), ("v2", 2), ("v3", 3)]);
        barrier.learn(&name("v1"), build(1), Standing::Legacy);
        barrier.learn(&name("v2"), build(2), Standing::Legacy);
        assert_eq!(waits(&barrier, "v1"), ["v3"]);
        barrier.learn(&name("v3"), build(3), Standing::Apart);
        assert_eq!(waits(&barrier, "v1"), [""; 0]);
        rename(&mut barrier, &[("v1", 1), ("v2", 5), ("v3", 3)]);
        assert_eq!(waits(&barrier, "v1"), ["v2"], "another build in a slot may know the step");
    }

    #[test]
    fn a_name_that_is_gone_is_waited_for_no_more() {
        let mut barrier = barrier(&[("v1", 1), ("v2", 2)]);
        assert_eq!(waits(&barrier, "v1"), ["v2"]);
        rename(&mut barrier, &[("v1", 1)]);
        assert_eq!(waits(&barrier, "v1"), [""; 0]);
    }

    #[test]
    fn a_slot_counts_by_what_it_is_to_run_and_not_by_the_catalog_alone() {
        let mut barrier = barrier(&[("v1", 1), ("v2", 2)]);
        barrier.learn(&name("v2"), build(7), Standing::Legacy);
        barrier.aim(&name("v2"), Some(build(7)));
        assert_eq!(waits(&barrier, "v1"), [""; 0], "an operator has pinned it to one that is too old");
        rename(&mut barrier, &[("v1", 1), ("v2", 2)]);
        assert_eq!(waits(&barrier, "v1"), [""; 0], "the catalog says nothing new");
        rename(&mut barrier, &[("v1", 1), ("v2", 3)]);
        assert_eq!(waits(&barrier, "v1"), ["v2"], "until the slot has had its say");
        barrier.aim(&name("v2"), None);
        assert_eq!(waits(&barrier, "v1"), [""; 0], "denied");
        barrier.aim(&name("v9"), Some(build(9)));
        assert_eq!(waits(&barrier, "v1"), [""; 0], "what is not named is not waited for");
    }
}
