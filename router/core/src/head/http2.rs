//! A request that came over HTTP/2: its frames say where it ends, and the grammar of the rest is the same.

use super::grammar::{self, Fields};
use super::{Framing, Head, HeadViolation as V, MAX_FIELDS, MAX_HEAD, target};

/// The pseudo-headers of a request, and whether a body follows.
#[derive(Debug, Clone, Copy)]
pub struct Pseudo<'r> {
    pub method: &'r [u8],
    /// `:path`, with its query.
    pub path: Option<&'r [u8]>,
    pub authority: Option<&'r [u8]>,
    /// No body follows.
    pub ends: bool,
}

/// Checks what HTTP/2 leaves open: target, host, lengths, and fields that belong to one connection. What
/// goes on over HTTP/1 must not mean anything else there.
pub fn check_http2<'r>(pseudo: Pseudo<'r>, fields: impl Iterator<Item = (&'r [u8], &'r [u8])>) -> Result<Head, V> {
    if pseudo.method == b"CONNECT" {
        return Err(V::Connect);
    }
    target::check(pseudo.method, pseudo.path.ok_or(V::NotOriginForm)?)?;
    let mut read = Fields::default();
    let mut len = pseudo.path.map_or(0, <[u8]>::len);
    for (count, (name, value)) in fields.enumerate() {
        len += name.len() + value.len() + 4;
        match count {
            MAX_FIELDS => return Err(V::TooManyFields),
            _ if len > MAX_HEAD => return Err(V::HeadTooLarge),
            _ if grammar::is_of_connection(name) => return Err(V::ConnectionField),
            _ => read.read(name, value)?,
        }
    }
    match (pseudo.authority, read.host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return Err(V::HostRepeated),
        (Some(authority), _) => read.host = Some(authority),
        (None, _) => {}
    }
    let head = read.judge(len, false)?;
    let framing = match head.framing {
        _ if pseudo.ends => Framing::None,
        Framing::None => Framing::Chunked,
        framing @ (Framing::Length(_) | Framing::Chunked) => framing,
    };
    Ok(Head { framing, upgrade: false, close: false, ..head })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, authority: Option<&str>, fields: &[(&str, &str)], ends: bool) -> Result<Framing, V> {
        let pseudo =
            Pseudo { method: b"POST", path: Some(path.as_bytes()), authority: authority.map(str::as_bytes), ends };
        check_http2(pseudo, fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
            .map(|head| head.framing)
    }

    // F54: what would be two requests, or another one, behind a proxy that goes on in HTTP/1.
    #[test]
    fn f54_what_would_mean_something_else_in_http_1_is_refused() {
        let a = Some("a");
        for (path, authority, fields, violation) in [
            ("/x", None, &[][..], V::HostMissing),
            ("/x", a, &[("host", "b")], V::HostRepeated),
            ("/x", None, &[("host", "a"), ("host", "a")], V::HostRepeated),
            ("/x", Some("u@a"), &[], V::HostMalformed),
            ("/x", Some(""), &[], V::HostMalformed),
            ("/x", a, &[("transfer-encoding", "chunked")], V::ConnectionField),
            ("/x", a, &[("connection", "x")], V::ConnectionField),
            ("/x", a, &[("upgrade", "websocket")], V::ConnectionField),
            ("/x", a, &[("keep-alive", "1")], V::ConnectionField),
            ("/x", a, &[("proxy-connection", "1")], V::ConnectionField),
            ("/x", a, &[("content-length", "1"), ("content-length", "1")], V::LengthRepeated),
            ("/x", a, &[("content-length", "1,1")], V::LengthMalformed),
            ("/x", a, &[("content_length", "1")], V::FramingLookalike),
            ("/x/../y", a, &[], V::DotSegment),
            ("/x%2fy", a, &[], V::EncodedSlash),
            ("/x%00", a, &[], V::EncodedControl),
            ("/x y", a, &[], V::TargetCharacter),
            ("http://a/x", a, &[], V::AbsoluteForm),
            ("*", a, &[], V::AsteriskForm),
        ] {
            assert_eq!(check(path, authority, fields, false), Err(violation), "{path} {authority:?} {fields:?}");
        }
        let many = vec![("x", "y"); MAX_FIELDS + 1];
        assert_eq!(check("/x", a, &many, true), Err(V::TooManyFields));
        assert_eq!(check("/x", a, &[("x", &"y".repeat(MAX_HEAD))], true), Err(V::HeadTooLarge));
        let connect = Pseudo { method: b"CONNECT", path: None, authority: Some(b"a:1"), ends: true };
        assert_eq!(check_http2(connect, std::iter::empty()), Err(V::Connect));
    }

    #[test]
    fn the_frames_say_whether_a_body_follows_and_the_length_how_long_it_is() {
        let a = Some("a:80");
        assert_eq!(check("/x?y", a, &[("host", "A:80"), ("te", "trailers")], true), Ok(Framing::None));
        assert_eq!(check("/x", a, &[("content-length", "3")], false), Ok(Framing::Length(3)));
        assert_eq!(check("/x", None, &[("host", "a")], false), Ok(Framing::Chunked));
        assert_eq!(check("/x", a, &[("content-length", "0")], true), Ok(Framing::None));
    }
}
