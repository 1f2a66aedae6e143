//! What the slots of a service tell each other of the schema of their shared database, and how one of them waits.
//!
//! Must not live here: who waits for whom (that is `versiond_core::schema`).

use std::collections::BTreeMap;

use supervisor_protocol::{ServiceName, Sha256, SlotId, VersionName};
use tokio::sync::watch;
use versiond_core::schema::{Barrier, Standing};

/// One barrier for each service, for as long as the daemon runs.
#[derive(Debug)]
pub(crate) struct Schemas(watch::Sender<BTreeMap<ServiceName, Barrier>>);

impl Schemas {
    pub(crate) fn new() -> Schemas {
        Schemas(watch::Sender::new(BTreeMap::new()))
    }

    /// Takes the slots that share a database with other hosts, and what each should run.
    pub(crate) fn name(&self, named: &BTreeMap<SlotId, Sha256>) {
        let mut services: BTreeMap<ServiceName, BTreeMap<VersionName, Sha256>> = BTreeMap::new();
        for (slot, sha256) in named {
            services.entry(slot.service.clone()).or_default().insert(slot.name.clone(), *sha256);
        }
        self.change(|barriers| {
            for service in
                services.keys().filter(|service| !barriers.contains_key(*service)).cloned().collect::<Vec<_>>()
            {
                barriers.insert(service, Barrier::default());
            }
            for (service, barrier) in barriers {
                barrier.name(&services.remove(service).unwrap_or_default());
            }
        });
    }

    /// Takes a slot's own word on what it is to run.
    pub(crate) fn aim(&self, slot: &SlotId, goal: Option<Sha256>) {
        self.of(slot, |barrier| barrier.aim(&slot.name, goal));
    }

    /// Takes what has become known of a build.
    pub(crate) fn learn(&self, slot: &SlotId, sha256: Sha256, standing: Standing) {
        self.of(slot, |barrier| barrier.learn(&slot.name, sha256, standing));
    }

    /// The slots whose builds have to come before a build of this slot that is too old to see to the schema itself,
    /// once they are others than these.
    pub(crate) async fn ahead_of(&self, slot: &SlotId, told: Option<&[VersionName]>) -> Vec<VersionName> {
        let mut changes = self.0.subscribe();
        loop {
            let ahead: Vec<VersionName> = {
                let barriers = changes.borrow_and_update();
                let barrier = barriers.get(&slot.service);
                barrier.into_iter().flat_map(|barrier| barrier.ahead_of(&slot.name)).cloned().collect()
            };
            if told != Some(&ahead[..]) {
                return ahead;
            }
            // The sender is part of `self`.
            changes.changed().await.ok();
        }
    }

    fn of(&self, slot: &SlotId, change: impl FnOnce(&mut Barrier)) {
        self.change(|barriers| {
            if let Some(barrier) = barriers.get_mut(&slot.service) {
                change(barrier);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<ServiceName, Barrier>)) {
        self.0.send_if_modified(|barriers| {
            let before = barriers.clone();
            change(barriers);
            *barriers != before
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn slot(name: &str) -> SlotId {
        SlotId { service: ServiceName::new("a").unwrap(), name: VersionName::new(name).unwrap() }
    }

    #[tokio::test]
    async fn one_that_waits_is_told_what_for_whenever_that_changes() {
        let schemas = Arc::new(Schemas::new());
        let build = |byte: u8| Sha256([byte; 32]);
        let name = |slots: &[(&str, u8)]| {
            schemas.name(&slots.iter().map(|(name, byte)| (slot(name), build(*byte))).collect());
        };
        let names = |slots: &[VersionName]| slots.iter().map(ToString::to_string).collect::<Vec<_>>();
        name(&[("v1", 1), ("v2", 2), ("v3", 3)]);
        let first = schemas.ahead_of(&slot("v1"), None).await;
        assert_eq!(names(&first), ["v2", "v3"]);
        let waiting = tokio::spawn({
            let schemas = schemas.clone();
            async move { schemas.ahead_of(&slot("v1"), Some(&first)).await }
        });
        // What changes nothing for it does not wake it for good.
        schemas.learn(&slot("v2"), build(2), Standing::Failed);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        schemas.learn(&slot("v3"), build(3), Standing::Legacy);
        let second = waiting.await.unwrap();
        assert_eq!(names(&second), ["v2"]);
        schemas.learn(&slot("v2"), build(2), Standing::Done);
        assert_eq!(schemas.ahead_of(&slot("v1"), Some(&second)).await, []);
    }

    #[tokio::test]
    async fn a_slot_of_no_shared_database_waits_for_nothing() {
        assert_eq!(Schemas::new().ahead_of(&slot("v1"), None).await, []);
    }
}
