//! What is wrong with a configuration, and where.

use camino::Utf8PathBuf;
use router_core::members::ListedError;
use router_core::route::PatternError;

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path} cannot be read")]
    Read { path: Utf8PathBuf, source: std::io::Error },
    #[error("{path} is not a configuration")]
    Syntax { path: Utf8PathBuf, source: Box<toml::de::Error> },
    #[error("{place}")]
    Member { place: String, source: ListedError },
    #[error("{place}")]
    Pattern { place: String, source: PatternError },
    #[error("{place}: {detail}")]
    Value { place: String, detail: String },
}
