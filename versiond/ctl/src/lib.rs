//! `versionctl`: what an operator asks of versiond, and the check of a child against the contract.
//!
//! It speaks HTTP over the daemon's Unix socket or to a router's admin port, and depends on nothing of the daemon
//! but the wire types of `supervisor-protocol` and, for what needs no daemon (to play a recording again, to check a
//! document offline), the pure `versiond-core`. Cut: `command` is the command line, `client` and `wire` do the
//! talking, every other file holds a subcommand and the pure functions that render it, [`conformance`] starts a
//! program and tells what of the contract holds. Exit codes are a table in [`exit`].

mod args;
mod catalog;
mod client;
mod command;
mod completions;
pub mod conformance;
mod deny;
mod drain;
mod events;
mod failure;
mod fetch;
mod gc;
mod import;
mod logs;
mod offline;
mod order;
mod plan;
mod record;
mod reload;
mod replay;
mod router;
mod status;
mod text;
mod watch;
mod why;
mod wire;

pub use command::{cli, main};

/// The exit codes, the same for every command.
pub mod exit {
    /// Done, and everything that was asked about holds.
    pub const OK: u8 = 0;
    /// Failed: the reason is on standard error.
    pub const FAILED: u8 = 1;
    /// The daemon does not answer on its socket, or the router on its port.
    pub const UNREACHABLE: u8 = 2;
    /// The time that was given is over.
    pub const TIMED_OUT: u8 = 3;
    /// The daemon or the router understood and refused.
    pub const REFUSED: u8 = 4;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;

    /// Each with its meaning, for the help and the manual page.
    pub const TABLE: [(u8, &str); 6] = [
        (OK, "done, and everything that was asked about holds"),
        (FAILED, "failed; the reason is on standard error"),
        (UNREACHABLE, "the daemon does not answer on its socket, or the router on its port"),
        (TIMED_OUT, "the time that was given is over"),
        (REFUSED, "the daemon or the router understood and refused"),
        (USAGE, "the command line is wrong"),
    ];
}
