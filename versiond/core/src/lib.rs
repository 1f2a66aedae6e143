//! What should run, what runs, and the next step between them.
//!
//! Everything here is a pure function of its inputs and a moment: no runtime, clock, file or random
//! number. The daemon around it reads catalogs, makes processes and moves requests; it asks this crate
//! what to do next and tells it what came of it.
//!
//! - [`catalog`]: documents that say what should run, and what a host may believe of them.
//! - [`slot`]: a slot's generations and the loop from inputs to steps; `plan` chooses the steps,
//!   [`generation`] is the machine they move. `goals` says what should come, [`strategy`] how, [`evacuate`] on which host first, `rollback`
//!   what is taken back, [`errors`] how often a build fails its clients; [`policy`] is the configuration's word and [`memory`] what outlives a restart.
//! - [`replay`]: what a slot was told, kept so that the same steps follow from it elsewhere.
//! - [`schema`]: which builds wait for the step of another one.
//! - [`host`]: the host's own lifecycle.
//! - [`budget`] and [`timings`]: every duration, and the inequalities between them.

pub mod budget;
pub mod catalog;
pub mod errors;
pub mod evacuate;
pub mod generation;
mod goals;
pub mod host;
pub mod memory;
mod plan;
pub mod policy;
mod reasons;
pub mod replay;
mod rollback;
pub mod schema;
pub mod slot;
pub mod strategy;
pub mod timings;
pub mod window;
