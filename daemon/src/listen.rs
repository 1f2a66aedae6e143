//! Listening sockets that are named by a setting.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;

/// A listener that does not block.
///
/// # Errors
/// The address is taken, or is none of this machine: the text has the setting (`what`) and its value.
pub fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("{what} = \"{address}\""))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
