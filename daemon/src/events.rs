//! What has happened, numbered, in a ring of bounded length: written wherever something happens, read by the event
//! stream of an admin API. Must not live here: what an event means, and how a stream is framed.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use supervisor_protocol::events::{Event, Happens};
use supervisor_protocol::time::millis;
use supervisor_protocol::{BootNonce, Tick};
use tokio::sync::watch;

/// Events that are remembered.
const KEPT: usize = 1_000;

/// The ring. Writing never waits for a reader.
#[derive(Debug)]
pub struct Events<W> {
    kept: Mutex<VecDeque<Event<W>>>,
    last: watch::Sender<u64>,
    boot: BootNonce,
    started: Tick,
}

/// Where one reader is.
#[derive(Debug)]
pub struct EventReader<W> {
    events: Arc<Events<W>>,
    after: u64,
    waiting: VecDeque<Event<W>>,
    changes: watch::Receiver<u64>,
}

/// It is not the id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Last-Event-ID is the id of an event of this stream")]
pub struct NoEventId;

impl<W: Happens> Events<W> {
    /// An empty ring of a daemon with this nonce, which started at this tick.
    #[must_use]
    pub fn new(boot: BootNonce, started: Tick) -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), last: watch::Sender::new(0), boot, started })
    }

    /// Adds an event.
    pub fn push(&self, what: W, now: Tick) {
        let mut kept = self.kept.lock();
        let number = *self.last.borrow() + 1;
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Event { number, at_ms: millis(now.since(self.started)), what });
        self.last.send_replace(number);
    }

    /// The id of an event in the stream.
    #[must_use]
    pub fn id(&self, event: &Event<W>) -> String {
        format!("{}-{}", self.boot, event.number)
    }

    /// A reader that begins after the event of this id; with everything that is remembered where there is none.
    ///
    /// # Errors
    /// The text is no id.
    pub fn reader(self: &Arc<Self>, last_id: Option<&str>) -> Result<EventReader<W>, NoEventId> {
        let after = match last_id {
            None => 0,
            Some(id) => {
                let (boot, number) = id.rsplit_once('-').ok_or(NoEventId)?;
                let number = number.parse().map_err(|_| NoEventId)?;
                // Of another life of the daemon: everything of this one is new.
                if boot == self.boot.as_str() { number } else { 0 }
            }
        };
        Ok(EventReader { events: self.clone(), after, waiting: VecDeque::new(), changes: self.last.subscribe() })
    }

    /// The events after a number, oldest first. What is no longer remembered is said to be missed.
    fn after(&self, number: u64) -> Vec<Event<W>> {
        let kept = self.kept.lock();
        let mut events: Vec<Event<W>> = kept.iter().filter(|event| event.number > number).cloned().collect();
        if let Some(first) = events.first()
            && first.number > number + 1
            && number > 0
        {
            let (missed, at_ms) = (first.number - number - 1, first.at_ms);
            events.insert(0, Event { number: number + missed, at_ms, what: W::missed(missed) });
        }
        events
    }
}

impl<W: Happens> EventReader<W> {
    /// The next event with its id, once there is one. `None` when there will be no more.
    pub async fn next(&mut self) -> Option<(String, Event<W>)> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.after = event.number;
                return Some((self.events.id(&event), event));
            }
            self.changes.borrow_and_update();
            self.waiting = self.events.after(self.after).into();
            if self.waiting.is_empty() {
                self.changes.changed().await.ok()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::events::Happening;
    use supervisor_protocol::host::HostState;

    use super::*;

    fn ring() -> Arc<Events<Happening>> {
        Events::new(BootNonce::new("b1").unwrap(), Tick::ZERO)
    }

    #[test]
    fn a_reader_goes_on_where_it_was_and_is_told_what_it_has_missed() {
        let events = ring();
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
        assert_eq!(*events.last.borrow(), 3 + KEPT as u64);
    }

    #[tokio::test]
    async fn an_id_is_gone_on_after_one_of_another_life_is_not_and_anything_else_is_none() {
        let events = ring();
        (0..3).for_each(|_| events.push(Happening::Host { state: HostState::Serving }, Tick::ZERO));
        for (last, first) in [(None, "b1-1"), (Some("b1-2"), "b1-3"), (Some("b0-2"), "b1-1")] {
            let mut reader = events.reader(last).unwrap();
            assert_eq!(reader.next().await.unwrap().0, first, "{last:?}");
        }
        for wrong in ["", "b1", "b1-x", "7"] {
            assert_eq!(events.reader(Some(wrong)).err(), Some(NoEventId), "{wrong}");
        }
        let mut reader = events.reader(Some("b1-3")).unwrap();
        let (next, ()) = tokio::join!(reader.next(), async {
            events.push(Happening::Host { state: HostState::Stopped }, Tick::ZERO);
        });
        assert_eq!(next.unwrap().0, "b1-4");
    }
}
