//! `state_dir/catalog.json`: what a host starts from when its source is down.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use versiond_core::catalog::Believed;

use crate::faults::crash;

const SCHEMA: u32 = 1;

/// The kept state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    schema: u32,
    /// The source that gave the document; its revisions say nothing about another's.
    pub(super) source: String,
    /// The key that it was signed with, where it had to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trust_key: Option<String>,
    /// As it was read.
    pub(super) document: serde_json::Value,
    pub(super) believed: Believed,
}

impl Kept {
    pub(super) fn new(
        source: String,
        trust_key: Option<String>,
        document: serde_json::Value,
        believed: Believed,
    ) -> Self {
        Self { schema: SCHEMA, source, trust_key, document, believed }
    }

    /// The same document, of which something else is believed now.
    pub(super) fn believing(&self, believed: Believed) -> Self {
        Self { believed, ..self.clone() }
    }

    /// Whether a host that starts from either would do the same. A height counts by what it brings alone, so
    /// that a chain that goes on is not a write with each of its blocks.
    pub(super) fn is_as_good_as(&self, other: &Kept) -> bool {
        let without_height = |kept: &Kept| kept.believing(Believed { height: None, ..kept.believed.clone() });
        without_height(self) == without_height(other)
    }
}

/// Why the kept state cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    #[error("{path}")]
    Disk { path: Utf8PathBuf, source: std::io::Error },
    #[error("{path} is damaged")]
    Damaged { path: Utf8PathBuf, source: serde_json::Error },
    #[error("{path} has schema {found}, this release reads {SCHEMA}")]
    Schema { path: Utf8PathBuf, found: u32 },
}

/// Reads what was kept; `None` on a host that has never kept anything.
pub(super) fn read(path: &Utf8Path) -> Result<Option<Kept>, KeepError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeepError::Disk { path: path.to_owned(), source }),
    };
    let damaged = |source| KeepError::Damaged { path: path.to_owned(), source };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(damaged)?;
    if kept.schema == SCHEMA {
        Ok(Some(kept))
    } else {
        Err(KeepError::Schema { path: path.to_owned(), found: kept.schema })
    }
}

/// Writes beside, syncs, renames over, and syncs the folder: after a crash at any point the file is the
/// old one or the new one.
pub(super) fn write(path: &Utf8Path, kept: &Kept) -> Result<(), KeepError> {
    let disk = |source| KeepError::Disk { path: path.to_owned(), source };
    let bytes = serde_json::to_vec_pretty(kept).map_err(|error| disk(std::io::Error::other(error)))?;
    let folder = path.parent().unwrap_or(Utf8Path::new("."));
    let beside = path.with_extension("json.tmp");
    let replace = || {
        std::fs::create_dir_all(folder)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    crash::before("catalog_keep");
    let replaced = replace().map_err(disk);
    crash::after("catalog_keep");
    replaced
}
