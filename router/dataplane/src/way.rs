//! How a request comes to a target: through the one slot that it is for, or from choice to choice in a pool.
//!
//! Must not live here: the sending (that is `forward`), and the wait for a slot (that is `hold`).

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use router_core::choose::Failed;
use router_core::retry::{BodyState, Decision, Failure, decide};
use supervisor_protocol::Refusal;
use supervisor_protocol::headers::LAST_RESORT;

use crate::client::Client;
use crate::forward::Over;
use crate::hold::{Admission, Avoid, Hold};
use crate::pools::{Attempt, Choices};
use crate::refuse::Refused;
use crate::target::Target;

/// The way of one request, over all its attempts.
pub(crate) enum Way<'a> {
    Slot { hold: Hold<'a>, avoid: Option<Avoid> },
    Pool { next: Attempt, choices: Box<dyn Choices>, client: &'a Client },
}

/// An attempt that failed, and what it leaves.
pub(crate) struct Lost {
    pub(crate) target: Arc<Target>,
    pub(crate) failure: Failure,
    pub(crate) over: Over,
    pub(crate) is_idempotent: bool,
    pub(crate) body: BodyState,
    pub(crate) attempts_left: u32,
}

impl<'a> Way<'a> {
    pub(crate) fn to_slot(hold: Hold<'a>) -> Self {
        Way::Slot { hold, avoid: None }
    }

    pub(crate) fn in_pool(first: Attempt, choices: Box<dyn Choices>, client: &'a Client) -> Self {
        Way::Pool { next: first, choices, client }
    }

    /// A lease on what is to be tried now.
    pub(crate) async fn admit(&mut self) -> Admission {
        match self {
            Way::Slot { hold, avoid } => hold.admit(avoid.take()).await,
            Way::Pool { next, choices, client } => loop {
                if let Some(lease) = next.target.acquire(client.abort.clone()) {
                    return Admission::Admitted(lease);
                }
                // It left the pool between the choice and this.
                let left = Failed {
                    failure: Failure::NotSent,
                    is_idempotent: true,
                    body: BodyState::Unread,
                    attempts_left: 1,
                };
                match choices.failed(left) {
                    Ok(other) => *next = other,
                    Err(refused) => return Admission::Refused(refused.into()),
                }
            },
        }
    }

    /// What the one that is tried now is to be told beside the request.
    pub(crate) fn stamp(&self) -> Option<(HeaderName, HeaderValue)> {
        let is_last_resort = match self {
            Way::Slot { .. } => false,
            Way::Pool { next, .. } => next.is_last_resort,
        };
        is_last_resort.then(|| (HeaderName::from_static(LAST_RESORT), HeaderValue::from_static("1")))
    }

    /// Goes on to the next attempt, unless this was the last.
    pub(crate) fn failed(&mut self, lost: Lost) -> Result<(), Refused> {
        let Lost { target, failure, over, is_idempotent, body, attempts_left } = lost;
        match self {
            Way::Slot { avoid, .. } => match decide(failure, is_idempotent, body, attempts_left) {
                Decision::GiveUp(refusal) => Err(Refused::new(refusal)),
                Decision::RetryElsewhere => {
                    *avoid = match (failure, over) {
                        (Failure::NotAdmitted, _) => Some(Avoid { target, otherwise: Some(Refusal::ChildDraining) }),
                        // Whoever owns the child notices its end too, and says what serves instead. One that is
                        // dying may still take a connection, and with it an attempt.
                        (Failure::NotSent, _) | (Failure::NoResponse, Over::New) => {
                            Some(Avoid { target, otherwise: None })
                        }
                        (Failure::NoResponse, Over::Kept) | (Failure::BadResponse, _) => None,
                    };
                    Ok(())
                }
            },
            Way::Pool { next, choices, .. } => {
                *next = choices.failed(Failed { failure, is_idempotent, body, attempts_left })?;
                Ok(())
            }
        }
    }
}

impl From<crate::pools::Refused> for Refused {
    fn from(refused: crate::pools::Refused) -> Self {
        Refused::after(refused.refusal, refused.retry_after_s)
    }
}
