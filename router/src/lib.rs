//! versiond-router: it keeps each session on its host by consistent hashing, and empties whole hosts.
//!
//! ```text
//! config ─┬─▶ one keeper per pool ◀── listings (a set, a file, DNS)
//!         │        ▲   │         ◀── answers  (one check per address)
//!         │        │   └──publish──▶ Roster ◀──read── Front ◀── the data plane, for every request
//!         │        └── orders and looks from the admin API
//!         └─▶ routes ──────────────────────────────▶ Front
//! ```
//!
//! Which host a request goes to, and what counts as healthy, is decided in `router-core`. Lives here: everything
//! that takes time or a socket. Must not live here: a decision, or a byte of a client.

pub mod admin;
mod changes;
pub mod check;
pub mod cli;
pub mod config;
mod discover;
pub mod dns;
mod front;
mod keeper;
mod memory;
mod metrics;
pub mod pace;
pub mod run;
