//! Changes of what serves, by the daemon as a process: in place of its predecessor while requests wait, taken back,
//! ordered by an operator, and of children that do not do as they are told.
//!
//! [`stage`] is a versiond with one slot and a mirror of builds that behave as a test says; [`load`] its clients.
//! The rest are tests, one file for each concept.

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

mod hold;
mod load;
mod rollback;
mod stage;
mod stubborn;
mod verbs;
