//! How much may wait: bounds over the whole host, and for one slot a share of them, so that a slot that is
//! away for long leaves room for the others.
//!
//! Must not live here: how long one waits, and for what (that is `hold`).

use std::sync::Arc;

use parking_lot::Mutex;
use router_core::head::{Framing, Head};
use supervisor_protocol::time::millis;
use tokio::time::Instant;

use crate::config::HoldBounds;
use crate::counters::bump;
use crate::plane::Shared;
use crate::slot::SlotRoute;
use crate::waits::WaitEnd;
use crate::worker::BUFFER;

/// What waits somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Requests that wait now.
    pub requests: u64,
    /// What they may take of memory, in bytes.
    pub bytes: u64,
    /// The longest that any request has waited, to whatever end, in milliseconds.
    pub longest_ms: u64,
}

/// The room that is taken.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<Held>);

impl Room {
    pub(crate) fn held(&self) -> Held {
        *self.0.lock()
    }

    /// False when there is no room for one more of these bytes.
    fn take(&self, bytes: u64, most: Most) -> bool {
        let mut held = self.0.lock();
        let fits = held.requests < most.requests && held.bytes + bytes <= most.bytes;
        if fits {
            held.requests += 1;
            held.bytes += bytes;
        }
        fits
    }

    fn give_back(&self, bytes: u64) {
        let mut held = self.0.lock();
        held.requests -= 1;
        held.bytes -= bytes;
    }

    fn note(&self, waited_ms: u64) {
        let mut held = self.0.lock();
        held.longest_ms = held.longest_ms.max(waited_ms);
    }
}

#[derive(Debug, Clone, Copy)]
struct Most {
    requests: u64,
    bytes: u64,
}

impl Most {
    const fn of(bounds: &HoldBounds) -> Most {
        Most { requests: bounds.requests as u64, bytes: bounds.bytes }
    }

    /// Three quarters, rounded up.
    const fn of_slot(bounds: &HoldBounds) -> Most {
        let Most { requests, bytes } = Most::of(bounds);
        Most { requests: requests - requests / 4, bytes: bytes - bytes / 4 }
    }
}

/// What a request that waits may take of memory: its head, and what of its body came along with it. The rest
/// of the body stays with the client.
pub(crate) fn weight(head: &Head) -> u64 {
    let most = BUFFER as u64;
    let body = match head.framing {
        Framing::None => 0,
        Framing::Length(length) => length.min(most),
        Framing::Chunked => most,
    };
    head.len as u64 + body
}

/// One of the requests that wait. It gives its room back when it is dropped.
pub(crate) struct Waiting<'a> {
    shared: &'a Shared,
    slot: Option<&'a Arc<SlotRoute>>,
    bytes: u64,
    since: Instant,
    /// As long as nothing else is known, whoever waits has left.
    end: WaitEnd,
}

impl<'a> Waiting<'a> {
    /// `None` when there is no room on the host, or none for this slot.
    pub(crate) fn begin(shared: &'a Shared, slot: Option<&'a Arc<SlotRoute>>, bytes: u64) -> Option<Self> {
        let bounds = &shared.config.hold;
        if !shared.room.take(bytes, Most::of(bounds)) {
            if let Some(slot) = slot {
                slot.waits.full();
            }
            return None;
        }
        if let Some(slot) = slot
            && !slot.room.take(bytes, Most::of_slot(bounds))
        {
            shared.room.give_back(bytes);
            slot.waits.full();
            return None;
        }
        bump(&shared.counters.held);
        Some(Self { shared, slot, bytes, since: Instant::now(), end: WaitEnd::ClientGone })
    }

    /// It waits no longer.
    pub(crate) fn ends(mut self, end: WaitEnd) {
        self.end = end;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let elapsed = self.since.elapsed();
        if let Some(slot) = self.slot {
            slot.waits.ended(self.end, elapsed);
        }
        let waited = millis(elapsed);
        for room in [Some(&self.shared.room), self.slot.map(|slot| &slot.room)].into_iter().flatten() {
            room.note(waited);
            room.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_slot_gets_three_quarters_of_the_host_s_room_and_at_least_a_place() {
        let most = |requests, bytes| {
            let most = Most::of_slot(&HoldBounds { time: Duration::from_secs(1), requests, bytes });
            (most.requests, most.bytes)
        };
        assert_eq!(most(1_000, 64 << 20), (750, 48 << 20));
        assert_eq!(most(2, 2), (2, 2));
        assert_eq!(most(1, 1), (1, 1));
        assert_eq!(most(0, 0), (0, 0));
    }

    #[test]
    fn room_is_bounded_in_requests_and_in_bytes_and_comes_back() {
        let (room, most) = (Room::default(), Most { requests: 2, bytes: 100 });
        assert!(room.take(60, most));
        assert!(!room.take(41, most));
        assert!(room.take(40, most));
        assert!(!room.take(0, most));
        room.give_back(60);
        assert!(room.take(0, most));
        assert_eq!((room.held().requests, room.held().bytes), (2, 40));
    }
}
