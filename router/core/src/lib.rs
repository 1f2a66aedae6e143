//! The pure half of everything that moves a request.
//!
//! Of one machine: the strict HTTP/1 head grammar and body framing ([`head`]), the header of a balancer before us
//! ([`proxy`]), the book of leases of one target
//! with its forecasts ([`leases`]), the grammar of versiond's routes ([`route`]) and the rules of retries
//! ([`retry`]).
//!
//! Of many: the routes of a router and the keys they place by ([`pattern`]), who belongs to a pool and how they
//! are ([`members`]), the pool that all of that moves ([`pool`]) and the views it makes ([`view`]), the choice
//! for one request and the next one ([`choose`]), what a router itself keeps about drains ([`drain`]) and the
//! hash that places a key ([`placement`]).
//!
//! ```text
//! path ──▶ pattern::Routes ──key, version──┐
//! checks, addresses ──▶ pool::Pool ──▶ view::View ──choose──▶ Choice, Search ──failed──▶ Next
//!                                          └── placement::Placement, one per version
//! ```
//!
//! Must not live here: tokio, sockets, files, clocks, randomness. Time is a parameter.

pub mod choose;
pub mod drain;
#[cfg(feature = "faults")]
pub mod faults;
pub mod head;
pub mod leases;
pub mod members;
pub mod pattern;
pub mod placement;
pub mod pool;
pub mod proxy;
pub mod reserved;
pub mod retry;
pub mod route;
mod segments;
mod spread;
pub mod view;
