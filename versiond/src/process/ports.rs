//! Ports for children: out of one range, in turn, so that a port that was just left rests longest.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::str::FromStr;
use std::sync::Arc;

use nix::sys::socket::sockopt::ReuseAddr;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// A range of ports, both ends included: `20000-20999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Why a range was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no range of ports such as 20000-20999")]
pub struct PortRangeError {
    text: String,
}

impl PortRange {
    /// # Errors
    /// `first` is 0 or above `last`.
    pub fn new(first: u16, last: u16) -> Result<Self, PortRangeError> {
        if first == 0 || first > last {
            return Err(PortRangeError { text: format!("{first}-{last}") });
        }
        Ok(Self { first, last })
    }

    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    #[must_use]
    pub fn last(self) -> u16 {
        self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let refuse = || PortRangeError { text: text.to_owned() };
        let (first, last) = text.split_once('-').ok_or_else(refuse)?;
        let port = |part: &str| part.trim().parse::<u16>().map_err(|_| refuse());
        Self::new(port(first)?, port(last)?).map_err(|_| refuse())
    }
}

impl TryFrom<String> for PortRange {
    type Error = PortRangeError;
    fn try_from(text: String) -> Result<Self, PortRangeError> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> String {
        range.to_string()
    }
}

/// Every port of the range is lent or in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no free port in {range}")]
pub struct PortsExhausted {
    pub range: PortRange,
}

/// Lends the ports of a range.
#[derive(Debug, Clone)]
pub struct PortAllocator {
    range: PortRange,
    lent: Arc<Mutex<Lent>>,
}

#[derive(Debug)]
struct Lent {
    ports: BTreeSet<u16>,
    /// Where the search begins.
    next: u16,
}

impl PortAllocator {
    #[must_use]
    pub fn new(range: PortRange) -> Self {
        Self { range, lent: Arc::new(Mutex::new(Lent { ports: BTreeSet::new(), next: range.first })) }
    }

    /// The next port, in turn, that is not lent and that can be bound now.
    ///
    /// # Errors
    /// There is none.
    pub fn allocate(&self) -> Result<PortLease, PortsExhausted> {
        self.take(|port, old_connections| bound(Ipv4Addr::UNSPECIFIED, port, old_connections)).map(|(lease, _)| lease)
    }

    /// The next port, in turn, with a socket that listens on it at the loopback address, to be handed over: nobody
    /// else can take the port any more. Connections wait from now on.
    ///
    /// # Errors
    /// There is none.
    pub fn listen(&self) -> Result<(PortLease, OwnedFd), PortsExhausted> {
        self.take(|port, old_connections| {
            let socket = bound(Ipv4Addr::LOCALHOST, port, old_connections)?;
            listen(&socket, Backlog::MAXCONN).ok().map(|()| socket)
        })
    }

    fn take<T>(&self, attempt: impl Fn(u16, OldConnections) -> Option<T>) -> Result<(PortLease, T), PortsExhausted> {
        let PortRange { first, last } = self.range;
        let mut lent = self.lent.lock();
        let find = |old_connections| {
            let in_turn = (lent.next..=last).chain(first..lent.next);
            let mut not_lent = in_turn.filter(|port| !lent.ports.contains(port));
            not_lent.find_map(|port| Some((port, attempt(port, old_connections)?)))
        };
        let found = find(OldConnections::Avoid).or_else(|| find(OldConnections::Accept));
        let (port, taken) = found.ok_or(PortsExhausted { range: self.range })?;
        lent.ports.insert(port);
        lent.next = if port == last { first } else { port + 1 };
        Ok((PortLease { port, lent: Arc::clone(&self.lent) }, taken))
    }
}

/// A port that is lent until this is dropped.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    lent: Arc<Mutex<Lent>>,
}

impl PortLease {
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        self.lent.lock().ports.remove(&self.port);
    }
}

/// What to do about a port whose last connections still linger in `TIME_WAIT`.
#[derive(Debug, Clone, Copy)]
enum OldConnections {
    /// Not every child sets `SO_REUSEADDR`, and one that does not could not bind it.
    Avoid,
    /// Better than no port in a narrow range.
    Accept,
}

/// A socket that has the port, when it can be had; at the address of all it shows that a child can have it at
/// any. It does not listen, so that nobody can connect meanwhile.
fn bound(address: Ipv4Addr, port: u16, old_connections: OldConnections) -> Option<OwnedFd> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).ok()?;
    match old_connections {
        OldConnections::Avoid => {}
        OldConnections::Accept => setsockopt(&socket, ReuseAddr, &true).ok()?,
    }
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, port))).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A range of `count` ports that were all free a moment ago, outside the ephemeral range.
    fn free_range(count: u16) -> PortRange {
        let start = 10_000 + u16::try_from(std::process::id() % 2_000).unwrap() * 5;
        let fits = |first: &u16| {
            (*first..*first + count).all(|port| bound(Ipv4Addr::UNSPECIFIED, port, OldConnections::Avoid).is_some())
        };
        let first = (start..32_000).step_by(usize::from(count)).find(fits).unwrap();
        PortRange::new(first, first + count - 1).unwrap()
    }

    #[test]
    fn ports_are_lent_in_turn_and_come_back() {
        let range = free_range(3);
        let ports = PortAllocator::new(range);
        let a = ports.allocate().unwrap();
        let b = ports.allocate().unwrap();
        assert_eq!((a.port(), b.port()), (range.first(), range.first() + 1));
        drop(a);
        let c = ports.allocate().unwrap();
        assert_eq!(c.port(), range.last(), "the port that was just left rests");
        let again = ports.allocate().unwrap();
        assert_eq!(again.port(), range.first());
        assert_eq!(ports.allocate().unwrap_err(), PortsExhausted { range });
        drop(b);
        assert_eq!(ports.allocate().unwrap().port(), range.first() + 1);
    }

    #[test]
    fn a_port_in_use_is_passed_over_whatever_address_holds_it() {
        let range = free_range(3);
        let _one = std::net::TcpListener::bind(("127.0.0.1", range.first())).unwrap();
        let _all = std::net::TcpListener::bind(("0.0.0.0", range.first() + 1)).unwrap();
        let ports = PortAllocator::new(range);
        let lease = ports.allocate().unwrap();
        assert_eq!(lease.port(), range.last());
        assert!(ports.allocate().is_err());
    }

    #[test]
    fn f27_nobody_takes_a_port_whose_socket_is_to_be_handed_over() {
        let range = free_range(1);
        let ports = PortAllocator::new(range);
        let (lease, socket) = ports.listen().unwrap();
        for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
            for old_connections in [OldConnections::Avoid, OldConnections::Accept] {
                assert!(bound(address, lease.port(), old_connections).is_none(), "{address} {old_connections:?}");
            }
        }
        assert!(ports.listen().is_err());
        let client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, lease.port())).unwrap();
        let (_, from) = std::net::TcpListener::from(socket).accept().unwrap();
        assert_eq!(from, client.local_addr().unwrap(), "who came early is served");
    }

    #[test]
    fn a_range_is_read_strictly() {
        let range: PortRange = "20000-20999".parse().unwrap();
        assert_eq!((range.first(), range.last(), range.to_string()), (20_000, 20_999, "20000-20999".to_owned()));
        for text in ["", "20000", "0-5", "5-4", "a-b", "1-70000"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }
}
