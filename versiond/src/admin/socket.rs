//! The admin listeners: the Unix socket, which those may open who may also be let in, and the loopback port.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use daemon_kit::TokenHash;
use nix::unistd::{Gid, Uid, chown};

use super::peer::{Policy, group_id, user_id};
use crate::config::HostConfig;

/// Why an admin listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("{path}: another process answers on this admin socket")]
    InUse { path: PathBuf },
    #[error("{path}: cannot be opened as the admin socket")]
    Bind { path: PathBuf, source: std::io::Error },
    #[error("[host] {key} = {group:?}: there is no such group on this machine")]
    UnknownGroup { key: &'static str, group: String },
    #[error("[host] admin_tcp = \"{address}\"")]
    Tcp { address: std::net::SocketAddr, source: std::io::Error },
    #[error("{path}: the token of [host] admin_token_file cannot be read")]
    Token { path: PathBuf, source: std::io::Error },
    #[error("{path}: others than its owner may read the token; chmod 600 it")]
    OpenToken { path: PathBuf },
    #[error("{path}: the token has {found} characters, {TOKEN_MIN} are the least")]
    ShortToken { path: PathBuf, found: usize },
}

/// Fewer characters can be guessed.
const TOKEN_MIN: usize = 20;

/// The open listeners with the rules for who comes.
pub(crate) struct Listeners {
    pub(super) socket: UnixListener,
    pub(super) tcp: Option<std::net::TcpListener>,
    pub(super) policy: Policy,
}

/// Opens them. `users` are those that services run as: they are let in by no group.
pub(crate) fn bind<'u>(host: &HostConfig, users: impl Iterator<Item = &'u str>) -> Result<Listeners, AdminError> {
    let group = |key, name: &Option<String>| {
        let id = |name: &String| group_id(name).ok_or_else(|| AdminError::UnknownGroup { key, group: name.clone() });
        name.as_ref().map(id).transpose()
    };
    let (operators, readers) = (group("operators", &host.operators)?, group("readers", &host.readers)?);
    let (tcp, token) = match &host.admin_tcp {
        None => (None, None),
        Some(tcp) => {
            let failed = |source| AdminError::Tcp { address: tcp.address, source };
            let listener = std::net::TcpListener::bind(tcp.address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            (Some(listener), Some(token(tcp.token_file.as_std_path())?))
        }
    };
    let policy = Policy {
        own: Uid::effective().as_raw(),
        operators: operators.map(Gid::as_raw),
        readers: readers.map(Gid::as_raw),
        // A user that does not exist cannot ask either; who is made later is told by its processes.
        children: users.filter_map(user_id).map(Uid::as_raw).collect(),
        token,
    };
    Ok(Listeners { socket: socket(host.admin.as_std_path(), operators, readers)?, tcp, policy })
}

/// Binds the socket. One that nobody answers on is replaced.
fn socket(path: &Path, operators: Option<Gid>, readers: Option<Gid>) -> Result<UnixListener, AdminError> {
    let failed = |source| AdminError::Bind { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    if path.exists() {
        if UnixStream::connect(path).is_ok() {
            return Err(AdminError::InUse { path: path.to_owned() });
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    // Between the bind and the chmod nobody else may open it.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    let listener = listener.map_err(failed)?;
    let (group, mode) = openness(operators, readers);
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(|errno| failed(errno.into()))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// A file has one group: with two that may come, everybody may knock, and the guard decides.
fn openness(operators: Option<Gid>, readers: Option<Gid>) -> (Option<Gid>, u32) {
    match (operators, readers) {
        (None, None) => (None, 0o600),
        (Some(group), None) | (None, Some(group)) => (Some(group), 0o660),
        (Some(operators), Some(readers)) if operators == readers => (Some(operators), 0o660),
        (Some(operators), Some(_)) => (Some(operators), 0o666),
    }
}

fn token(path: &Path) -> Result<TokenHash, AdminError> {
    let failed = |source| AdminError::Token { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.mode() & 0o077 != 0 {
        return Err(AdminError::OpenToken { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    match text.trim().len() {
        found if found < TOKEN_MIN => Err(AdminError::ShortToken { path: path.to_owned(), found }),
        _ => Ok(TokenHash::of(&text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_open_to_those_who_may_come() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        let own = Some(Gid::effective());
        for (name, operators, readers, expected) in
            [("none", None, None, 0o600), ("one", own, None, 0o660), ("both", own, own, 0o660)]
        {
            let path = folder.path().join(name);
            let listener = socket(&path, operators, readers).unwrap();
            assert_eq!(mode(&path), expected, "{name}");
            assert!(matches!(socket(&path, None, None), Err(AdminError::InUse { .. })));
            drop(listener);
            socket(&path, None, None).unwrap();
        }
        assert_eq!(openness(own, Some(Gid::from_raw(1))), (own, 0o666));
    }

    #[test]
    fn a_token_is_refused_that_others_can_read_or_guess() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            token(&path)
        };
        let long = "0123456789abcdef0123456789abcdef";
        assert_eq!(write(&format!("{long}\n"), 0o600).unwrap(), TokenHash::of(long));
        assert!(matches!(write(long, 0o640), Err(AdminError::OpenToken { .. })));
        assert!(matches!(write("short\n", 0o600), Err(AdminError::ShortToken { found: 5, .. })));
    }
}
