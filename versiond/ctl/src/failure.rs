//! Why a command failed, and the exit code that says so.

use std::fmt;
use std::io;
use std::path::PathBuf;

use camino::Utf8PathBuf;
use http::StatusCode;
use supervisor_protocol::Reason;
use supervisor_protocol::admin::ApiError;
use supervisor_protocol::router::Worded;
use versiond_core::catalog::{CatalogError, Refused, SignatureError};
use versiond_core::replay::LineError;

use crate::client::Whom;
use crate::exit;
use crate::wire::{Place, WireError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot reach {whom} on {place}")]
    Unreachable { whom: Whom, place: Place, source: io::Error },
    #[error("{place} {path}: no whole answer")]
    Exchange { place: Place, path: String, source: WireError },
    #[error("{place} {path}: the answer ({status}) is not what the API says")]
    Malformed { place: Place, path: String, status: StatusCode, source: serde_json::Error },
    #[error("the daemon has ended the stream")]
    Ended,
    #[error("--admin {0}: expected the path of a socket, or http:// and a loopback address with port")]
    Place(String),
    #[error("--router {0}: expected http:// and a name or an address with its port")]
    RouterPlace(String),
    #[error("{0} asks for a token, and for another than it was given")]
    RouterToken(Place),
    #[error("{path}: cannot read the token")]
    Token { path: Utf8PathBuf, source: io::Error },
    #[error(
        "{path}: the daemon speaks schema {found}, this versionctl knows {known}: install the one that came with the daemon"
    )]
    Schema { path: String, found: u64, known: u32 },
    #[error("refused: {} ({})", .0.message, .0.code)]
    Refused(ApiError),
    #[error("{0} ({code})", code = .0.code())]
    NotFetched(Reason),
    #[error("{0}")]
    Usage(&'static str),
    #[error("{} cannot be run", program.display())]
    NoDaemon { program: PathBuf, source: io::Error },
    #[error("the drain was taken back by someone else")]
    TakenBack,
    #[error("{host} is not drained any more: somebody took it back, or the host has left or speaks for itself again")]
    NotDrainedAnyMore { host: String },
    #[error("nobody would be chosen: {text} ({code})", text = .0.text, code = .0.code)]
    NoChoice(Worded),
    #[error("not drained within the time given, in flight: {load}")]
    TimedOut { load: String },
    #[error("{0} does not honour the contract")]
    NotConformant(String),
    #[error("{path} cannot be read")]
    Document { path: Utf8PathBuf, source: io::Error },
    #[error("{path} cannot be written")]
    Unwritten { path: Utf8PathBuf, source: io::Error },
    #[error("{path} would be refused")]
    RefusedDocument { path: String, source: CatalogError },
    #[error("{path} would be refused")]
    NotFollowed { path: String, source: Refused },
    #[error("{path} would not be trusted")]
    NotSigned { path: String, source: SignatureError },
    #[error("{path} would not be trusted: there is no signature beside it")]
    Unsigned { path: String },
    #[error("{path} cannot be replayed")]
    Recording { path: Utf8PathBuf, source: LineError },
    #[error("{path}: ends otherwise than it was recorded, by version {version}; this is {}", env!("CARGO_PKG_VERSION"))]
    EndsOtherwise { path: Utf8PathBuf, version: String },
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
            Failure::Refused(_) | Failure::RouterToken(_) | Failure::TakenBack | Failure::NotDrainedAnyMore { .. } => {
                exit::REFUSED
            }
            Failure::Place(_) | Failure::RouterPlace(_) | Failure::Usage(_) => exit::USAGE,
            Failure::Exchange { .. }
            | Failure::NoChoice(_)
            | Failure::Ended
            | Failure::NotFetched(_)
            | Failure::NoDaemon { .. }
            | Failure::Token { .. }
            | Failure::Malformed { .. }
            | Failure::Schema { .. }
            | Failure::NotConformant(_)
            | Failure::Document { .. }
            | Failure::Unwritten { .. }
            | Failure::RefusedDocument { .. }
            | Failure::NotFollowed { .. }
            | Failure::NotSigned { .. }
            | Failure::Unsigned { .. }
            | Failure::Recording { .. }
            | Failure::EndsOtherwise { .. }
            | Failure::Scratch(_)
            | Failure::Runtime(_) => exit::FAILED,
        }
    }

    /// What to do about it, where that can be said.
    pub(crate) fn remedy(&self) -> Option<String> {
        if let Failure::RouterToken(_) = self {
            return Some("name the file with it: --token-file PATH or VERSIOND_ROUTER_TOKEN_FILE".to_owned());
        }
        let Failure::Unreachable { whom, source, place } = self else { return None };
        Some(match whom {
            Whom::Daemon => no_daemon(source, place),
            Whom::Router => "name its [router] admin listener with --router URL or VERSIOND_ROUTER".to_owned(),
        })
    }
}

fn no_daemon(source: &io::Error, place: &Place) -> String {
    let otherwise = "or name another socket with --admin PATH or VERSIOND_ADMIN";
    let exists = match place {
        Place::Unix(socket) => socket.exists(),
        Place::Tcp(_) | Place::Named(_) => false,
    };
    if source.kind() == io::ErrorKind::PermissionDenied {
        format!("run it as root, as versiond's user or as a member of [host] operators or readers, {otherwise}")
    } else if exists {
        format!(
            "the socket is there but nobody answers: versiond has ended, see `systemctl status versiond`, {otherwise}"
        )
    } else {
        format!("is versiond running here? see `systemctl status versiond`, {otherwise}")
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Whom::Daemon => "versiond",
            Whom::Router => "versiond-router",
        })
    }
}
