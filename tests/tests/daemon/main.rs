//! The daemon as a process: started, asked over its listeners, signalled and killed, as an operator and a
//! router would. Each test has a versiond of its own, in a temporary folder and on free ports, and ends with
//! proof that no process of it is left.
//!
//! [`node`] is the versiond, [`releases`] what its catalog says, [`mirror`] a loopback server of catalogs
//! and artifacts that can be made to wait, [`http`] the clients. The rest are tests, one file for each
//! concept. What happens under load is the demo's to show; what one part does alone is its crate's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "of what the tests of release binaries share, the demo is not run here")]
#[path = "../common/mod.rs"]
mod common;

mod alerts;
mod artifacts;
mod catalog;
mod clock;
mod cordon;
mod cosmovisor;
mod crash;
mod declared;
mod effects;
mod exhaustion;
mod first_start;
mod http;
mod kill;
mod local_state;
mod logs;
mod metrics;
mod mirror;
mod node;
mod operators;
mod overrides;
mod powercut;
mod recording;
mod refusals;
mod releases;
mod stop;
mod tools;
mod troubled;
mod unit;
mod unix_socket;
mod worker;
