//! The data plane end to end: real sockets, origins that misbehave on purpose, clients that show bytes.

mod common;
mod cut;
mod forward;
mod hold;
mod retry;
mod stream;
mod strict;
mod swap;
