//! What the services of a node share.
//!
//! `settings` reads the environment, `database` opens a bounded pool and says why it waits, `backend` turns the health
//! of what a service leans on into its readiness, `hysteresis` is the pure rule behind that, `log` and `metrics` are
//! what their names say.
//!
//! Must not live here: anything that only one service needs, and what a supervisor asks of a child, which is the SDK's.

pub mod backend;
pub mod database;
pub mod hysteresis;
pub mod log;
pub mod metrics;
pub mod settings;
