//! What a session host decides, without doing anything.
//!
//! `ids` names things, `canonical` writes JSON in one way, `auth` tells who has signed a request, `request` and `group` read it, `claim` says who may run an
//! inference, `sse` takes a model's answer apart, `events` is what a client hears of it and what is stored of it, `diffs`
//! is a session's history, `session` what its steps make of it, `wire` what its parties sign, `validation` says who checks
//! an inference.
//!
//! Every refusal is a value with a readable text and a `code` for programs.
//!
//! Must not live here: a clock, a socket, a database, randomness. Time is a parameter.

pub mod auth;
pub mod canonical;
pub mod claim;
pub mod diffs;
pub mod events;
pub mod group;
pub mod ids;
pub mod request;
pub mod session;
pub mod sse;
pub mod validation;
pub mod wire;
