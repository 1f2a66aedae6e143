//! Routers and hosts in simulated time.
//!
//! One run is a function of its seed: simulated hosts move by `versiond-core`'s host machine, simulated routers by
//! `router-core`'s pools, views and choices and by the router's own pace of checks, and everything between them
//! (delays, losses, partitions, resets, crashes, restarts) comes from one generator and one queue of events. What is
//! promised is checked while it runs, and whenever it has come to rest.
//!
//! - [`fault`]: what is done to the fleet, one thing after the other;
//! - `world`: the clock, the queue, and who is there; `host`, `router` and `client` are the parts of it;
//! - `judge`: what must hold.
//!
//! Must not live here: a rule of placement, health, drains or retries. They are those of the product.

mod client;
pub mod fault;
mod host;
mod judge;
mod router;
mod world;

use std::collections::BTreeMap;

pub use world::Outcome;

/// A guard of the router that is left out; without the feature `faults` there is none.
#[cfg(feature = "faults")]
pub type Sabotage = router_core::faults::Sabotage;
/// A guard of the router that is left out; without the feature `faults` there is none.
#[cfg(not(feature = "faults"))]
pub type Sabotage = std::convert::Infallible;

/// How often each thing happened.
pub type Seen = BTreeMap<&'static str, u64>;

/// Runs the world of a seed to its end, or to the first promise that is broken.
#[must_use]
pub fn run(seed: u64, sabotage: Option<Sabotage>) -> Outcome {
    world::World::new(seed, sabotage).run()
}
