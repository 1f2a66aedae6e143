//! What the router asks of those who come: `[router.tls]` and `[limits]`; and how it speaks to a pool's members.

use std::net::SocketAddr;
use std::time::Duration;

use camino::Utf8PathBuf;
use router_dataplane::{HttpVersion, Limits, UpstreamTls};
use serde::{Deserialize, Deserializer};
use supervisor_protocol::size::parse_size;

use super::file::duration;

/// `[router.tls]`: where clients come through TLS, and what they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    pub listen: SocketAddr,
    /// PEM, the own certificate first.
    pub certificate: Utf8PathBuf,
    pub key: Utf8PathBuf,
}

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

/// `tls = { ca = "…", name = "…" }` of a pool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolTls {
    ca: Utf8PathBuf,
    name: String,
}

/// `protocol` of a pool.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    #[default]
    Http1,
    Http2,
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

impl PoolTls {
    /// An error says what is wrong with the file or the name.
    pub(super) fn read(&self) -> Result<UpstreamTls, String> {
        UpstreamTls::read(self.ca.as_std_path(), &self.name).map_err(|error| super::chain(&error))
    }
}

impl From<Protocol> for HttpVersion {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http1 => HttpVersion::Http1,
            Protocol::Http2 => HttpVersion::Http2,
        }
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
