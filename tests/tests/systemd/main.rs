//! Real systemd: each test boots one as process 1 of a machine of its own and treats the unit as an operator would.
//!
//! [`machine`] is the machine, [`host`] the versiond on it. The rest are tests, one file for each concept. Where no
//! machine can be had, a test says `skipped:` and why; with `VERSIOND_REQUIRE=all` that is a failure.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "of what the tests of release binaries share, the demo is not run here")]
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "shared with the daemon's tests, which use all of it")]
#[path = "../daemon/http.rs"]
mod http;
#[allow(dead_code, reason = "shared with the daemon's tests, which use all of it")]
#[path = "../daemon/releases.rs"]
mod releases;

mod apart;
mod exposure;
mod host;
mod life;
mod machine;
