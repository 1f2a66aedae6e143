//! The data plane counts for itself; its figures are appended as they are.

use std::collections::BTreeMap;

use router_dataplane::{PlaneCounters, WAITS_MS, WaitCounts, WaitEnd};
use supervisor_protocol::SlotId;

use super::declared;
use super::text::{Families, seconds};

pub(super) fn append(text: &mut String, plane: &PlaneCounters, waits: &BTreeMap<SlotId, WaitCounts>) {
    let mut families = Families(text);
    families.single(&declared::REQUESTS, plane.requests);
    families.single(&declared::ANSWERED, plane.answered);
    families.single(&declared::LOCAL, plane.local);
    families.single(&declared::HELD, plane.held);
    families.single(&declared::RETRIES, plane.retries);
    families.single(&declared::CONNECTIONS, plane.connections);
    families.single(&declared::NOT_BEGUN, plane.not_begun);
    families.single(&declared::UPSTREAM_CONNECTIONS, plane.upstream_connections);
    let mut refused = families.begin(&declared::REFUSED);
    for (refusal, count) in &plane.refused {
        refused.series(&[("reason", refusal.code())], count);
    }
    families.single(&declared::HELD_NOW, plane.held_now);
    families.single(&declared::HELD_BYTES_NOW, plane.held_bytes_now);
    families.single(&declared::HELD_LONGEST, seconds(plane.held_longest_ms));
    families.single(&declared::CONNECTIONS_NOW, plane.connections_now);
    families.single(&declared::INFLIGHT_NOW, plane.inflight_now);
    append_waits(families, waits);
}

fn append_waits(mut families: Families<'_>, waits: &BTreeMap<SlotId, WaitCounts>) {
    let mut ends = families.begin(&declared::HOLD_ENDS);
    for (slot, waits) in waits {
        for (end, count) in WaitEnd::ALL.into_iter().zip(waits.ends) {
            let (service, version) = (slot.service.as_str(), slot.name.as_str());
            ends.series(&[("service", service), ("version", version), ("outcome", end.as_str())], count);
        }
    }
    let mut lengths = families.begin(&declared::HOLD_SECONDS);
    for (slot, waits) in waits {
        let labels = [("service", slot.service.as_str()), ("version", slot.name.as_str())];
        lengths.histogram(&labels, WAITS_MS.into_iter().zip(waits.up_to), waits.waits, waits.sum_ms);
    }
}
