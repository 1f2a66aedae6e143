//! Who belongs to a pool, who each of them is, and what is known of its health.
//!
//! ```text
//! addresses (a set, a file, DNS) ──▶ list ──┐
//! what a check brought           ──▶ hear ──┼──▶ Members ──▶ Standing of each, for the pool or one version
//! the clock                      ──▶ settle ┘
//! ```
//!
//! Three rules hold it together. An identity is the host's own word, never its address. What a host says of
//! itself counts at once, while silence needs two in a row or one refused connection. And a list of addresses
//! that is empty, late or in another order moves nothing. Lives here: membership, identity, health and the
//! rule of panic. Must not live here: drains of a router's own, policies, and how a check is made.

mod answer;
mod book;
mod health;
mod identity;
mod listing;
mod member;
mod panic;
mod standing;

pub use answer::{Answer, DrainWord, Silence, Word};
pub use book::{Detection, Members, Views, Wake};
pub use health::{Check, Health, HostSaid, Missed, Phase, Returning, Said};
pub use identity::{Address, IdentityError, MemberId};
pub use listing::{Listed, ListedError, Listing, Moved, Relisted};
pub use member::{Conflict, Member};
pub use panic::{Cause, Kept, Rule, kept};
pub use standing::{Drain, Last, Scope, Standing};

#[cfg(test)]
mod tests;
