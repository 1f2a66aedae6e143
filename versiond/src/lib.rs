//! The supervisor daemon: everything that runs a process.
//!
//! ```text
//! catalog ──view──▶ supervisor::Manager ──want──▶ one actor per slot ──▶ process, ledger, store
//!                         ▲                            │ publish, retire
//! signals ──▶ host ──order┘                            ▼
//!                └──announce, close──────────▶ router-dataplane ◀── clients
//! board ◀── everyone writes; the status endpoints, the admin API and the metrics read
//! ```
//!
//! Lives here: the thin shell around `versiond-core`. Must not live here: a rule about what to do next
//! (that is the core's), or the moving of requests (that is the data plane's).

pub mod admin;
mod ask;
mod board;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod config;
pub mod faults;
mod host;
pub mod import;
mod isolation;
mod keeper;
pub mod ledger;
mod metrics;
pub mod process;
pub mod reload;
pub mod run;
pub mod store;
mod supervisor;
