//! What a plane has counted since its start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use supervisor_protocol::Refusal;

use crate::room::Held;

/// A reading of a plane's counters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlaneCounters {
    /// Requests whose head was read, refused heads included.
    pub requests: u64,
    /// Responses of children that were passed on.
    pub answered: u64,
    /// Answers of the host's own endpoints.
    pub local: u64,
    /// Requests that the plane refused itself, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Requests that wait now for a slot that does not serve.
    pub held_now: u64,
    /// What these may take of memory, in bytes.
    pub held_bytes_now: u64,
    /// Requests that have ever waited. How many of them in vain, `refused` says.
    pub held: u64,
    /// The longest that any of them has waited, in milliseconds.
    pub held_longest_ms: u64,
    /// Requests in flight now, those that wait among them.
    pub inflight_now: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Connections of clients that are open now.
    pub connections_now: u64,
    pub connections: u64,
    /// Connections that ended before their first request could be read: no TLS, no header of a balancer.
    pub not_begun: u64,
    /// Connections made to children.
    pub upstream_connections: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) local: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    pub(crate) held: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) connections_now: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) not_begun: AtomicU64,
    pub(crate) upstream_connections: AtomicU64,
}

pub(crate) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn refused(&self, refusal: Refusal) {
        for (known, count) in Refusal::ALL.iter().zip(&self.refused) {
            if *known == refusal {
                bump(count);
            }
        }
    }

    pub(crate) fn read(&self, held: Held) -> PlaneCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PlaneCounters {
            requests: get(&self.requests),
            answered: get(&self.answered),
            local: get(&self.local),
            refused: Refusal::ALL.into_iter().zip(self.refused.iter().map(get)).collect(),
            held_now: held.requests,
            held_bytes_now: held.bytes,
            held_longest_ms: held.longest_ms,
            held: get(&self.held),
            inflight_now: 0,
            retries: get(&self.retries),
            connections_now: get(&self.connections_now),
            connections: get(&self.connections),
            not_begun: get(&self.not_begun),
            upstream_connections: get(&self.upstream_connections),
        }
    }
}
