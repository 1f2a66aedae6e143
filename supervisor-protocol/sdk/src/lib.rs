//! What a Rust child links to honour the supervisor's contract (version 1) in one call.
//!
//! ```no_run
//! use supervisor_sdk::{Child, Context, StateKind, axum::{Router, routing::get}, describe};
//!
//! fn main() -> std::process::ExitCode {
//!     Child::new(describe("hello", "1.0.0", StateKind::None)).serve(async |_: Context| {
//!         Ok::<_, std::io::Error>(Router::new().route("/hello", get(async || "hello")))
//!     })
//! }
//! ```
//!
//! The call reads the command line and the `SUPERVISOR_*` environment, answers `--describe` and
//! `--drain --wait`, serves `127.0.0.1:port`, opens the admin socket, counts what is in flight, refuses
//! new work while draining, and ends cleanly after SIGTERM. `examples/` holds complete children.
//!
//! How it is cut: `book`, `life` and `settings` are pure. `shared` puts a clock and a lock around them,
//! `serve` is the data listener, `admin` the admin and probe listeners on a thread of their own (so that
//! they answer while the child computes), `drain` the client behind `--drain`, `child` ties them together.
//! Nothing here knows what a child does, or of versiond beyond the contract.

mod admin;
mod book;
mod child;
mod context;
mod drain;
mod life;
mod serve;
mod settings;
mod shared;
mod socket;

pub use axum;
pub use child::{Child, describe};
pub use context::{Context, Readiness};
pub use settings::Identity;
pub use shared::Lease;
pub use supervisor_protocol::StreamClass;
pub use supervisor_protocol::contract::{DataFormats, Describe, DrainMode, Needs, Role, StateKind};

/// The exit codes of a child.
pub mod exit {
    /// Described, drained, or stopped with all its work done.
    pub const OK: u8 = 0;
    /// Failed; the reason is on standard error.
    pub const FAILED: u8 = 1;
    /// `--drain`: nobody answers on the admin socket.
    pub const UNREACHABLE: u8 = 2;
    /// `--drain --wait --timeout`: work was still in flight.
    pub const TIMED_OUT: u8 = 3;
    /// `--drain`: the child refused.
    pub const REFUSED: u8 = 4;
    /// The command line or the environment is wrong.
    pub const USAGE: u8 = 64;
}
