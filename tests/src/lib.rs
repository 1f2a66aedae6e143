//! The program that proves the product from the outside: it starts a release versiond, serves a catalog
//! and zip artifacts over loopback HTTP, keeps clients busy, changes the catalog under their load and lets
//! the *clients* count what was refused, cut or answered by the wrong binary.
//!
//! Pure (no clock, no I/O; time comes as [`supervisor_protocol::Tick`]): [`scenario`] (what is changed when),
//! [`approvals`] (which build may answer), [`checks`] (is a stream whole), [`tally`] (what was counted),
//! [`report`] (the verdict). Shells: [`artifacts`], [`catalog`], [`supervisor`], [`processes`], [`clients`],
//! [`stand`], [`conductor`], [`killer`], [`view`]. [`fleet`] is the same for several hosts behind two routers, and
//! [`bench`] measures instead of proving; [`peer`] starts the proxies that the router is compared with.
//!
//! Must not live here: any part of the product. The demo knows versiond by its command line, its
//! configuration, its listeners and its wire types alone.

pub mod approvals;
pub mod artifacts;
pub mod bench;
pub mod book;
pub mod catalog;
pub mod checks;
pub mod clients;
pub mod conductor;
pub mod fleet;
pub mod killer;
pub mod options;
pub mod peer;
pub mod processes;
pub mod report;
pub mod sabotage;
pub mod scenario;
pub mod sessions;
pub mod stand;
pub mod supervisor;
pub mod tally;
pub mod view;
pub mod watcher;
pub mod world;
