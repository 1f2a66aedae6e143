//! `NOTIFY_SOCKET`: a program that knows of no supervisor can still say that it is ready, as it would to systemd.
//!
//! A word counts only when the kernel names a process of the generation's own tree as its sender. Must not live
//! here: what a word means for the generation.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::sockopt::PassCred;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::process::ProcessId;
use crate::process::sockets::belongs;

/// The longest message that is read, in bytes.
const LONGEST: usize = 4096;

/// What a program has said of itself so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) ready: bool,
    pub(crate) status: Option<String>,
    /// It has asked to be waited for until then.
    pub(crate) until: Option<Instant>,
    /// Who spoke last in its name and is none of it.
    pub(crate) stranger: Option<i32>,
}

/// The last of what a program has said.
#[derive(Debug, Clone)]
pub(crate) struct Notified(watch::Receiver<Note>);

impl Notified {
    pub(crate) fn note(&self) -> Note {
        self.0.borrow().clone()
    }
}

/// A bound socket to which nobody listens yet.
pub(crate) struct NotifySocket(UnixDatagram);

impl NotifySocket {
    /// Before the program is started, so that no word of it is lost.
    pub(crate) fn bind(path: &Path) -> io::Result<NotifySocket> {
        let socket = UnixDatagram::bind(path)?;
        setsockopt(&socket, PassCred, &true)?;
        Ok(NotifySocket(socket))
    }

    /// Listens to the processes of `leader`'s tree, until the handle is dropped.
    pub(crate) fn listen(self, leader: ProcessId) -> (Notified, AbortOnDropHandle<()>) {
        let (tell, note) = watch::channel(Note::default());
        let task = tokio::spawn(async move {
            loop {
                let received = self.0.async_io(Interest::READABLE, || receive(&self.0)).await;
                let (sender, text) = match received {
                    Ok(Some(message)) => message,
                    Ok(None) => continue,
                    Err(error) => {
                        tracing::warn!(pid = leader.pid, %error, "the notification socket cannot be read");
                        return;
                    }
                };
                let tree = leader.clone();
                let own = tokio::task::spawn_blocking(move || belongs(sender, &tree)).await.unwrap_or(false);
                if own {
                    tell.send_modify(|note| take(note, &text, Instant::now()));
                } else {
                    tell.send_modify(|note| note.stranger = Some(sender));
                }
            }
        });
        (Notified(note), AbortOnDropHandle::new(task))
    }
}

/// One message and its sender; `None` when the kernel does not name one.
fn receive(socket: &UnixDatagram) -> io::Result<Option<(i32, String)>> {
    let mut bytes = [0u8; LONGEST];
    let mut space = nix::cmsg_space!(UnixCredentials);
    let (length, sender) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        // Descriptors beside a message find no room here, and the kernel closes them: a barrier is passed at once.
        let sender = message.cmsgs().ok().and_then(|mut messages| {
            messages.find_map(|message| {
                if let ControlMessageOwned::ScmCredentials(sender) = message { Some(sender.pid()) } else { None }
            })
        });
        (message.bytes, sender)
    };
    let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
    Ok(sender.map(|sender| (sender, text)))
}

fn take(note: &mut Note, text: &str, now: Instant) {
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match name {
            "READY" if value == "1" => note.ready = true,
            "STATUS" => note.status = Some(value.to_owned()),
            "EXTEND_TIMEOUT_USEC" => {
                if let Ok(micros) = value.parse() {
                    note.until = now.checked_add(Duration::from_micros(micros));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::Nonce;

    use super::*;

    #[test]
    fn a_message_is_read_line_by_line_and_what_is_unknown_means_nothing() {
        let now = Instant::now();
        let mut note = Note::default();
        take(&mut note, "STATUS=loading 40 %\nEXTEND_TIMEOUT_USEC=5000000\nMAINPID=7\nnonsense", now);
        assert_eq!(note.status.as_deref(), Some("loading 40 %"));
        assert_eq!((note.ready, note.until), (false, Some(now + Duration::from_secs(5))));
        take(&mut note, "READY=0", now);
        assert!(!note.ready);
        take(&mut note, "READY=1\nSTATUS=serving", now);
        assert_eq!((note.ready, note.status.as_deref()), (true, Some("serving")));
    }

    /// F27: a word counts only from the generation's own tree.
    #[tokio::test]
    async fn f27_a_strangers_word_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.sock");
        let own = ProcessId::of(
            std::process::id().try_into().unwrap(),
            Nonce::new("0123456789abcdef0123456789abcdef").unwrap(),
        );
        let (notified, _task) = NotifySocket::bind(&path).unwrap().listen(own.unwrap());
        let mut changes = notified.0.clone();
        let speaker = UnixDatagram::unbound().unwrap();
        speaker.send_to(b"READY=1", &path).await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), changes.changed()).await.unwrap().unwrap();
        assert!(notified.note().ready);

        let path = folder.path().join("m.sock");
        let other = ProcessId::of(1, Nonce::new("ffffffffffffffffffffffffffffffff").unwrap()).unwrap();
        let (notified, _task) = NotifySocket::bind(&path).unwrap().listen(other);
        let mut changes = notified.0.clone();
        speaker.send_to(b"READY=1", &path).await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), changes.changed()).await.unwrap().unwrap();
        let speaker = i32::try_from(std::process::id()).unwrap();
        assert_eq!((notified.note().ready, notified.note().stranger), (false, Some(speaker)));
    }
}
