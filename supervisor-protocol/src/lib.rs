//! The contract between a supervisor, the children it runs and the routers in front of it.
//!
//! Lives here: wire types, the names they are built from, and the grammar of the headers and
//! environment variables. Must not live here: I/O, clocks, policy, or a dependency on another crate
//! of this workspace. Everyone may depend on this crate.
//!
//! Compatibility: a reader accepts its own [`SCHEMA`] and the one before, and refuses a newer one by
//! name. Golden files under `tests/golden/` pin the JSON of each release.

pub mod admin;
pub mod api;
pub mod artifacts;
pub mod catalog;
pub mod class;
pub mod contract;
pub mod env;
pub mod error;
pub mod events;
pub mod headers;
pub mod host;
pub mod isolation;
pub mod logs;
pub mod names;
pub mod reason;
pub mod router;
pub mod size;
pub mod time;

pub use class::{ByClass, StreamClass};
pub use names::{
    BootNonce, Generation, HostId, NameError, Nonce, ServiceName, Sha256, SlotId, SlotIdError, VersionName,
};
pub use reason::{Reason, Refusal};
pub use time::Tick;

/// The version of the wire schema of this release.
pub const SCHEMA: u32 = 1;
/// The version of the lifecycle contract between supervisor and child.
pub const CONTRACT: u32 = 1;
