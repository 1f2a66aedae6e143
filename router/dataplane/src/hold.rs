//! Admission: a lease on what serves a slot, or a bounded wait for something that does, and before that for
//! the first table of routes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use supervisor_protocol::Refusal;
use supervisor_protocol::time::millis;
use tokio::time::Instant;

use crate::client::Client;
use crate::plane::Shared;
use crate::refuse::Refused;
use crate::room::Waiting;
use crate::slot::{Absence, SlotRoute, SlotState};
use crate::target::{Lease, Target};
use crate::waits::WaitEnd;

/// What came of asking for a lease.
pub(crate) enum Admission {
    Admitted(Lease),
    Refused(Refused),
    ClientGone,
}

/// Why a request did not get as far as a table of routes.
pub(crate) enum NoTable {
    Refused(Refused),
    ClientGone,
}

/// Waits until the table of routes is known. Gives back the deadline, which further waits share.
pub(crate) async fn first_table(shared: &Shared, client: &Client, weight: u64) -> Result<Instant, NoTable> {
    let Some(_waiting) = Waiting::begin(shared, None, weight) else {
        return Err(NoTable::Refused(Refused::new(Refusal::HoldFull)));
    };
    let deadline = Instant::now() + shared.config.hold.time;
    loop {
        let mut changed = pin!(shared.changed.notified());
        changed.as_mut().enable();
        if let Some(refusal) = shared.closed.load().as_deref() {
            return Err(NoTable::Refused(Refused::new(*refusal)));
        }
        if !shared.table.load().is_pending() {
            return Ok(deadline);
        }
        tokio::select! {
            biased;
            () = changed => {}
            () = client.reset() => return Err(NoTable::ClientGone),
            () = tokio::time::sleep_until(deadline) => {
                return Err(NoTable::Refused(Refused::new(Refusal::NotServing)));
            }
        }
    }
}

/// A target that has just failed: another one is waited for, briefly.
#[derive(Debug, Clone)]
pub(crate) struct Avoid {
    pub(crate) target: Arc<Target>,
    /// What happens when no other comes: the answer, or `None` = the same one is tried again.
    pub(crate) otherwise: Option<Refusal>,
}

/// The admission of one request, over all its attempts.
pub(crate) struct Hold<'a> {
    shared: &'a Shared,
    client: &'a Client,
    slot: &'a Arc<SlotRoute>,
    weight: u64,
    /// Set by the first wait: all waits of a request share one bound.
    deadline: Option<Instant>,
}

/// What one look at the slot showed.
enum Look {
    Lease(Lease),
    Refused(Refused),
    /// Nothing serves; and when something is expected to.
    Absent(Option<Duration>),
    /// Only the target to be avoided serves.
    Avoided,
}

impl<'a> Hold<'a> {
    /// `weight`: what it takes of memory while it waits; `deadline`: that of a wait which came before.
    pub(crate) fn new(
        shared: &'a Shared,
        client: &'a Client,
        slot: &'a Arc<SlotRoute>,
        weight: u64,
        deadline: Option<Instant>,
    ) -> Self {
        Self { shared, client, slot, weight, deadline }
    }

    /// A lease on what serves now, or within the bounds.
    pub(crate) async fn admit(&mut self, avoid: Option<Avoid>) -> Admission {
        match self.look(avoid.as_ref()) {
            Look::Lease(lease) => Admission::Admitted(lease),
            Look::Refused(refused) => Admission::Refused(refused),
            Look::Absent(_) | Look::Avoided => self.wait(avoid).await,
        }
    }

    async fn wait(&mut self, avoid: Option<Avoid>) -> Admission {
        let Some(waiting) = Waiting::begin(self.shared, Some(self.slot), self.weight) else {
            return Admission::Refused(Refused::new(Refusal::HoldFull));
        };
        let admission = self.wait_in_room(avoid).await;
        waiting.ends(match &admission {
            Admission::Admitted(_) => WaitEnd::Admitted,
            Admission::Refused(refused) if refused.refusal == Refusal::HoldExpired => WaitEnd::Expired,
            Admission::Refused(_) => WaitEnd::Refused,
            Admission::ClientGone => WaitEnd::ClientGone,
        });
        admission
    }

    async fn wait_in_room(&mut self, avoid: Option<Avoid>) -> Admission {
        let bounds = self.shared.config.hold;
        let now = Instant::now();
        let deadline = *self.deadline.get_or_insert(now + bounds.time);
        let patience = deadline.min(now + self.shared.config.not_admitted_wait);
        let mut avoid = avoid;

        let place = self.slot.enqueue();
        loop {
            place.rearm();
            if let Some(refusal) = self.shared.closed.load().as_deref() {
                return Admission::Refused(Refused::new(*refusal));
            }
            let (until, expected) = match self.look(avoid.as_ref()) {
                Look::Lease(lease) => return Admission::Admitted(lease),
                Look::Refused(refused) => return Admission::Refused(refused),
                Look::Avoided => (patience, None),
                Look::Absent(expected) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if expected.is_some_and(|expected| expected > left) {
                        return Admission::Refused(Refused::after(Refusal::NotServing, seconds(expected)));
                    }
                    (deadline, expected)
                }
            };
            tokio::select! {
                biased;
                () = place.called() => {}
                // Not the end of input: a client may end its half once it has asked.
                () = self.client.reset() => return Admission::ClientGone,
                () = tokio::time::sleep_until(until) => {
                    // Something may serve already, and its turn is still to come: nobody is refused for that.
                    if let Look::Lease(lease) = self.look(avoid.as_ref()) {
                        return Admission::Admitted(lease);
                    }
                    match avoid.take() {
                        Some(Avoid { otherwise: Some(refusal), .. }) if until == patience => {
                            return Admission::Refused(Refused::new(refusal));
                        }
                        Some(_) if until < deadline => {}
                        Some(_) | None => {
                            return Admission::Refused(Refused::after(Refusal::HoldExpired, seconds(expected)));
                        }
                    }
                }
            }
        }
    }

    fn look(&self, avoid: Option<&Avoid>) -> Look {
        // A target that is retired has a successor by then; should it lie about that, the slot is absent.
        for _ in 0..3 {
            match &**self.slot.state() {
                SlotState::Serving(target) if avoid.is_some_and(|avoid| Arc::ptr_eq(&avoid.target, target)) => {
                    return Look::Avoided;
                }
                SlotState::Serving(target) => {
                    if let Some(lease) = target.acquire(self.client.abort.clone()) {
                        return Look::Lease(lease);
                    }
                }
                SlotState::Absent(Absence::Hold { forecast }) => {
                    let now = self.shared.config.clock.now();
                    return Look::Absent(forecast.map(|forecast| forecast.since(now)));
                }
                SlotState::Absent(Absence::Refuse { refusal, retry_after_s }) => {
                    return Look::Refused(Refused::after(*refusal, *retry_after_s));
                }
            }
        }
        Look::Absent(None)
    }
}

fn seconds(wait: Option<Duration>) -> Option<u32> {
    wait.map(|wait| u32::try_from(millis(wait).div_ceil(1_000).max(1)).unwrap_or(u32::MAX))
}
