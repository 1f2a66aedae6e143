//! What became of the work that a generation had admitted, once it is over.

use router_dataplane::Load;
use supervisor_protocol::admin::{DrainCause, DrainOutcome, Receipt};
use supervisor_protocol::{ByClass, Generation, Sha256, SlotId, StreamClass};
use versiond_core::generation::DrainEnd;

/// The receipt of one generation, from its load when it was retired (if it was) and after its end: what is
/// still open then was cut.
pub(super) fn receipt(
    slot: SlotId,
    generation: Generation,
    sha256: Sha256,
    end: DrainEnd,
    at_retire: Option<&Load>,
    load: &Load,
) -> Receipt {
    let mut at_start = at_retire.map(|load| load.by_class).unwrap_or_default();
    let (mut cut, mut finished) = (ByClass::default(), ByClass::default());
    for class in StreamClass::ALL {
        let lost = |load: &Load| load.ended.cut.get(class) + load.ended.upstream_broke.get(class);
        let mut before = at_retire.map(lost).unwrap_or_default();
        if end.cause == DrainCause::Crash {
            // It was retired after it had died, and some of its work may have broken before.
            *at_start.get_mut(class) += std::mem::take(&mut before);
        }
        let lost = lost(load).saturating_sub(before) + load.by_class.get(class);
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
        // Its process may have ended with work in it just before the drain would have been over.
        outcome: if end.outcome == DrainOutcome::Drained && cut.total() > 0 {
            DrainOutcome::ProcessGone
        } else {
            end.outcome
        },
    }
}
