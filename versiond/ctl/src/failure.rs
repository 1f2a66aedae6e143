//! Why a command failed, and the exit code that says so.

use std::io;
use std::path::PathBuf;

use http::StatusCode;
use supervisor_protocol::admin::ApiError;

use crate::exit;
use crate::wire::WireError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot reach versiond on {}", .socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error("{} {path}: no whole answer", .socket.display())]
    Exchange { socket: PathBuf, path: String, source: WireError },
    #[error("{} {path}: the answer ({status}) is not what the API says", .socket.display())]
    Malformed { socket: PathBuf, path: String, status: StatusCode, source: serde_json::Error },
    #[error(
        "{path}: the daemon speaks schema {found}, this versionctl knows {known}: install the one that came with the daemon"
    )]
    Schema { path: String, found: u64, known: u32 },
    #[error("refused: {} ({})", .0.message, .0.code)]
    Refused(ApiError),
    #[error("the drain was taken back by someone else")]
    TakenBack,
    #[error("not drained within the time given, in flight: {load}")]
    TimedOut { load: String },
    #[error("{0} does not honour the contract")]
    NotConformant(String),
    #[error("cannot work in a temporary folder")]
    Scratch(#[source] io::Error),
    #[error("cannot start")]
    Runtime(#[source] io::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Unreachable { .. } => exit::UNREACHABLE,
            Failure::TimedOut { .. } => exit::TIMED_OUT,
            Failure::Refused(_) | Failure::TakenBack => exit::REFUSED,
            Failure::Exchange { .. }
            | Failure::Malformed { .. }
            | Failure::Schema { .. }
            | Failure::NotConformant(_)
            | Failure::Scratch(_)
            | Failure::Runtime(_) => exit::FAILED,
        }
    }

    /// What to do about it, where that can be said.
    pub(crate) fn remedy(&self) -> Option<String> {
        let Failure::Unreachable { source, socket } = self else { return None };
        let otherwise = "or name another socket with --admin PATH or VERSIOND_ADMIN";
        Some(if source.kind() == io::ErrorKind::PermissionDenied {
            format!("run it as root or as the user that versiond runs as, {otherwise}")
        } else if socket.exists() {
            format!(
                "the socket is there but nobody answers: versiond has ended, see `systemctl status versiond`, {otherwise}"
            )
        } else {
            format!("is versiond running here? see `systemctl status versiond`, {otherwise}")
        })
    }
}
