//! The data plane end to end: real sockets, origins that misbehave on purpose, clients that show bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
mod cut;
mod door;
mod forward;
mod hold;
mod http2;
mod http2_child;
mod interleave;
mod limits;
mod pool;
mod retry;
mod stream;
mod strict;
mod swap;
