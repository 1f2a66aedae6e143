//! A rollout window: whether a change may begin now, and when that changes.
//!
//! Must not live here: a clock, or what a slot does about it (that is `plan`).

use supervisor_protocol::Tick;

/// Whether a rollout window is open, as the slot machine takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// `None` where there is no window, so that it never closes.
    Open {
        closes: Option<Tick>,
    },
    Closed {
        opens: Tick,
    },
}
