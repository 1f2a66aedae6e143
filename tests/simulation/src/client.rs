//! A simulated request: from the client's choice of a router to the last byte, over every attempt.

use router_core::choose::{Attempt, Choice, Search};
use supervisor_protocol::Tick;

/// Attempts that a router makes at most, but for the last resort.
pub(crate) const ATTEMPTS: u32 = 3;

/// One request.
pub(crate) struct Request {
    pub(crate) session: usize,
    pub(crate) is_post: bool,
    pub(crate) began: Tick,
    pub(crate) router: usize,
    pub(crate) search: Option<Search>,
    pub(crate) attempts: u32,
    /// Where it is, and in which life of that host.
    pub(crate) at: Option<(usize, u64)>,
    /// How often it was executed.
    pub(crate) executed: u32,
    /// Whether the answer has begun.
    pub(crate) has_head: bool,
    /// How often a connection was lost after it was sent.
    pub(crate) broke: u32,
    /// What serving it takes, in milliseconds: until the head, and after that.
    pub(crate) takes: (u64, u64),
}

/// Whether the chosen one is told that it must admit.
pub(crate) fn is_last_resort(choice: &Choice) -> bool {
    match choice.attempt {
        Attempt::Ordinary => false,
        Attempt::LastResort => true,
    }
}

/// The key of a session.
pub(crate) fn key(session: usize) -> [u8; 8] {
    (session as u64).to_be_bytes()
}
