//! How the router is spoken to: `[router.tls]`; and how it speaks to a pool's members.

use std::net::SocketAddr;

use camino::Utf8PathBuf;
use router_dataplane::{HttpVersion, UpstreamTls};
use serde::Deserialize;

/// `[router.tls]`: where clients come through TLS, and what they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    pub listen: SocketAddr,
    /// PEM, the own certificate first.
    pub certificate: Utf8PathBuf,
    pub key: Utf8PathBuf,
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
