//! The host's own life: from starting to serving, cordoned by an operator, out on a signal.
//!
//! Lives here: the task that moves the host's machine, and what the host offers on the data listener.
//! Must not live here: the machine itself (`versiond-core::host`), or anything of one slot.

mod endpoints;
mod lifecycle;

pub(crate) use self::endpoints::Endpoints;
pub(crate) use self::endpoints::{Wait, long_poll};
pub(crate) use self::lifecycle::{Lifecycle, Signals};
