//! Which slot a path belongs to. A table is built whole and swapped whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use router_core::route::RoutePattern;
use supervisor_protocol::{ServiceName, SlotId, StreamClass, VersionName};

use crate::pools::Pools;
use crate::slot::SlotRoute;
use crate::waits::WaitCounts;

/// Routes and slots at one moment.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<(RoutePattern, ServiceName)>,
    slots: BTreeMap<ServiceName, BTreeMap<VersionName, Arc<SlotRoute>>>,
    classes: Vec<ClassRule>,
    pending: bool,
    pools: Option<Arc<dyn Pools>>,
}

/// Declares the class of a service's work below a path, as the child sees it. A response's own nature
/// does not count then; an upgrade always does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassRule {
    pub service: ServiceName,
    pub path: RoutePattern,
    pub class: StreamClass,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Found<'p> {
    pub(crate) slot: Arc<SlotRoute>,
    /// What the child is asked for.
    pub(crate) path: &'p str,
    /// What follows the matched segments.
    pub(crate) rest: &'p str,
    /// The class that the configuration declares.
    pub(crate) class: Option<StreamClass>,
}

impl RouteTable {
    /// Patterns in any order, and the slots that exist. A service whose route names no version has one
    /// slot: the one called like the service, or else its only one.
    #[must_use]
    pub fn new(
        routes: Vec<(RoutePattern, ServiceName)>,
        slots: BTreeMap<(ServiceName, VersionName), Arc<SlotRoute>>,
    ) -> Self {
        let mut table = Self { routes, ..Self::default() };
        table.routes.sort_by(|(a, _), (b, _)| a.specificity(b));
        for ((service, version), slot) in slots {
            table.slots.entry(service).or_default().insert(version, slot);
        }
        table
    }

    /// Stands for a table that is not known yet: requests wait for the next one within the hold bounds,
    /// where an empty table would answer that there is no such route.
    #[must_use]
    pub fn pending() -> Self {
        Self { pending: true, ..Self::default() }
    }

    /// A table without slots: every path is for `pools` to place.
    #[must_use]
    pub fn of_pools(pools: Arc<dyn Pools>) -> Self {
        Self { pools: Some(pools), ..Self::default() }
    }

    pub(crate) const fn pools(&self) -> Option<&Arc<dyn Pools>> {
        self.pools.as_ref()
    }

    /// The same table, known in part: a request that it has no slot for waits for the next one.
    #[must_use]
    pub fn with_more_to_come(self) -> Self {
        Self { pending: true, ..self }
    }

    pub(crate) const fn is_pending(&self) -> bool {
        self.pending
    }

    /// The same table with declared classes; of those that match the most specific counts.
    #[must_use]
    pub fn with_classes(mut self, mut classes: Vec<ClassRule>) -> Self {
        classes.sort_by(|a, b| a.path.specificity(&b.path));
        self.classes = classes;
        self
    }

    /// Lets every waiting request look again.
    pub(crate) fn wake_all(&self) {
        self.slots.values().flat_map(BTreeMap::values).for_each(|slot| slot.call_all());
    }

    /// How all that has waited for each slot fared.
    pub(crate) fn waits(&self) -> BTreeMap<SlotId, WaitCounts> {
        let of = |(service, slots): (&ServiceName, &BTreeMap<VersionName, Arc<SlotRoute>>)| {
            let id = |name: &VersionName| SlotId { service: service.clone(), name: name.clone() };
            slots.iter().map(|(name, slot)| (id(name), slot.waits())).collect::<Vec<_>>()
        };
        self.slots.iter().flat_map(of).collect()
    }

    /// The slot of the most specific pattern that matches and names a slot.
    pub(crate) fn find<'p>(&self, path: &'p str) -> Option<Found<'p>> {
        self.routes.iter().find_map(|(pattern, service)| {
            let matched = pattern.matches(path)?;
            let slots = self.slots.get(service)?;
            let slot = match &matched.version {
                Some(version) => slots.get(version)?,
                None => {
                    slots.iter().find(|(name, _)| name.as_str() == service.as_str()).map(|(_, slot)| slot).or_else(
                        || match slots.len() {
                            1 => slots.values().next(),
                            _ => None,
                        },
                    )?
                }
            };
            let declares = |rule: &&ClassRule| rule.service == *service && rule.path.matches(matched.path).is_some();
            let class = self.classes.iter().find(declares).map(|rule| rule.class);
            Some(Found { slot: slot.clone(), path: matched.path, rest: matched.rest, class })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Absence;

    #[test]
    fn a_path_finds_its_slot_or_nothing() {
        let name = |text: &str| ServiceName::new(text).unwrap();
        let version = |text: &str| VersionName::new(text).unwrap();
        let slot = || SlotRoute::new(Absence::Hold { forecast: None });
        let (shard1, shard2, vllm) = (slot(), slot(), slot());
        let table = RouteTable::new(
            vec![
                ("/{version}".parse().unwrap(), name("devshardd")),
                ("/devshard/{version}".parse().unwrap(), name("devshardd")),
                ("/v1".parse().unwrap(), name("vllm")),
            ],
            BTreeMap::from([
                ((name("devshardd"), version("v0.1")), shard1.clone()),
                ((name("devshardd"), version("v0.2")), shard2.clone()),
                ((name("vllm"), version("vllm")), vllm.clone()),
            ]),
        );
        let check = |path: &str, expected: Option<(&Arc<SlotRoute>, &str)>| {
            let found = table.find(path);
            assert_eq!(found.is_some(), expected.is_some(), "{path}");
            if let (Some(found), Some((slot, rest))) = (found, expected) {
                assert!(Arc::ptr_eq(&found.slot, slot) && found.path == rest, "{path}: {}", found.path);
            }
        };
        check("/devshard/v0.1/chat", Some((&shard1, "/chat")));
        check("/v0.2/chat", Some((&shard2, "/chat")));
        check("/v1/models", Some((&vllm, "/models")));
        check("/devshard/v0.3/chat", None);
        check("/devshard", None);
        check("/", None);

        let rule = |path: &str, class| ClassRule { service: name("devshardd"), path: path.parse().unwrap(), class };
        let table = table.with_classes(vec![rule("/jobs", StreamClass::Job), rule("/jobs/watch", StreamClass::Stream)]);
        let class = |path: &str| table.find(path).unwrap().class;
        assert_eq!(class("/v0.1/jobs/7"), Some(StreamClass::Job));
        assert_eq!(class("/v0.1/jobs/watch/7"), Some(StreamClass::Stream));
        assert_eq!(class("/v0.1/chat"), None);
        assert_eq!(class("/v1/jobs"), None);
    }
}
