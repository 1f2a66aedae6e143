//! Why an artifact is not in the store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use supervisor_protocol::Sha256;

use crate::catalog::http::FetchError;
use crate::metrics::Fetched;

/// Why an artifact could not be had. Cheap to clone, since a failure is remembered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("{path}")]
    Disk { path: PathBuf, source: Arc<io::Error> },
    #[error("the HTTP client cannot be made")]
    Client { source: Arc<FetchError> },
    #[error("{place}")]
    Fetch { place: String, source: Arc<FetchError> },
    #[error("expected {expected}, found {found}")]
    HashMismatch { expected: Sha256, found: Sha256 },
    #[error("the artifact cannot be used")]
    Unusable(#[source] Unusable),
}

/// What is wrong with bytes that are the right ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("it has more than {cap} bytes")]
    TooLarge { cap: u64 },
    #[error("unpacked, it has more than {cap} bytes")]
    TooLargeUnpacked { cap: u64 },
    #[error("it is a {0} archive, which this release does not read")]
    Format(&'static str),
    #[error("the {format} archive is broken: {detail}")]
    Broken { format: &'static str, detail: String },
    #[error("it has more than {cap} members")]
    TooManyMembers { cap: usize },
    #[error("its list of members has more than {cap} bytes")]
    DirectoryTooLarge { cap: u64 },
    #[error("it has an extended header of a kind that is refused: {0}")]
    Extended(String),
    #[error("no member is {0:?}")]
    NoMember(String),
    #[error("{count} members are {entry:?}")]
    Ambiguous { entry: String, count: usize },
    #[error("it has {0} files, and no entry is named")]
    NoEntryNamed(usize),
    #[error("the member {0:?} leads out of the archive")]
    Escapes(String),
    #[error("the member {0:?} is no regular file")]
    NotAFile(String),
    #[error("the member {0:?} is encrypted")]
    Encrypted(String),
    /// Found before a restart.
    #[error("{0}")]
    Earlier(String),
    #[error("it is installed with the entry {installed:?}, and {asked:?} is asked for")]
    OtherEntry { installed: String, asked: String },
}

impl StoreError {
    /// What is counted of a fetch that has come to this.
    pub(super) fn as_fetched(&self) -> Fetched {
        match self {
            StoreError::HashMismatch { .. } => Fetched::HashMismatch,
            StoreError::Unusable(_) => Fetched::Refused,
            StoreError::Disk { .. } | StoreError::Client { .. } => Fetched::Failed,
            StoreError::Fetch { source, .. } => match **source {
                FetchError::Address(_) | FetchError::Refused(_) => Fetched::Refused,
                FetchError::Client(_)
                | FetchError::Exchange(_)
                | FetchError::Status(_)
                | FetchError::TooLarge { .. }
                | FetchError::Slow { .. }
                | FetchError::File(_) => Fetched::Failed,
            },
        }
    }

    pub(super) fn disk(path: &Path, source: io::Error) -> Self {
        StoreError::Disk { path: path.to_owned(), source: Arc::new(source) }
    }
}

impl From<Unusable> for StoreError {
    fn from(unusable: Unusable) -> Self {
        StoreError::Unusable(unusable)
    }
}
