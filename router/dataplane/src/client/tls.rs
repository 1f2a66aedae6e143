//! Certificates of a listener: read, checked, and exchanged while connections are open.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: the certificates cannot be read")]
    Certificates {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("{path}: there is no certificate in it")]
    NoCertificate { path: PathBuf },
    #[error("{path}: the private key cannot be read")]
    Key {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("{path}: the certificate and its key cannot be used together")]
    Unusable {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("{name:?} is no name that a certificate may have")]
    Name { name: String },
}

/// What a listener shows for itself. Clones are the same one; a change counts for connections that come after it.
#[derive(Clone)]
pub struct TlsIdentity(Arc<ArcSwap<ServerConfig>>);

impl TlsIdentity {
    /// Reads a chain of certificates, the own one first, and its private key, both PEM.
    pub fn read(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(config(certificates, key)?))))
    }

    /// Reads both again. After an error what was there before stays.
    pub fn reload(&self, certificates: &Path, key: &Path) -> Result<(), TlsError> {
        self.0.store(Arc::new(config(certificates, key)?));
        Ok(())
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity")
    }
}

fn config(certificates: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let of = |path: &Path| path.to_owned();
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect)
        .map_err(|source| TlsError::Certificates { path: of(certificates), source })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: of(certificates) });
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Key { path: of(key), source })?;
    let unusable = |source| TlsError::Unusable { path: of(certificates), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
