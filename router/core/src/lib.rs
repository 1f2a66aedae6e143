//! The pure half of everything that moves a request.
//!
//! Lives here: the strict HTTP/1 head grammar and body framing ([`head`]), the book of leases of one
//! target with its forecasts ([`leases`]), the grammar of routes ([`route`]) and the rules of retries
//! ([`retry`]). Must not live here: tokio, sockets, files, clocks, randomness. Time is a parameter.

pub mod choose;
pub mod drain;
pub mod head;
pub mod leases;
pub mod members;
pub mod pattern;
pub mod placement;
pub mod pool;
pub mod retry;
pub mod route;
mod segments;
mod spread;
pub mod view;
