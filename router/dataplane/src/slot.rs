//! What a slot's requests meet: a target, or its absence; and the queue of those who wait for one.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use arc_swap::ArcSwap;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use router_core::leases::History;
use supervisor_protocol::{Refusal, Tick};

use crate::target::Target;

/// How many waiting requests a publication wakes at once. Each of them wakes the next when it has been
/// admitted, so that a new generation does not meet them all in one moment.
const RELEASED_AT_ONCE: usize = 8;

/// Why nothing serves a slot, and what its requests meet meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// Approved, but nothing serves now: requests wait within the hold bounds. Where the forecast lies
    /// beyond them they are refused at once, with a `Retry-After`.
    Hold {
        /// When something is expected to serve, on the plane's clock.
        forecast: Option<Tick>,
    },
    /// Requests are refused.
    Refuse { refusal: Refusal, retry_after_s: Option<u32> },
}

/// The route of one slot. Readers never wait for a writer.
pub struct SlotRoute {
    state: ArcSwap<SlotState>,
    history: Mutex<History>,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
pub(crate) enum SlotState {
    Serving(Arc<Target>),
    Absent(Absence),
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, Arc<Waiter>>,
}

#[derive(Debug, Default)]
struct Waiter {
    woken: AtomicBool,
    waker: AtomicWaker,
}

impl Waiter {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl SlotRoute {
    /// A slot that nothing serves yet.
    #[must_use]
    pub fn new(absence: Absence) -> Arc<Self> {
        Arc::new(Self {
            state: ArcSwap::from_pointee(SlotState::Absent(absence)),
            history: Mutex::default(),
            queue: Mutex::default(),
        })
    }

    /// Makes `target` the one that serves, at once and for every worker, and gives back the one that did.
    /// The caller retires that one afterwards, never before.
    pub fn publish(&self, target: Arc<Target>) -> Option<Arc<Target>> {
        if let Some(current) = self.current() {
            *self.history.lock() = current.history();
        }
        target.inherit(&self.history.lock());
        let before = self.state.swap(Arc::new(SlotState::Serving(target)));
        self.wake(RELEASED_AT_ONCE);
        serving(&before)
    }

    /// The one that serves.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Target>> {
        serving(&self.state.load())
    }

    /// Nothing serves from now on. Also changes one absence into another.
    pub fn withdraw(&self, absence: Absence) -> Option<Arc<Target>> {
        let before = self.state.swap(Arc::new(SlotState::Absent(absence)));
        let target = serving(&before);
        if let Some(target) = &target {
            *self.history.lock() = target.history();
        }
        self.wake(usize::MAX);
        target
    }

    /// How many requests wait for this slot.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }

    pub(crate) fn state(&self) -> arc_swap::Guard<Arc<SlotState>> {
        self.state.load()
    }

    /// Takes a place at the end of the queue.
    pub(crate) fn enqueue(self: &Arc<Self>) -> Place {
        let waiter = Arc::new(Waiter::default());
        let mut queue = self.queue.lock();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.insert(number, waiter.clone());
        Place { slot: self.clone(), number, waiter }
    }

    /// Lets the first of those who wait look at the slot again.
    pub(crate) fn wake(&self, most: usize) {
        let queue = self.queue.lock();
        queue.waiting.values().filter(|waiter| !waiter.woken.load(Ordering::Acquire)).take(most).for_each(|w| w.wake());
    }
}

impl fmt::Debug for SlotRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotRoute").field("state", &**self.state.load()).finish_non_exhaustive()
    }
}

fn serving(state: &SlotState) -> Option<Arc<Target>> {
    match state {
        SlotState::Serving(target) => Some(target.clone()),
        SlotState::Absent(_) => None,
    }
}

/// A place in the queue of a slot, in the order of arrival. Leaving it lets the next one go.
#[derive(Debug)]
pub(crate) struct Place {
    slot: Arc<SlotRoute>,
    number: u64,
    waiter: Arc<Waiter>,
}

impl Place {
    /// Forgets the last call. To be followed by a look at the slot, and then by [`Place::called`]: a
    /// change after this moment is not missed.
    pub(crate) fn rearm(&self) {
        self.waiter.woken.store(false, Ordering::Release);
    }

    /// Resolves when the slot has changed since [`Place::rearm`].
    pub(crate) async fn called(&self) {
        poll_fn(|cx| {
            self.waiter.waker.register(cx.waker());
            if self.waiter.woken.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slot.queue.lock().waiting.remove(&self.number);
        if serving(&self.slot.state.load()).is_some() {
            self.slot.wake(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::target::{TargetLabel, Upstream};
    use supervisor_protocol::{Generation, Nonce, ServiceName, VersionName};

    fn target(generation: u64) -> Arc<Target> {
        let label = TargetLabel {
            service: ServiceName::new("svc").unwrap(),
            version: VersionName::new("v1").unwrap(),
            generation: Generation(generation),
        };
        let upstream = Upstream::Tcp(([127, 0, 0, 1], 9).into());
        Target::new(label, Nonce::new("n").unwrap(), upstream, Clock::start())
    }

    #[test]
    fn f02_a_publication_is_visible_before_the_old_target_is_given_back() {
        let slot = SlotRoute::new(Absence::Hold { forecast: None });
        assert!(slot.current().is_none());
        assert!(slot.publish(target(1)).is_none());
        let old = slot.publish(target(2)).unwrap();
        assert_eq!(old.label().generation, Generation(1));
        assert!(!old.is_retired());
        assert_eq!(slot.current().unwrap().label().generation, Generation(2));
    }

    #[test]
    fn places_are_called_in_the_order_of_arrival_and_pass_the_call_on() {
        let slot = SlotRoute::new(Absence::Hold { forecast: None });
        let mut places: Vec<Place> = (0..20).map(|_| slot.enqueue()).collect();
        let woken = |places: &[Place]| -> Vec<u64> {
            places.iter().filter(|p| p.waiter.woken.load(Ordering::Acquire)).map(|p| p.number).collect()
        };
        slot.publish(target(1));
        assert_eq!(woken(&places), (0..8).collect::<Vec<_>>());
        places.drain(..2);
        assert_eq!(woken(&places), (2..10).collect::<Vec<_>>());
        slot.withdraw(Absence::Hold { forecast: None });
        assert_eq!(woken(&places).len(), 18);
        assert_eq!(slot.waiting(), 18);
    }

    #[tokio::test]
    async fn idle_resolves_with_the_last_lease_and_cut_ends_a_class() {
        let target = target(1);
        let connection = Arc::new(Flag::default());
        let request = target.acquire(connection.clone()).unwrap();
        let stream = target.acquire(connection.clone()).unwrap();
        stream.reclass(StreamClass::Stream);
        assert!(stream.begin_response());
        target.retire();
        assert!(target.acquire(connection.clone()).is_none());

        let idle = tokio::spawn({
            let target = target.clone();
            async move { target.idle().await }
        });
        target.cut(StreamClass::Stream);
        assert!(connection.is_raised());
        assert_eq!(target.load().inflight, 1);
        assert_eq!(target.load().ended.cut.stream, 1);
        drop(stream);
        drop(request);
        idle.await.unwrap();
        assert_eq!(target.load().ended.client_gone.request, 1);
        assert_eq!(target.load().ended.total(), 2);
    }

    use crate::signal::Flag;
    use supervisor_protocol::StreamClass;
}
