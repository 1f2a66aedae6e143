//! The daemon and a disk that fails it: full, read-only, `noexec`, taken away. Each on a small file system of
//! its own, which takes the right to mount one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and one that is skipped says why"
)]

#[allow(dead_code, reason = "of what the tests of release binaries share, the demo is not run here")]
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "of the daemon's clients, a few are enough here")]
#[path = "../daemon/http.rs"]
mod http;
#[allow(dead_code, reason = "of the mirror, its gate is not closed here")]
#[path = "../daemon/mirror.rs"]
mod mirror;
mod mount;
#[allow(dead_code, reason = "of what is asked of a daemon, a little is enough here")]
#[path = "../daemon/node.rs"]
mod node;
#[allow(dead_code, reason = "of the documents, the simple ones are enough here")]
#[path = "../daemon/releases.rs"]
mod releases;
mod store;
