//! Several versiond hosts behind two routers, as processes: each session on its host, hosts that are emptied, killed
//! and replaced, routers that are restarted.
//!
//! [`fleet`] is the hosts and the routers, [`load`] their clients. The rest are tests, one file for each concept.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "of what the tests of release binaries share, the demo is not run here")]
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "shared with the daemon's tests, which use all of it")]
#[path = "../daemon/http.rs"]
mod http;
#[allow(dead_code, reason = "shared with the daemon's tests, which use all of it")]
#[path = "../daemon/mirror.rs"]
mod mirror;
#[allow(dead_code, reason = "shared with the daemon's tests, which use all of it")]
#[path = "../daemon/node.rs"]
mod node;
#[allow(dead_code, reason = "shared with the daemon's tests, which use all of it")]
#[path = "../daemon/releases.rs"]
mod releases;

mod agree;
mod drains;
mod evacuate;
mod failures;
mod fleet;
mod load;
mod overload;
mod placement;
mod rollout;
