//! Why a configuration was refused, and where.

use camino::Utf8PathBuf;
use supervisor_protocol::ServiceName;
use versiond_core::budget::Violation;
use versiond_core::catalog::MAX_SERVICES;

use super::setting::Origin;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}")]
    Read { path: Utf8PathBuf, source: std::io::Error },
    /// Not TOML, an unknown key, or a key of a later release.
    #[error("{path}:{line}: {detail}")]
    Syntax { path: Utf8PathBuf, line: usize, detail: String },
    #[error("{origin}: {key} = {value:?} is refused")]
    Value { key: String, value: String, origin: Origin, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{key} is required: {how}")]
    Missing { key: &'static str, how: &'static str },
    #[error("{key}: {detail}")]
    Contradiction { key: &'static str, detail: &'static str },
    #[error("[service.{service}]: {detail}")]
    Service { service: ServiceName, detail: String },
    #[error("a host takes {MAX_SERVICES} services, this configuration has {0}")]
    TooManyServices(usize),
    #[error("the time budget contradicts itself: {}", join(.0))]
    Budget(Vec<Violation>),
}

fn join(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
