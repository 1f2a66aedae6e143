//! Certificates of a listener: read, checked, and exchanged while connections are open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs, io};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: it cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
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
pub struct TlsIdentity(Arc<Identity>);

struct Identity {
    certificates: PathBuf,
    key: PathBuf,
    shown: ArcSwap<Shown>,
}

struct Shown {
    config: Arc<ServerConfig>,
    /// The bytes of both files.
    read: [Vec<u8>; 2],
}

impl TlsIdentity {
    /// Reads a chain of certificates, the own one first, and its private key, both PEM. Blocking.
    pub fn read(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        let shown = ArcSwap::from_pointee(read(certificates, key)?);
        Ok(Self(Arc::new(Identity { certificates: certificates.to_owned(), key: key.to_owned(), shown })))
    }

    /// Reads both again, and says whether they have changed. After an error what was there before stays. Blocking.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let Identity { certificates, key, shown } = &*self.0;
        let now = read(certificates, key)?;
        let has_changed = now.read != shown.load().read;
        if has_changed {
            shown.store(Arc::new(now));
        }
        Ok(has_changed)
    }

    /// Refreshes it every now and then, for ever, and tells the log.
    pub async fn follow(self) {
        let mut told = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let identity = self.clone();
            let Ok(refreshed) = tokio::task::spawn_blocking(move || identity.refresh()).await else { return };
            let error = match refreshed {
                Ok(true) => {
                    tracing::info!(certificate = %self.0.certificates.display(), "another certificate is shown from now on");
                    None
                }
                Ok(false) => None,
                Err(error) => Some(error.to_string()),
            };
            if let (true, Some(error)) = (told != error, &error) {
                tracing::error!(error, "the certificate stays as it was");
            }
            told = error;
        }
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.0.shown.load().config.clone()
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity")
    }
}

fn read(certificates: &Path, key: &Path) -> Result<Shown, TlsError> {
    let of = |path: &Path| path.to_owned();
    let unread = |path: &Path, source| TlsError::Read { path: of(path), source };
    let read = [
        fs::read(certificates).map_err(|source| unread(certificates, source))?,
        fs::read(key).map_err(|source| unread(key, source))?,
    ];
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read[0])
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Certificates { path: of(certificates), source })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: of(certificates) });
    }
    let key = PrivateKeyDer::from_pem_slice(&read[1]).map_err(|source| TlsError::Key { path: of(key), source })?;
    let unusable = |source| TlsError::Unusable { path: of(certificates), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Shown { config: Arc::new(config), read })
}
