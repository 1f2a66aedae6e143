//! What a session host decides, without doing anything.
//!
//! `ids` names things, `auth` tells who has signed a request, `request` reads it, `claim` says who may run an
//! inference, `sse` takes a model's answer apart, `events` is what a client hears of it and what is stored of it, `diffs`
//! is a session's history, `validation` says who checks an inference.
//!
//! Every refusal is a value with a readable text and a `code` for programs.
//!
//! Must not live here: a clock, a socket, a database, randomness. Time is a parameter.

pub mod auth;
pub mod claim;
pub mod diffs;
pub mod events;
pub mod ids;
pub mod request;
pub mod sse;
pub mod validation;
