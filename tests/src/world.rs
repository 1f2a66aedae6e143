//! What every task of a running demo shares: the clock, the host's address, the book, the two signals.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use supervisor_protocol::Tick;
use supervisor_protocol::time::millis;
use tokio_util::sync::CancellationToken;

use crate::book::Book;

/// The shared state of one demo.
#[derive(Debug)]
pub struct World {
    began: Instant,
    /// The data listener of versiond.
    pub host: SocketAddr,
    pub book: Mutex<Book>,
    /// From a kill until everything is accounted for again: the catalog keeps still meanwhile.
    settling: AtomicBool,
    /// Nothing new is started; what runs comes to its own end.
    pub wind_down: CancellationToken,
    /// Everything ends now.
    pub stop: CancellationToken,
}

impl World {
    /// A world that begins now.
    #[must_use]
    pub fn new(host: SocketAddr, first: &[crate::scenario::Build]) -> Self {
        Self {
            began: Instant::now(),
            host,
            book: Mutex::new(Book::new(first, Tick::ZERO)),
            settling: AtomicBool::new(false),
            wind_down: CancellationToken::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Now, on the demo's own clock.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick(millis(self.began.elapsed()))
    }

    /// Whether clients are to start nothing more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.wind_down.is_cancelled() || self.stop.is_cancelled()
    }

    /// Whether the catalog should keep still.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        self.settling.load(Ordering::Acquire)
    }

    /// Asks the catalog to keep still, or no longer.
    pub fn settle(&self, settling: bool) {
        self.settling.store(settling, Ordering::Release);
    }

    /// Waits, or less when the demo winds down.
    pub async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.wind_down.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
    }
}
