//! How a target is reached and spoken to.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::client::TlsError;

/// Where a target listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    Tcp(SocketAddr),
    /// `name:port`, resolved for each connection.
    Named(String),
    Unix(PathBuf),
}

/// Which HTTP a target speaks. It is not asked: whoever configures it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpVersion {
    #[default]
    Http1,
    /// By prior knowledge, or agreed on within TLS. What gRPC needs.
    Http2,
}

/// How a target is spoken to.
#[derive(Debug, Clone)]
pub struct Dial {
    pub to: Upstream,
    pub version: HttpVersion,
    pub tls: Option<UpstreamTls>,
}

impl From<Upstream> for Dial {
    fn from(to: Upstream) -> Self {
        Self { to, version: HttpVersion::Http1, tls: None }
    }
}

/// Whom a target must prove to be.
#[derive(Clone)]
pub struct UpstreamTls {
    pub(super) name: ServerName<'static>,
    /// The authorities, as they were read.
    pem: Vec<u8>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.pem) == (&other.name, &other.pem)
    }
}

impl Eq for UpstreamTls {}

impl UpstreamTls {
    /// Reads the certificates, PEM, of those who may vouch for `name`. Blocking.
    pub fn read(authorities: &Path, name: &str) -> Result<Self, TlsError> {
        let path = || authorities.to_owned();
        let pem = std::fs::read(authorities).map_err(|source| TlsError::Read { path: path(), source })?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|source| TlsError::Certificates { path: path(), source })?;
        let unusable = |source| TlsError::Unusable { path: path(), source };
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(unusable)?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoCertificate { path: path() });
        }
        let config = |protocol: &[u8]| -> Result<_, TlsError> {
            let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(unusable)?
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok(Arc::new(config))
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name { name: name.to_owned() })?;
        Ok(Self { name, pem, http1: config(b"http/1.1")?, http2: config(b"h2")? })
    }

    /// For a client that must have something, and speaks no TLS: with it nobody proves anything.
    pub fn nobody() -> Result<ClientConfig, rustls::Error> {
        Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth())
    }

    /// The name, and what a client of HTTP/1 needs to know.
    #[must_use]
    pub fn http1(&self) -> (ServerName<'static>, Arc<ClientConfig>) {
        (self.name.clone(), self.http1.clone())
    }

    pub(super) fn config(&self, version: HttpVersion) -> Arc<ClientConfig> {
        match version {
            HttpVersion::Http1 => self.http1.clone(),
            HttpVersion::Http2 => self.http2.clone(),
        }
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UpstreamTls").field(&self.name).finish()
    }
}
