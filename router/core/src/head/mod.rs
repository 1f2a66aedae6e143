//! The strict grammar of request heads, and the framing of HTTP/1 bodies.
//!
//! [`HeadScanner`] is fed the bytes of a connection in whatever pieces they come. It says where each head
//! ends and whether it may be passed on, follows the body to find the next head, and stands aside after an
//! upgrade. What is ambiguous is refused: two readers of one byte sequence must never disagree about where
//! a request ends. Must not live here: sockets, timeouts, and any meaning of the fields beyond framing.

mod chunked;
mod decoder;
mod grammar;
mod http2;
mod scanner;
mod target;
mod violation;

pub use decoder::{ChunkDecoder, Decoded};
pub use http2::{Pseudo, check_http2};
pub use scanner::{Fed, HeadScanner, Step};
pub use violation::HeadViolation;

/// The longest head, in bytes, from its first byte to the empty line.
pub const MAX_HEAD: usize = 64 * 1024;
/// The most header fields in one head.
pub const MAX_FIELDS: usize = 100;

/// How long the body that follows a head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    /// In bytes, as `Content-Length` says.
    Length(u64),
    Chunked,
}

/// What a head that may be passed on says about its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// In bytes, the empty line included.
    pub len: usize,
    pub framing: Framing,
    /// It asks for another protocol, other than HTTP/2.
    pub upgrade: bool,
    /// No request follows on this connection.
    pub close: bool,
    /// The client waits for `100 Continue`.
    pub expect_continue: bool,
    /// HTTP/1.0: the end of a response without a length is the end of the connection.
    pub http_10: bool,
}
