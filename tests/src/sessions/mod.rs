//! Sessions of devshardd: a client, and the demo that rolls builds under sessions.

pub mod client;
pub mod demo;
