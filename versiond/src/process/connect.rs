//! Connecting to a child's socket that only the child's own user may write to.
//!
//! The supervisor may be root without the power to pass over permissions. For the moment of the connect, and for
//! this thread alone, it is the child's user towards the file system.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, socket};
use nix::unistd::{Uid, setfsuid};
use tokio::net::UnixStream;

use super::Account;

/// Connects as `account`, when there is one. Never waits: a socket whose queue is full refuses.
///
/// # Errors
/// There is no such socket, it may not be written to, or nobody listens.
pub async fn connect(path: &Path, account: Option<&Account>) -> io::Result<UnixStream> {
    let Some(account) = account else { return UnixStream::connect(path).await };
    let stream = {
        // No await in here: the thread is another's after it.
        let _as = FileSystemUser::become_user(account.uid())?;
        connect_now(path)?
    };
    UnixStream::from_std(stream)
}

fn connect_now(path: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect_to(made.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(made.into())
}

/// This thread's user towards the file system, until it is dropped.
struct FileSystemUser {
    before: Uid,
}

impl FileSystemUser {
    fn become_user(uid: Uid) -> io::Result<Self> {
        let before = setfsuid(uid);
        // The call says nothing of its success; the next one says who it is now.
        if setfsuid(uid) == uid { Ok(Self { before }) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl Drop for FileSystemUser {
    fn drop(&mut self) {
        setfsuid(self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use nix::unistd::Gid;

    use super::*;

    #[tokio::test]
    async fn f42_a_socket_is_connected_to_as_its_owner_and_only_for_the_moment() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let (open, closed) = (folder.path().join("open"), folder.path().join("closed"));
        let _sockets = [&open, &closed].map(|path| std::os::unix::net::UnixListener::bind(path).unwrap());
        std::os::unix::fs::chown(&open, Some(61_234), None).unwrap();
        for path in [&open, &closed] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let account = Account::new(Uid::from_raw(61_234), Gid::from_raw(61_234), []);
        connect(&open, Some(&account)).await.unwrap();
        let refused = connect(&closed, Some(&account)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(setfsuid(Uid::from_raw(0)), Uid::from_raw(0));
        connect(&closed, None).await.unwrap();
    }
}
