//! Signals that cross threads: a connection to abort, a lease that was cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// Raised once; one task waits for it.
#[derive(Debug, Default)]
pub(crate) struct Flag {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Flag {
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    pub(crate) fn poll_raised(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_raised() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.is_raised() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// What a cut does to one lease depends on whether its response has begun.
#[derive(Debug)]
pub(crate) struct LeaseSignal {
    phase: AtomicU8,
    cut: Flag,
    connection: Arc<Flag>,
}

const BEFORE_HEAD: u8 = 0;
const AFTER_HEAD: u8 = 1;
const CUT: u8 = 2;

impl LeaseSignal {
    /// `connection` is aborted by a cut after the response head.
    pub(crate) fn new(connection: Arc<Flag>) -> Self {
        Self { phase: AtomicU8::new(BEFORE_HEAD), cut: Flag::default(), connection }
    }

    /// The response head goes out now. False when the lease was cut before: nothing of the response may
    /// be passed on then.
    pub(crate) fn begin_response(&self) -> bool {
        self.phase.compare_exchange(BEFORE_HEAD, AFTER_HEAD, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub(crate) fn cut(&self) {
        let before = self.phase.swap(CUT, Ordering::AcqRel);
        self.cut.raise();
        if before == AFTER_HEAD {
            self.connection.raise();
        }
    }

    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        self.cut.poll_raised(cx)
    }
}
