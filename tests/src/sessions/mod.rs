//! Sessions of devshardd: a client, a host and a model by themselves, and the demo that rolls builds under sessions.

pub mod client;
pub mod demo;
pub mod host;
pub mod model;
pub mod step;
