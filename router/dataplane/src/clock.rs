//! The one clock of a process, as ticks for the pure cores.

use std::time::Instant;

use supervisor_protocol::{Tick, time::millis};

/// A monotonic clock. Copies tell the same time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose zero is now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Milliseconds since the start of the clock.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick(millis(self.start.elapsed()))
    }
}
