//! The queue of a slot: who waits, in the order of arrival, and when each may look at the slot again.
//!
//! A publication lets the first [`RELEASED_AT_ONCE`] look at once and then one each [`RELEASED_EVERY`], so that
//! a new generation does not meet all of them in one moment; never so slowly that the last of them waits longer
//! than [`RELEASED_WITHIN`] for its turn. What arrives meanwhile is admitted at once: it is the ordinary load,
//! and a queue that it joined might never end. Must not live here: what a look shows (that is `hold`).

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

pub(crate) const RELEASED_AT_ONCE: u32 = 8;
/// 500 in a second.
pub(crate) const RELEASED_EVERY: Duration = Duration::from_millis(2);
/// Well below any hold bound in use, so that nobody's wait ends for want of a turn.
pub(crate) const RELEASED_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    waiters: BTreeMap<u64, Arc<Waiter>>,
}

#[derive(Debug, Default)]
struct Waiter {
    call: Mutex<Call>,
    waker: AtomicWaker,
}

/// When a waiter may look at the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Call {
    /// When it is called.
    #[default]
    Waiting,
    /// Something serves: from this moment on.
    Turn(Instant),
    /// The slot has changed otherwise: at once.
    Now,
}

impl Queue {
    /// Takes a place at the end.
    pub(crate) fn enqueue(queue: &Arc<Queue>) -> Place {
        let waiter = Arc::new(Waiter::default());
        let mut waiting = queue.0.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.waiters.insert(number, waiter.clone());
        Place { queue: queue.clone(), number, waiter }
    }

    /// Something serves: gives out turns in the order of arrival.
    pub(crate) fn release(&self) {
        let (waiting, now) = (self.0.lock(), Instant::now());
        let count = u32::try_from(waiting.waiters.len()).unwrap_or(u32::MAX).max(1);
        let every = RELEASED_EVERY.min(RELEASED_WITHIN / count);
        for (rank, waiter) in (1u32..).zip(waiting.waiters.values()) {
            let behind = rank.saturating_sub(RELEASED_AT_ONCE);
            waiter.call(if behind == 0 { Call::Now } else { Call::Turn(now + every * behind) });
        }
    }

    /// Lets all look at once.
    pub(crate) fn call_all(&self) {
        self.0.lock().waiters.values().for_each(|waiter| waiter.call(Call::Now));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().waiters.len()
    }
}

impl Waiter {
    fn call(&self, call: Call) {
        *self.call.lock() = call;
        self.waker.wake();
    }

    /// Ready with a call that is not `known`.
    fn poll(&self, cx: &Context<'_>, known: Call) -> Poll<Call> {
        self.waker.register(cx.waker());
        let call = *self.call.lock();
        if call == known { Poll::Pending } else { Poll::Ready(call) }
    }
}

/// A place in the queue, in the order of arrival.
#[derive(Debug)]
pub(crate) struct Place {
    queue: Arc<Queue>,
    number: u64,
    waiter: Arc<Waiter>,
}

impl Place {
    /// Forgets the last call. To be followed by a look at the slot, and then by [`Place::called`]: a
    /// change after this moment is not missed.
    pub(crate) fn rearm(&self) {
        *self.waiter.call.lock() = Call::Waiting;
    }

    /// Resolves when it is this one's turn to look, or for all of them.
    pub(crate) async fn called(&self) {
        let mut known = Call::Waiting;
        loop {
            let changed = poll_fn(|cx| self.waiter.poll(cx, known));
            known = match known {
                Call::Now => return,
                Call::Waiting => changed.await,
                Call::Turn(at) => tokio::select! {
                    biased;
                    changed = changed => changed,
                    () = sleep_until(at) => return,
                },
            };
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.0.lock().waiters.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    /// Of `count` waiters in the order of their calls: number, and milliseconds since `what` was done.
    async fn calls(count: u64, leaves: &[u64], what: impl FnOnce(&Queue)) -> Vec<(u64, u128)> {
        let queue = Arc::new(Queue::default());
        let (tell, mut told) = mpsc::unbounded_channel();
        for number in 0..count {
            let place = Queue::enqueue(&queue);
            if leaves.contains(&number) {
                continue;
            }
            let tell = tell.clone();
            tokio::spawn(async move {
                place.called().await;
                tell.send((number, Instant::now())).ok();
            });
        }
        drop(tell);
        tokio::task::yield_now().await;
        let began = Instant::now();
        what(&queue);
        let mut calls = Vec::new();
        while let Some((number, at)) = told.recv().await {
            calls.push((number, (at - began).as_millis()));
        }
        assert_eq!(queue.len(), 0);
        calls
    }

    #[tokio::test(start_paused = true)]
    async fn a_publication_lets_eight_in_at_once_and_then_five_hundred_a_second_in_the_order_of_arrival() {
        let calls = calls(100, &[], Queue::release).await;
        let numbers: Vec<u64> = calls.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        for (rank, (_, at)) in (1u128..).zip(calls) {
            assert_eq!(at, 2 * rank.saturating_sub(8), "the {rank}th");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_of_many_does_not_wait_long_for_its_turn_and_those_who_left_take_none() {
        let many = calls(5_000, &[], Queue::release).await;
        assert_eq!(many.len(), 5_000);
        assert!(many.last().unwrap().1 <= RELEASED_WITHIN.as_millis());
        assert!(many.iter().filter(|(_, at)| *at < 1_000).count() < 2_600);
        let few = calls(12, &[0, 3, 5], Queue::release).await;
        assert_eq!(few.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 0, 0, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_publication_calls_all_at_once_also_those_who_wait_for_their_turn() {
        assert!(calls(50, &[], Queue::call_all).await.iter().all(|(_, at)| *at == 0));
        let both = |queue: &Queue| {
            queue.release();
            queue.call_all();
        };
        assert!(calls(50, &[], both).await.iter().all(|(_, at)| *at == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_after_rearm_is_not_missed_and_one_before_it_is_forgotten() {
        let queue = Arc::new(Queue::default());
        let place = Queue::enqueue(&queue);
        queue.release();
        place.called().await;
        place.rearm();
        assert!(tokio::time::timeout(Duration::from_secs(60), place.called()).await.is_err());
        queue.call_all();
        place.called().await;
    }
}
