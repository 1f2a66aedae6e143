//! A whole head, checked line by line. Line endings and control characters have been checked before.

use super::{Framing, Head, HeadViolation as V, MAX_FIELDS, target};

#[derive(Default)]
pub(super) struct Fields<'h> {
    pub(super) host: Option<&'h [u8]>,
    length: Option<&'h [u8]>,
    encoding: Option<&'h [u8]>,
    close: bool,
    keep_alive: bool,
    connection_upgrade: bool,
    upgrade: Option<&'h [u8]>,
    expect_continue: bool,
}

/// Reads a head that ends with its empty line.
pub(super) fn parse(head: &[u8]) -> Result<Head, V> {
    let text = head.strip_suffix(b"\r\n\r\n").ok_or(V::RequestLine)?;
    let mut lines = text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let http_10 = request_line(lines.next().unwrap_or_default())?;

    let mut fields = Fields::default();
    for (count, line) in lines.enumerate() {
        if count == MAX_FIELDS {
            return Err(V::TooManyFields);
        }
        let (name, value) = field(line)?;
        fields.read(name, value)?;
    }
    fields.judge(head.len(), http_10)
}

/// Whether it is HTTP/1.0.
fn request_line(line: &[u8]) -> Result<bool, V> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(V::RequestLine);
    };
    if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
        return Err(V::Method);
    }
    let http_10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(V::UnsupportedVersion);
        }
        _ => return Err(V::Version),
    };
    if method == b"CONNECT" {
        return Err(V::Connect);
    }
    target::check(method, target)?;
    Ok(http_10)
}

/// Splits a header or trailer line.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), V> {
    let colon = line.iter().position(|b| *b == b':').ok_or(V::HeaderName)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() {
        return Err(V::HeaderName);
    }
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(V::SpaceBeforeColon);
    }
    if !name.iter().all(|b| is_token(*b)) {
        return Err(V::HeaderName);
    }
    Ok((name, trim(value)))
}

/// Whether a field decides where a message ends or whom it is for.
pub(super) fn is_framing(name: &[u8]) -> bool {
    [b"content-length".as_slice(), b"transfer-encoding", b"host"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a field speaks of one connection, and has no place in HTTP/2 (RFC 9113, 8.2.2).
pub(super) fn is_of_connection(name: &[u8]) -> bool {
    [b"connection".as_slice(), b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

impl<'h> Fields<'h> {
    pub(super) fn read(&mut self, name: &[u8], value: &'h [u8]) -> Result<(), V> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        let once = |field: &mut Option<&'h [u8]>, repeated: V| match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(repeated),
        };
        if is(b"host") {
            once(&mut self.host, V::HostRepeated)?;
        } else if is(b"content-length") {
            once(&mut self.length, V::LengthRepeated)?;
        } else if is(b"transfer-encoding") {
            once(&mut self.encoding, V::EncodingRepeated)?;
        } else if is(b"content_length") || is(b"transfer_encoding") {
            // Some servers take an underscore for a hyphen.
            return Err(V::FramingLookalike);
        } else if is(b"connection") {
            for token in value.split(|b| *b == b',').map(trim) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                self.connection_upgrade |= token.eq_ignore_ascii_case(b"upgrade");
            }
        } else if is(b"upgrade") {
            self.upgrade = Some(value);
        } else if is(b"expect") {
            self.expect_continue = value.eq_ignore_ascii_case(b"100-continue");
        }
        Ok(())
    }

    pub(super) fn judge(self, len: usize, http_10: bool) -> Result<Head, V> {
        match self.host {
            Some(host) if host.is_empty() || !host.iter().all(|b| is_host(*b)) => return Err(V::HostMalformed),
            None if !http_10 => return Err(V::HostMissing),
            Some(_) | None => {}
        }
        let framing = match (self.length, self.encoding) {
            (Some(_), Some(_)) => return Err(V::LengthAndEncoding),
            (None, Some(_)) if http_10 => return Err(V::EncodingInHttp10),
            (None, Some(b"chunked")) => Framing::Chunked,
            (None, Some(_)) => return Err(V::EncodingMalformed),
            (Some(length), None) => match number(length)? {
                0 => Framing::None,
                length => Framing::Length(length),
            },
            (None, None) => Framing::None,
        };
        let other_protocol = self.upgrade.is_some_and(|value| {
            !value.split(|b| *b == b',').map(trim).any(|token| token.eq_ignore_ascii_case(b"h2c"))
        });
        Ok(Head {
            len,
            framing,
            upgrade: self.connection_upgrade && other_protocol && !http_10,
            close: self.close || (http_10 && !self.keep_alive),
            expect_continue: self.expect_continue && !http_10,
            http_10,
        })
    }
}

fn number(digits: &[u8]) -> Result<u64, V> {
    if digits.is_empty() || digits.len() > 18 {
        return Err(V::LengthMalformed);
    }
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => Ok(value * 10 + u64::from(digit - b'0')),
        _ => Err(V::LengthMalformed),
    })
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

const fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
}
