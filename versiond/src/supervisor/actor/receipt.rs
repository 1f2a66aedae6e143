//! What became of the work that a generation had admitted, once it is over.

use router_dataplane::Load;
use supervisor_protocol::admin::Receipt;
use supervisor_protocol::{ByClass, Generation, Sha256, SlotId, StreamClass};
use versiond_core::generation::DrainEnd;

/// The receipt of one generation, from its load when it was retired (if it was) and now.
pub(super) fn receipt(
    slot: SlotId,
    generation: Generation,
    sha256: Sha256,
    end: DrainEnd,
    at_retire: Option<&Load>,
    load: &Load,
) -> Receipt {
    let at_start = at_retire.map(|load| load.by_class).unwrap_or_default();
    let (mut cut, mut finished) = (ByClass::default(), at_start);
    for class in StreamClass::ALL {
        let lost = |load: &Load| load.ended.cut.get(class) + load.ended.upstream_broke.get(class);
        let before = at_retire.map(lost).unwrap_or_default();
        let lost = lost(load).saturating_sub(before);
        *cut.get_mut(class) = lost;
        *finished.get_mut(class) = at_start.get(class).saturating_sub(lost);
    }
    Receipt {
        slot,
        generation,
        sha256,
        successor: end.successor,
        cause: end.cause,
        at_start,
        admitted: load.admitted,
        finished,
        cut,
        longest_ms: load.longest_since_retired_ms.unwrap_or_default(),
        took_ms: end.took_ms,
        outcome: end.outcome,
    }
}
