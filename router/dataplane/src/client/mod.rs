//! The client's side of a connection: the filter below hyper, and what the request path may ask of it.

mod conn;
mod io;

pub(crate) use conn::{Announced, ClientConn, Open};
pub(crate) use io::{ClientIo, Patience};
