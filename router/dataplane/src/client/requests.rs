//! The requests of one HTTP/1 connection: what its filter tells the request path, and the other way round.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use router_core::head::{Head, HeadViolation};
use supervisor_protocol::Refusal;

use super::conn::Conn;

/// What was found of a request, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announced {
    Head(Head),
    /// Answer it with the refusal and close. Over HTTP/1 the request itself is a stand-in.
    Refused(HeadRefused),
}

/// Why a head was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadRefused {
    #[error(transparent)]
    Violation(HeadViolation),
    #[error("the head did not come in time")]
    Timeout,
}

impl HeadRefused {
    pub(crate) const fn refusal(self) -> Refusal {
        match self {
            HeadRefused::Violation(violation) => violation.refusal(),
            HeadRefused::Timeout => Refusal::HeadTimeout,
        }
    }
}

/// Whether a request that asked for another protocol got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Open,
    Denied,
    Granted,
}

const OPEN: u8 = 0;
const DENIED: u8 = 1;
const GRANTED: u8 = 2;

pub(super) struct Requests {
    conn: Arc<Conn>,
    announced: Mutex<VecDeque<Announced>>,
    verdict: AtomicU8,
    verdict_waker: AtomicWaker,
    body_violation: Mutex<Option<HeadViolation>>,
}

impl Requests {
    pub(super) fn new(conn: Arc<Conn>) -> Arc<Self> {
        Arc::new(Self {
            conn,
            announced: Mutex::default(),
            verdict: AtomicU8::new(OPEN),
            verdict_waker: AtomicWaker::new(),
            body_violation: Mutex::default(),
        })
    }

    pub(super) const fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    /// Called by the filter before hyper sees the request.
    pub(super) fn announce(&self, announced: Announced) {
        match announced {
            Announced::Head(head) => self.conn.reset_shows(head.http_10),
            Announced::Refused(_) => self.conn.linger(),
        }
        self.announced.lock().push_back(announced);
    }

    /// What was announced for the request that hyper gives out now. It sees no head that was not announced.
    pub(super) fn next(&self) -> Announced {
        let unannounced = Announced::Refused(HeadRefused::Violation(HeadViolation::RequestLine));
        self.announced.lock().pop_front().unwrap_or(unannounced)
    }

    /// The body of the current request breaks the grammar.
    pub(super) fn refuse_body(&self, violation: HeadViolation) {
        self.conn.linger();
        *self.body_violation.lock() = Some(violation);
    }

    pub(super) fn body_violation(&self) -> Option<HeadViolation> {
        *self.body_violation.lock()
    }

    pub(super) fn decide_upgrade(&self, granted: bool) {
        self.verdict.store(if granted { GRANTED } else { DENIED }, Ordering::Release);
        self.verdict_waker.wake();
    }

    /// The decision, once; open until it has been made.
    pub(super) fn take_verdict(&self, cx: &Context<'_>) -> Verdict {
        self.verdict_waker.register(cx.waker());
        match self.verdict.swap(OPEN, Ordering::AcqRel) {
            GRANTED => Verdict::Granted,
            DENIED => Verdict::Denied,
            _ => Verdict::Open,
        }
    }
}
