//! What a plane is told at its start, and what stands when nothing is said.

use std::time::Duration;

use supervisor_protocol::ByClass;
use supervisor_protocol::headers::HostStamp;

use crate::clock::Clock;
use crate::peers::PeerRanges;

/// The configuration of a [`crate::Plane`]. [`PlaneConfig::new`] fills in the defaults of the contract.
#[derive(Debug, Clone)]
pub struct PlaneConfig {
    /// One thread, runtime and set of upstream connections each.
    pub workers: usize,
    /// The clock that the targets and the forecasts of absences use.
    pub clock: Clock,
    /// Stamped on responses to [`PlaneConfig::trusted`] peers, and the nonce of our own refusals. A router, which is
    /// no host, has none.
    pub host: Option<HostStamp>,
    /// Peers that get the `Versiond-*` headers, and whose own trusted and forwarding headers count.
    pub trusted: PeerRanges,
    /// Balancers that say of each connection whose it is (PROXY protocol, version 2). From them it is required,
    /// from others it is not read.
    pub proxy_protocol: PeerRanges,
    /// How long a connection that has not asked anything yet may still begin to when the plane stops.
    pub first_request: Duration,
    /// How long a connection to a child may take to come about.
    pub connect_timeout: Duration,
    /// How long an unused connection to a child is kept.
    pub pool_idle: Duration,
    pub hold: HoldBounds,
    /// Whether a failed attempt may be repeated where that is harmless.
    pub retry: bool,
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// How long to wait for another generation after the current one has refused.
    pub not_admitted_wait: Duration,
    /// How much of a request's body is kept for another attempt, in bytes.
    pub replay_buffer: usize,
    pub limits: Limits,
    /// How often a connection that speaks HTTP/2 and has streams is asked whether it is there. It is given up
    /// when the next time comes without an answer.
    pub ping: Duration,
}

/// How much clients may have at once, and how long nothing may happen. What is beyond is refused by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, over all workers; further ones wait in the listener's queue.
    pub connections: usize,
    /// Connections at once from one address that is not trusted. `None`: as many as there are.
    pub connections_per_address: Option<u32>,
    /// Streams at once on one connection that speaks HTTP/2.
    pub streams: u32,
    /// Requests in flight at once, from their heads to the ends of their responses. Those beyond are refused before
    /// anything is done for them.
    pub inflight: usize,
    /// The longest body of a request, in bytes. `None`: any, since none is kept here.
    pub body: Option<u64>,
    /// How long nothing may come of a response, by its class.
    pub idle: ByClass<Duration>,
    /// How long a client may take nothing of what is there for it.
    pub stalled: Duration,
    /// From the first byte of a head to its last; and for each step before it, TLS among them.
    pub head_timeout: Duration,
    /// How long a connection may stay without a request. Longer than a router before us keeps it.
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let hour = Duration::from_secs(60 * 60);
        let ten_minutes = Duration::from_secs(10 * 60);
        Self {
            connections: 10_000,
            connections_per_address: None,
            streams: 250,
            inflight: 10_000,
            body: None,
            idle: ByClass { request: ten_minutes, stream: ten_minutes, upgrade: hour, job: hour },
            stalled: Duration::from_secs(120),
            head_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
        }
    }
}

/// How much may wait for slots that do not serve, and for how long. One slot gets three quarters of the
/// requests and of the bytes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldBounds {
    pub time: Duration,
    pub requests: usize,
    /// Of heads, and of what of the bodies came along with them.
    pub bytes: u64,
}

impl Default for HoldBounds {
    fn default() -> Self {
        Self { time: Duration::from_secs(20), requests: 1_000, bytes: 64 << 20 }
    }
}

impl PlaneConfig {
    /// The defaults, for a host of this identity.
    #[must_use]
    pub fn new(host: HostStamp, clock: Clock) -> Self {
        Self { host: Some(host), ..Self::of_router(clock) }
    }

    /// The defaults, for what is no host itself.
    #[must_use]
    pub fn of_router(clock: Clock) -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            clock,
            host: None,
            trusted: PeerRanges::private(),
            proxy_protocol: PeerRanges::none(),
            first_request: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(5),
            pool_idle: Duration::from_secs(5),
            hold: HoldBounds::default(),
            retry: true,
            attempts: 3,
            not_admitted_wait: Duration::from_secs(1),
            replay_buffer: 64 * 1024,
            limits: Limits::default(),
            ping: Duration::from_secs(20),
        }
    }
}
