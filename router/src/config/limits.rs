//! `[limits]`: what clients may have at once, and how long nothing may happen.

use std::time::Duration;

use router_dataplane::Limits;
use serde::{Deserialize, Deserializer};
use supervisor_protocol::size::parse_size;

use super::file::duration;

/// `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsTable {
    connections: Option<usize>,
    connections_per_address: Option<u32>,
    streams: Option<u32>,
    inflight: Option<usize>,
    #[serde(deserialize_with = "size")]
    body: Option<u64>,
    #[serde(deserialize_with = "duration")]
    idle_request: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    idle_stream: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    idle_upgrade: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    idle_job: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    stalled: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    head_timeout: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    keep_alive: Option<Duration>,
}

impl LimitsTable {
    /// An error names the key that may not be zero.
    pub(super) fn limits(self) -> Result<Limits, &'static str> {
        let mut limits = Limits::default();
        let Self { connections, connections_per_address, streams, inflight, body, .. } = self;
        for (key, is_zero) in [
            ("connections", connections == Some(0)),
            ("connections_per_address", connections_per_address == Some(0)),
            ("streams", streams == Some(0)),
            ("inflight", inflight == Some(0)),
        ] {
            if is_zero {
                return Err(key);
            }
        }
        put(&mut limits.connections, connections);
        put(&mut limits.streams, streams);
        put(&mut limits.inflight, inflight);
        limits.connections_per_address = connections_per_address;
        limits.body = body;
        put(&mut limits.idle.request, self.idle_request);
        put(&mut limits.idle.stream, self.idle_stream);
        put(&mut limits.idle.upgrade, self.idle_upgrade);
        put(&mut limits.idle.job, self.idle_job);
        put(&mut limits.stalled, self.stalled);
        put(&mut limits.head_timeout, self.head_timeout);
        put(&mut limits.keep_alive, self.keep_alive);
        Ok(limits)
    }
}

fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_size(&text).map(Some).map_err(serde::de::Error::custom)
}
