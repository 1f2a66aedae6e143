//! devshardd as hosts run it: under versiond, in a file of its own and on a shared Postgres, replaced and killed under
//! streams.
//!
//! [`hosts`] is what the hosts are told and what the engine has run; the client is `versiond_demo::sessions::client`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "of what the tests of release binaries share, the demo is not run here")]
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "what the daemon's own tests need of the clients")]
#[path = "../daemon/http.rs"]
mod http;
#[allow(dead_code, reason = "what the daemon's own tests need of a mirror")]
#[path = "../daemon/mirror.rs"]
mod mirror;
#[allow(dead_code, reason = "what the daemon's own tests need of a node")]
#[path = "../daemon/node.rs"]
mod node;
#[allow(dead_code, reason = "what the daemon's own tests need of releases")]
#[path = "../daemon/releases.rs"]
mod releases;
#[allow(dead_code, reason = "what the daemon's own tests need of the tools")]
#[path = "../daemon/tools.rs"]
mod tools;

mod fleet;
mod group;
mod hosts;
mod local;
mod shared;
