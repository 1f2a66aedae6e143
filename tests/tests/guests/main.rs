//! Programs that were not written for versiond, unmodified under it: nginx, Python's `http.server`, Redis, a child
//! of the older contract in Python, scripts that speak to their supervisor, or take their socket from it, as under
//! systemd.
//!
//! [`guest`] holds what they share. Each test has a versiond of its own, whose configuration names the program; a
//! program that is missing is a failure that says how to install it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "of what the tests of release binaries share, the demo is not run here")]
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "what the daemon's own tests need of the clients")]
#[path = "../daemon/http.rs"]
mod http;
#[allow(dead_code, reason = "no artifact is fetched here")]
#[path = "../daemon/mirror.rs"]
mod mirror;
#[allow(dead_code, reason = "what the daemon's own tests need of a node")]
#[path = "../daemon/node.rs"]
mod node;
#[allow(dead_code, reason = "no build of the demo child is run here")]
#[path = "../daemon/releases.rs"]
mod releases;
#[allow(dead_code, reason = "what the daemon's own tests need of the tools")]
#[path = "../daemon/tools.rs"]
mod tools;

mod guest;
mod http_server;
mod nginx;
mod notify;
mod older;
mod redis;
mod reload;
mod schema;
mod socket;
