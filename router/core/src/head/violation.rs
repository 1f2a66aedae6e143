//! What can be wrong with a head, by name.

use supervisor_protocol::Refusal;

/// How a request broke the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum HeadViolation {
    #[error("the request line is not `METHOD target HTTP/1.1`")]
    RequestLine,
    #[error("the method is not a token")]
    Method,
    #[error("the protocol version is malformed")]
    Version,
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here")]
    UnsupportedVersion,
    #[error("CONNECT is not forwarded")]
    Connect,
    #[error("the target may not name another host")]
    AbsoluteForm,
    #[error("the target `*` belongs to OPTIONS")]
    AsteriskForm,
    #[error("the target does not begin with '/'")]
    NotOriginForm,
    #[error("the target contains a fragment")]
    Fragment,
    #[error("the target contains a character that must be percent-encoded")]
    TargetCharacter,
    #[error("the path contains '%' without two hexadecimal digits")]
    Escape,
    #[error("the path contains an encoded slash or backslash")]
    EncodedSlash,
    #[error("the path contains an encoded control character")]
    EncodedControl,
    #[error("the path contains a '.' or '..' segment")]
    DotSegment,
    #[error("a carriage return without a line feed")]
    BareCr,
    #[error("a line feed without a carriage return")]
    BareLf,
    #[error("a control character")]
    Control,
    #[error("a folded header line")]
    ObsFold,
    #[error("a header line without a name")]
    HeaderName,
    #[error("a space before the colon of a header")]
    SpaceBeforeColon,
    #[error("no Host header")]
    HostMissing,
    #[error("more than one host")]
    HostRepeated,
    #[error("the Host header is malformed")]
    HostMalformed,
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    #[error("more than one Content-Length")]
    LengthRepeated,
    #[error("the Content-Length is not a number")]
    LengthMalformed,
    #[error("more than one Transfer-Encoding")]
    EncodingRepeated,
    #[error("the only Transfer-Encoding is `chunked`")]
    EncodingMalformed,
    #[error("Transfer-Encoding does not exist in HTTP/1.0")]
    EncodingInHttp10,
    #[error("a header that only looks like a framing header")]
    FramingLookalike,
    #[error("a header that HTTP/2 does not have")]
    ConnectionField,
    #[error("the size of a chunk is malformed")]
    ChunkSize,
    #[error("a chunk extension is malformed or too long")]
    ChunkExtension,
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    #[error("the trailers are too long")]
    TrailersTooLarge,
    #[error("a trailer that may only stand in a head")]
    TrailerForbidden,
    #[error("the head is longer than {} bytes", super::MAX_HEAD)]
    HeadTooLarge,
    #[error("the head has more than {} fields", super::MAX_FIELDS)]
    TooManyFields,
}

impl HeadViolation {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(self) -> Refusal {
        use HeadViolation as V;
        match self {
            V::HeadTooLarge | V::TooManyFields => Refusal::HeadTooLarge,
            V::UnsupportedVersion | V::Connect => Refusal::NotSupported,
            V::RequestLine
            | V::Method
            | V::Version
            | V::AbsoluteForm
            | V::AsteriskForm
            | V::NotOriginForm
            | V::Fragment
            | V::TargetCharacter
            | V::Escape
            | V::EncodedSlash
            | V::EncodedControl
            | V::DotSegment
            | V::BareCr
            | V::BareLf
            | V::Control
            | V::ObsFold
            | V::HeaderName
            | V::SpaceBeforeColon
            | V::HostMissing
            | V::HostRepeated
            | V::HostMalformed
            | V::LengthAndEncoding
            | V::LengthRepeated
            | V::LengthMalformed
            | V::EncodingRepeated
            | V::EncodingMalformed
            | V::EncodingInHttp10
            | V::FramingLookalike
            | V::ConnectionField
            | V::ChunkSize
            | V::ChunkExtension
            | V::ChunkEnd
            | V::TrailersTooLarge
            | V::TrailerForbidden => Refusal::BadHead,
        }
    }
}
