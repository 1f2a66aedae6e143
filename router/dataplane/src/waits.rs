//! How the requests that wait for a slot fare: to what end, and after how long.
//!
//! Counted where a wait ends, with atomics alone. Must not live here: how many may wait (that is `room`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use supervisor_protocol::time::millis;

use crate::counters::bump;

/// To what end a request waited for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitEnd {
    /// Something serves, and has admitted it.
    Admitted,
    /// Nothing served within the bound.
    Expired,
    /// It was told meanwhile that nothing will serve in time, or not at all.
    Refused,
    /// Its client has gone, or its connection was ended.
    ClientGone,
    /// There was no room for it, so that it has not waited.
    Full,
}

impl WaitEnd {
    pub const ALL: [WaitEnd; 5] =
        [WaitEnd::Admitted, WaitEnd::Expired, WaitEnd::Refused, WaitEnd::ClientGone, WaitEnd::Full];

    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            WaitEnd::Admitted => "admitted",
            WaitEnd::Expired => "expired",
            WaitEnd::Refused => "refused",
            WaitEnd::ClientGone => "client_gone",
            WaitEnd::Full => "full",
        }
    }

    const fn index(self) -> usize {
        match self {
            WaitEnd::Admitted => 0,
            WaitEnd::Expired => 1,
            WaitEnd::Refused => 2,
            WaitEnd::ClientGone => 3,
            WaitEnd::Full => 4,
        }
    }
}

/// Upper bounds of the waits that are counted together, in milliseconds. What is longer than the last is counted
/// in the sum and the whole alone.
pub const WAITS_MS: [u64; 11] = [10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 60_000];

/// A reading of what has waited for one slot, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WaitCounts {
    /// Of each end of [`WaitEnd::ALL`], in that order.
    pub ends: [u64; WaitEnd::ALL.len()],
    /// Waits up to each bound of [`WAITS_MS`], and above the one before it.
    pub up_to: [u64; WAITS_MS.len()],
    /// All waits.
    pub waits: u64,
    /// How long all of them were together, in milliseconds.
    pub sum_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Waits {
    ends: [AtomicU64; WaitEnd::ALL.len()],
    up_to: [AtomicU64; WAITS_MS.len()],
    waits: AtomicU64,
    sum_ms: AtomicU64,
}

impl Waits {
    pub(crate) fn ended(&self, end: WaitEnd, waited: Duration) {
        self.found(end);
        let ms = millis(waited);
        let bucket = WAITS_MS.iter().zip(&self.up_to).find(|(bound, _)| ms <= **bound);
        if let Some((_, count)) = bucket {
            bump(count);
        }
        bump(&self.waits);
        self.sum_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// It found no room.
    pub(crate) fn full(&self) {
        self.found(WaitEnd::Full);
    }

    pub(crate) fn read(&self) -> WaitCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WaitCounts {
            ends: self.ends.each_ref().map(get),
            up_to: self.up_to.each_ref().map(get),
            waits: get(&self.waits),
            sum_ms: get(&self.sum_ms),
        }
    }

    fn found(&self, end: WaitEnd) {
        if let Some(count) = self.ends.get(end.index()) {
            bump(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_counted_once_under_its_end_and_its_length() {
        let waits = Waits::default();
        for (end, ms) in [(WaitEnd::Admitted, 10), (WaitEnd::Admitted, 11), (WaitEnd::Expired, 61_000)] {
            waits.ended(end, Duration::from_millis(ms));
        }
        waits.full();
        let read = waits.read();
        assert_eq!(read.ends, [2, 1, 0, 0, 1]);
        assert_eq!((read.up_to[0], read.up_to[1], read.up_to.iter().sum::<u64>()), (1, 1, 2));
        assert_eq!((read.waits, read.sum_ms), (3, 61_021));
        for (index, end) in WaitEnd::ALL.into_iter().enumerate() {
            assert_eq!(end.index(), index);
        }
    }
}
