//! The forwarder: listeners, targets with leases, retries, streams, upgrades.
//!
//! A supervisor uses it to reach its children, a router to reach its hosts. It knows nothing of
//! processes, catalogs or placement: it is told which [`Target`] serves a [`SlotRoute`] or which one a request
//! is to be sent to next ([`Pools`]), which routes lead there ([`RouteTable`]), and who answers the host's own
//! paths ([`LocalEndpoints`]).
//!
//! ```text
//! worker (one thread each, over the same listening sockets)
//!   accept ─ connection task: client (HTTP/1 or HTTP/2) ─ serve ─┬─ local endpoints
//!                                                                ├─ hold (slot queue)
//!                                                                └─ forward ─ upstream
//! ```
//!
//! Every worker has its own connections to children. What is shared (the table, the slots, the leases)
//! is read from snapshots or under a short lock that is never held across an await.

mod body;
mod chunk;
mod client;
mod clock;
mod config;
mod counters;
mod forward;
mod headers;
mod hold;
mod limits;
mod local;
mod peers;
mod plane;
mod pools;
mod queue;
mod refuse;
mod relay;
mod room;
mod serve;
mod signal;
mod silence;
mod slot;
mod table;
mod target;
mod tunnel;
mod upstream;
mod waits;
mod way;
mod worker;

pub use client::{TlsError, TlsIdentity};
pub use clock::Clock;
pub use config::{HoldBounds, Limits, PlaneConfig};
pub use counters::PlaneCounters;
pub use local::{BoxFuture, LocalEndpoints, LocalRequest, NoLocalEndpoints};
pub use peers::{PeerRange, PeerRanges, RangeError};
pub use plane::{Listener, Plane, StartError};
pub use pools::{Attempt, Choices, Placed, Pools, Refused, Stamps};
pub use room::Held;
pub use router_core::choose::Failed;
pub use router_core::leases::Ended;
pub use router_core::reserved::is_reserved;
pub use router_core::route::{PatternError, Prefix, RoutePattern};
pub use slot::{Absence, SlotRoute};
pub use table::{ClassRule, RouteTable};
pub use target::{Answered, Load, Target, TargetLabel, Voucher};
pub use upstream::{Dial, HttpVersion, Upstream, UpstreamTls};
pub use waits::{WAITS_MS, WaitCounts, WaitEnd};
