//! Who may ask what of the admin API. On the Unix socket the kernel names the caller; on the TCP listener a
//! token does.
//!
//! | caller | may |
//! |---|---|
//! | root, versiond's own user, a member of `[host] operators`, the token | everything |
//! | a member of `[host] readers` | `GET` |
//! | a child, whatever its groups; anybody else | nothing |
//!
//! [`Policy::judge`] decides and looks at nothing; [`Policy::caller`] looks.

use std::collections::BTreeSet;
use std::fmt;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use daemon_kit::TokenHash;
use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::{TcpListener, UnixListener};

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    Read,
    Operate,
}

/// A process at the other end of the Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    /// Its primary group and those that its user belongs to.
    pub(super) groups: BTreeSet<u32>,
    /// It has the nonce of a generation, or the uid of one that is not versiond's own.
    pub(super) is_child: bool,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    Local(Peer),
    /// The kernel does not say who: gone already.
    Unknown,
    /// Over TCP, with what it has for a token.
    Remote(Option<String>),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Local(peer) => write!(f, "uid {}", peer.uid),
            Caller::Unknown => f.write_str("unknown"),
            Caller::Remote(_) => f.write_str("token"),
        }
    }
}

/// Why a caller is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("a child of versiond may not use the admin socket")]
    Child,
    #[error("uid {uid} is neither root nor versiond's user, nor a member of [host] operators or readers")]
    Stranger { uid: u32 },
    #[error("uid {uid} may read and not change: it is a member of [host] readers, not of operators")]
    ReaderActs { uid: u32 },
    #[error("the kernel does not say who asks")]
    Unknown,
    #[error("Authorization: Bearer TOKEN is missing or wrong")]
    Token,
}

/// The rules of one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(super) own: u32,
    pub(super) operators: Option<u32>,
    pub(super) readers: Option<u32>,
    /// The users that services run as.
    pub(super) children: BTreeSet<u32>,
    pub(super) token: Option<TokenHash>,
}

impl Policy {
    /// Whether this caller may do what needs `needed`.
    pub(super) fn judge(&self, caller: &Caller, needed: Access) -> Result<(), Refused> {
        match caller {
            Caller::Local(peer) => match self.of_peer(peer)? {
                access if access >= needed => Ok(()),
                Access::Read | Access::Operate => Err(Refused::ReaderActs { uid: peer.uid }),
            },
            Caller::Unknown => Err(Refused::Unknown),
            Caller::Remote(given) => {
                let given = given.as_deref().map(TokenHash::of);
                if given.is_some() && given == self.token { Ok(()) } else { Err(Refused::Token) }
            }
        }
    }

    fn of_peer(&self, peer: &Peer) -> Result<Access, Refused> {
        let belongs = |group: Option<u32>| group.is_some_and(|group| peer.groups.contains(&group));
        if peer.is_child || (self.children.contains(&peer.uid) && peer.uid != self.own) {
            Err(Refused::Child)
        } else if peer.uid == 0 || peer.uid == self.own || belongs(self.operators) {
            Ok(Access::Operate)
        } else if belongs(self.readers) {
            Ok(Access::Read)
        } else {
            Err(Refused::Stranger { uid: peer.uid })
        }
    }
}

/// What the kernel says of the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Credentials {
    uid: u32,
    gid: u32,
    pid: Option<i32>,
}

/// How a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Socket(Option<Credentials>),
    Tcp,
}

impl Connected<IncomingStream<'_, UnixListener>> for Origin {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Origin {
        let told = stream.io().peer_cred().ok();
        Origin::Socket(told.map(|told| Credentials { uid: told.uid(), gid: told.gid(), pid: told.pid() }))
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Origin {
    fn connect_info(_: IncomingStream<'_, TcpListener>) -> Origin {
        Origin::Tcp
    }
}

impl Policy {
    /// Looks up what is to be known of a caller. `child_uids` are those of the processes that run now.
    pub(super) fn caller(
        &self,
        origin: Origin,
        token: Option<&str>,
        child_uids: impl FnOnce() -> BTreeSet<u32>,
    ) -> Caller {
        let Credentials { uid, gid, pid } = match origin {
            Origin::Tcp => return Caller::Remote(token.map(str::to_owned)),
            Origin::Socket(None) => return Caller::Unknown,
            Origin::Socket(Some(credentials)) => credentials,
        };
        // A process that is gone has no nonce to show; its request is worth what its uid is worth.
        let has_nonce = pid.is_some_and(crate::process::identity::is_child);
        let is_child = has_nonce || (uid != 0 && uid != self.own && child_uids().contains(&uid));
        let grouped = self.operators.is_some() || self.readers.is_some();
        let groups = if grouped { groups(uid, gid) } else { BTreeSet::new() };
        Caller::Local(Peer { uid, groups, is_child })
    }
}

/// The primary group of a process and all that its user belongs to.
fn groups(uid: u32, gid: u32) -> BTreeSet<u32> {
    let mut groups = BTreeSet::from([gid]);
    if let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid))
        && let Ok(name) = std::ffi::CString::new(user.name)
        && let Ok(more) = nix::unistd::getgrouplist(&name, user.gid)
    {
        groups.extend(more.iter().map(|group| group.as_raw()));
    }
    groups
}

/// A user by its name or its number.
pub(super) fn user_id(text: &str) -> Option<Uid> {
    match text.parse() {
        Ok(number) => Some(Uid::from_raw(number)),
        Err(_) => User::from_name(text).ok().flatten().map(|user| user.uid),
    }
}

/// A group by its name or its number.
pub(crate) fn group_id(text: &str) -> Option<Gid> {
    match text.parse() {
        Ok(number) => Some(Gid::from_raw(number)),
        Err(_) => Group::from_name(text).ok().flatten().map(|group| group.gid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 900;

    fn policy() -> Policy {
        Policy {
            own: OWN,
            operators: Some(50),
            readers: Some(60),
            children: BTreeSet::from([700, OWN]),
            token: Some(TokenHash::of("secret\n")),
        }
    }

    fn peer(uid: u32, groups: &[u32]) -> Caller {
        Caller::Local(Peer { uid, groups: groups.iter().copied().collect(), is_child: false })
    }

    #[test]
    fn f43_a_child_is_refused_whatever_its_groups_and_a_reader_only_reads() {
        use Access::{Operate, Read};
        let policy = policy();
        for (caller, may) in [
            (peer(0, &[]), Ok(Operate)),
            (peer(OWN, &[]), Ok(Operate)),
            (peer(1000, &[50]), Ok(Operate)),
            (peer(1000, &[60, 50]), Ok(Operate)),
            (peer(1000, &[60]), Ok(Read)),
            (peer(1000, &[1000]), Err(Refused::Stranger { uid: 1000 })),
            (peer(700, &[50, 60]), Err(Refused::Child)),
            (Caller::Local(Peer { uid: OWN, groups: BTreeSet::new(), is_child: true }), Err(Refused::Child)),
            (Caller::Unknown, Err(Refused::Unknown)),
            (Caller::Remote(Some("secret".to_owned())), Ok(Operate)),
            (Caller::Remote(Some("guess".to_owned())), Err(Refused::Token)),
            (Caller::Remote(None), Err(Refused::Token)),
        ] {
            assert_eq!(policy.judge(&caller, Read), may.map(drop), "{caller}");
            let acts = match may {
                Ok(Read) => Err(Refused::ReaderActs { uid: 1000 }),
                Ok(Operate) => Ok(()),
                Err(refused) => Err(refused),
            };
            assert_eq!(policy.judge(&caller, Operate), acts, "{caller}");
        }
    }

    #[test]
    fn without_groups_or_a_token_only_root_and_the_own_user_are_let_in() {
        let policy = Policy { operators: None, readers: None, token: None, ..policy() };
        assert!(policy.judge(&peer(1000, &[50, 60]), Access::Read).is_err());
        assert_eq!(policy.judge(&Caller::Remote(None), Access::Read), Err(Refused::Token));
        assert_eq!(policy.judge(&Caller::Remote(Some(String::new())), Access::Read), Err(Refused::Token));
        assert_eq!(policy.judge(&peer(OWN, &[]), Access::Operate), Ok(()));
    }

    #[test]
    fn a_group_is_named_or_numbered() {
        assert_eq!(group_id("0"), Some(Gid::from_raw(0)));
        assert_eq!(group_id("root"), Some(Gid::from_raw(0)));
        assert_eq!(group_id("no-such-group-here"), None);
    }
}
