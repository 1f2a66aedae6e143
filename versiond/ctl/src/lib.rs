//! `versionctl`: what an operator asks of versiond, and the check of a child against the contract.
//!
//! It speaks HTTP over the daemon's Unix socket and depends on nothing of the daemon but the wire types
//! of `supervisor-protocol`. Cut: `client` and `wire` do the talking, `status`, `why` and `drain` each
//! hold a command and the pure functions that render it, `watch` repeats `status`, [`conformance`]
//! starts a program and tells what of the contract holds. Exit codes are a table in [`exit`].

mod client;
mod command;
pub mod conformance;
mod drain;
mod failure;
mod status;
mod text;
mod watch;
mod why;
mod wire;

pub use command::main;

/// The exit codes, the same for every command.
pub mod exit {
    /// Done, and everything that was asked about holds.
    pub const OK: u8 = 0;
    /// Failed: the reason is on standard error.
    pub const FAILED: u8 = 1;
    /// The daemon does not answer on its socket.
    pub const UNREACHABLE: u8 = 2;
    /// The time that was given is over.
    pub const TIMED_OUT: u8 = 3;
    /// The daemon understood and refused.
    pub const REFUSED: u8 = 4;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
}
