//! Listening sockets that are named by a setting.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};

/// How many connections may wait to be accepted, where the kernel allows it. What is beyond waits for a second or
/// more, until its client knocks again; the 128 of the standard library are a burst.
const BACKLOG: i32 = 4_096;

/// A listener that does not block.
///
/// # Errors
/// The address is taken, or is none of this machine: the text has the setting (`what`) and its value.
pub fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // What a predecessor has closed may still be lingering; whoever listens is in the way all the same.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok::<_, std::io::Error>(socket.into())
    };
    bound().with_context(|| format!("{what} = \"{address}\""))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_of_clients_is_let_in_at_once_and_a_taken_address_is_named() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), "listen").unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts, and nobody knocks a second time: the kernel waits for a second before it does.
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
        let knock = |_: usize| TcpStream::connect_timeout(&address, Duration::from_millis(900)).unwrap();
        let burst: Vec<_> = (0..500.min(most)).map(knock).collect();
        assert_eq!(burst.len(), 500.min(most));
        let error = bind(address, "listen").unwrap_err();
        assert_eq!(error.to_string(), format!("listen = \"{address}\""));
    }
}
