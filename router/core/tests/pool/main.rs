//! A router's pool as its shell sees it: what checks and listings bring, and where requests go.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod choices;
mod drains;
mod health;
mod identity;
mod listing;
mod model;
mod support;
