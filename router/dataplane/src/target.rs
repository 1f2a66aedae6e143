//! One generation as the plane sees it: where it listens, what it has admitted, and its end.
//!
//! A request holds a [`Lease`] from admission to the last byte of its response. A target that is retired
//! gives out no more of them, until it is restored; [`Target::idle`] resolves when the last has ended.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http::header::HeaderName;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use router_core::leases::{CLASS_DEADLINES, Ended, History, How, LeaseBook, LeaseId};
use supervisor_protocol::headers::{HOST, HostStamp, NOT_ADMITTED, NotAdmitted};
use supervisor_protocol::time::millis;
use supervisor_protocol::{ByClass, Generation, HostId, Nonce, ServiceName, StreamClass, VersionName};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::signal::{Flag, LeaseSignal};
use crate::upstream::{Dial, IdlePool};

/// What a target is called in logs, metrics and status.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetLabel {
    /// A supervisor's child.
    Generation { service: ServiceName, version: VersionName, generation: Generation },
    /// A member of a router's pool.
    Host { pool: String, host: String },
}

impl fmt::Display for TargetLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetLabel::Generation { service, version, generation } => write!(f, "{service}/{version} {generation}"),
            TargetLabel::Host { pool, host } => write!(f, "{pool} {host}"),
        }
    }
}

/// Whose word it is that a request was not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Voucher {
    /// Of the child that was given this nonce.
    Nonce(Nonce),
    /// Of the host of this identity, which names its nonce in the same answer: nobody behind it can.
    Host(HostId),
    /// Nobody's: a 503 is an answer.
    Nobody,
}

impl Voucher {
    /// Whether an answer says, in a voice that is believed, that no work was begun.
    pub(crate) fn not_admitted(&self, headers: &HeaderMap) -> bool {
        let said: Option<NotAdmitted> = parsed(headers, NOT_ADMITTED);
        match (self, said) {
            (Voucher::Nonce(nonce), Some(said)) => said.nonce == *nonce,
            (Voucher::Host(id), Some(said)) => parsed::<HostStamp>(headers, HOST)
                .is_some_and(|stamp| stamp.id == *id && stamp.boot.as_str() == said.nonce.as_str()),
            (Voucher::Nobody, _) | (_, None) => false,
        }
    }
}

fn parsed<T: FromStr>(headers: &HeaderMap, name: &'static str) -> Option<T> {
    headers.get(HeaderName::from_static(name))?.to_str().ok()?.parse().ok()
}

/// The work of a target at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    pub retired: bool,
    pub by_class: ByClass<u64>,
    pub inflight: u64,
    /// The age of the oldest lease, in milliseconds; zero when there is none.
    pub oldest_ms: u64,
    /// Leases ever admitted.
    pub admitted: u64,
    /// Leases ended, by class and by how.
    pub ended: Ended,
    /// When the target is expected to be empty, in milliseconds from now.
    pub forecast_ms: u64,
    /// The longest life among the leases that ended since the target was retired.
    pub longest_since_retired_ms: Option<u64>,
}

/// What a child itself has answered: neither refusals of the plane, nor connections that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answered {
    pub all: u64,
    /// Answers whose status says that the child has failed (5xx).
    pub errors: u64,
}

/// One generation in the data plane.
pub struct Target {
    label: TargetLabel,
    voucher: Voucher,
    dial: Dial,
    clock: Clock,
    book: Mutex<LeaseBook<Arc<LeaseSignal>>>,
    emptied: Notify,
    answered: AtomicU64,
    errors: AtomicU64,
    pub(crate) pool: IdlePool,
}

impl Target {
    /// A target that admits.
    #[must_use]
    pub fn new(label: TargetLabel, voucher: Voucher, dial: impl Into<Dial>, clock: Clock) -> Arc<Target> {
        Arc::new(Target {
            label,
            voucher,
            dial: dial.into(),
            clock,
            book: Mutex::new(LeaseBook::default()),
            emptied: Notify::new(),
            answered: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            pool: IdlePool::default(),
        })
    }

    #[must_use]
    pub fn label(&self) -> &TargetLabel {
        &self.label
    }

    pub(crate) fn voucher(&self) -> &Voucher {
        &self.voucher
    }

    #[must_use]
    pub fn dial(&self) -> &Dial {
        &self.dial
    }

    /// The work at this moment.
    #[must_use]
    pub fn load(&self) -> Load {
        let now = self.clock.now();
        let book = self.book.lock();
        Load {
            retired: book.is_retired(),
            by_class: *book.counts(),
            inflight: book.counts().total(),
            oldest_ms: millis(book.oldest(now)),
            admitted: book.admitted(),
            ended: *book.ended(),
            forecast_ms: millis(book.forecast(now, &CLASS_DEADLINES)),
            longest_since_retired_ms: book.longest_since_retired().map(millis),
        }
    }

    /// The live leases.
    #[must_use]
    pub fn inflight(&self) -> u64 {
        self.book.lock().counts().total()
    }

    /// What the child has answered since it was made a target.
    #[must_use]
    pub fn answered(&self) -> Answered {
        // An error is counted after its answer, and read before it.
        let errors = self.errors.load(Ordering::Acquire);
        Answered { all: self.answered.load(Ordering::Relaxed), errors }
    }

    pub(crate) fn count_answer(&self, status: StatusCode) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if status.is_server_error() {
            self.errors.fetch_add(1, Ordering::Release);
        }
    }

    /// Nothing is admitted from now on; unused connections to the child are closed. What was admitted
    /// goes on. Publish a successor first.
    pub fn retire(&self) {
        let empty = {
            let mut book = self.book.lock();
            book.retire();
            book.is_empty()
        };
        self.pool.close();
        if empty {
            self.emptied.notify_waiters();
        }
    }

    /// Takes [`Target::retire`] back: it admits again. What it had admitted was counted all the time and still
    /// is. To be called before it is published again; until then only a request finds it that had looked
    /// before it was withdrawn.
    pub fn restore(&self) {
        self.book.lock().restore();
        self.pool.reopen();
    }

    /// Whether it admits nothing: [`Target::retire`] was called, and not taken back.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.book.lock().is_retired()
    }

    /// Resolves when no lease is live. Of lasting meaning only while the target is retired.
    pub async fn idle(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.book.lock().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Ends every lease of the class now. A client whose response has not begun gets a typed 504; any
    /// other sees its connection aborted, never a clean end.
    pub fn cut(&self, class: StreamClass) {
        let (signals, empty) = {
            let mut book = self.book.lock();
            (book.cut(class, self.clock.now()), book.is_empty())
        };
        for signal in signals {
            signal.cut();
        }
        if empty {
            self.emptied.notify_waiters();
        }
    }

    /// Admits one request; `None` when the target is retired. `connection` is aborted when the lease is
    /// cut after its response has begun.
    pub(crate) fn acquire(self: &Arc<Self>, connection: Arc<Flag>) -> Option<Lease> {
        let signal = Arc::new(LeaseSignal::new(connection));
        let id = self.book.lock().admit(StreamClass::Request, self.clock.now(), signal.clone()).ok()?;
        Some(Lease { target: self.clone(), id, signal, open: true })
    }

    pub(crate) fn history(&self) -> History {
        self.book.lock().history().clone()
    }

    pub(crate) fn inherit(&self, history: &History) {
        self.book.lock().inherit(history);
    }

    fn finish(&self, id: LeaseId, how: How) {
        let empty = {
            let mut book = self.book.lock();
            book.finish(id, self.clock.now(), how);
            book.is_empty()
        };
        if empty {
            self.emptied.notify_waiters();
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("label", &self.label).field("to", &self.dial.to).finish_non_exhaustive()
    }
}

/// One admitted request. Dropped without a word, it counts as left by its client.
#[derive(Debug)]
pub(crate) struct Lease {
    target: Arc<Target>,
    id: LeaseId,
    signal: Arc<LeaseSignal>,
    open: bool,
}

impl Lease {
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    pub(crate) fn reclass(&self, class: StreamClass) {
        self.target.book.lock().reclass(self.id, class);
    }

    /// Ends the lease; only the first end counts.
    pub(crate) fn finish(&mut self, how: How) {
        if std::mem::take(&mut self.open) {
            self.target.finish(self.id, how);
        }
    }

    /// See [`LeaseSignal::begin_response`].
    pub(crate) fn begin_response(&self) -> bool {
        self.signal.begin_response()
    }

    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        self.signal.poll_cut(cx)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.finish(How::ClientGone);
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
