//! What has happened, numbered, in a ring of bounded length: written by the board, the actors and the admin
//! API, read by the event stream. Must not live here: what an event means.

use std::collections::VecDeque;

use parking_lot::Mutex;
use supervisor_protocol::Tick;
use supervisor_protocol::events::{Event, Happening};
use supervisor_protocol::time::millis;
use tokio::sync::watch;

/// Events that are remembered.
const KEPT: usize = 1_000;

/// The ring. Writing never waits for a reader.
pub(crate) struct Events {
    kept: Mutex<VecDeque<Event>>,
    last: watch::Sender<u64>,
    started: Tick,
}

impl Events {
    /// An empty ring of a daemon that started at this tick.
    pub(crate) fn new(started: Tick) -> Events {
        Events { kept: Mutex::default(), last: watch::Sender::new(0), started }
    }

    /// Adds an event.
    pub(crate) fn push(&self, what: Happening, now: Tick) {
        let mut kept = self.kept.lock();
        let number = *self.last.borrow() + 1;
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Event { number, at_ms: millis(now.since(self.started)), what });
        self.last.send_replace(number);
    }

    /// The events after a number, oldest first. What is no longer remembered is said to be missed.
    pub(crate) fn after(&self, number: u64) -> Vec<Event> {
        let kept = self.kept.lock();
        let mut events: Vec<Event> = kept.iter().filter(|event| event.number > number).cloned().collect();
        if let Some(first) = events.first()
            && first.number > number + 1
            && number > 0
        {
            let (missed, at_ms) = (first.number - number - 1, first.at_ms);
            let what = Happening::Missed { events: missed };
            events.insert(0, Event { number: number + missed, at_ms, what });
        }
        events
    }

    /// The number of the last event, as it grows.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::host::HostState;

    use super::*;

    #[test]
    fn a_reader_goes_on_where_it_was_and_is_told_what_it_has_missed() {
        let events = Events::new(Tick::ZERO);
        let happened = || events.push(Happening::Host { state: HostState::Serving }, Tick::ZERO);
        let numbers = |after| events.after(after).iter().map(|event| event.number).collect::<Vec<_>>();
        assert_eq!(numbers(0), [0; 0]);
        (0..3).for_each(|_| happened());
        assert_eq!((numbers(0), numbers(2), numbers(3)), (vec![1, 2, 3], vec![3], vec![]));
        (0..KEPT).for_each(|_| happened());
        let since_one = events.after(1);
        assert_eq!(since_one[0].what, Happening::Missed { events: 2 });
        // The place of what is missed is its last number, so that a reader who stops there misses nothing twice.
        assert_eq!((since_one[0].number, since_one[1].number, since_one.len()), (3, 4, KEPT + 1));
        // Whoever has seen nothing has not missed anything either.
        assert_eq!(events.after(0)[0].number, 4);
        assert_eq!(*events.changes().borrow(), 3 + KEPT as u64);
    }
}
