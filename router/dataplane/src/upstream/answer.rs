//! The head of a child's response over HTTP/1, and how long its body is.
//!
//! Pure. What two readers could take for two different lengths is refused here as it is in requests.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode, Version};

/// The most header fields in the head of a response.
const MAX_FIELDS: usize = 128;

/// Why the head of a response is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAnswer {
    #[error("the head breaks the grammar of HTTP/1: {0}")]
    Grammar(httparse::Error),
    #[error("a header cannot be carried on")]
    Header,
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    #[error("the Content-Length is not one number")]
    Length,
    #[error("the only Transfer-Encoding is `chunked`, in HTTP/1.1")]
    Encoding,
}

/// How long the body that follows is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerFraming {
    None,
    /// In bytes.
    Length(u64),
    Chunked,
    /// To the end of the connection.
    UntilClose,
}

/// A whole head.
#[derive(Debug)]
pub(crate) struct AnswerHead {
    pub(crate) parts: Parts,
    pub(crate) framing: AnswerFraming,
    /// Whether another request may follow on the connection.
    pub(crate) keep_alive: bool,
    /// How many bytes it took.
    pub(crate) used: usize,
}

/// Reads a head from the front of `input`; `None` when it is not whole yet. `to_head`: the request was a HEAD.
pub(crate) fn parse(input: &[u8], to_head: bool) -> Result<Option<AnswerHead>, BadAnswer> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let used = match parsed.parse(input) {
        Err(error) => return Err(BadAnswer::Grammar(error)),
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(used)) => used,
    };
    let version = match parsed.version {
        Some(1) => Version::HTTP_11,
        _ => Version::HTTP_10,
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(BadAnswer::Grammar(httparse::Error::Status))?;

    // One copy, of which the values are slices.
    let text = Bytes::copy_from_slice(&input[..used]);
    let place = |part: &[u8]| part.as_ptr() as usize - input.as_ptr() as usize;
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BadAnswer::Header)?;
        let from = if field.value.is_empty() { 0 } else { place(field.value) };
        let value = text.slice(from..from + field.value.len());
        headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| BadAnswer::Header)?);
    }

    let framing = framing(&mut headers, status, version, to_head)?;
    let keep_alive = version == Version::HTTP_11 && framing != AnswerFraming::UntilClose && !says_close(&headers);
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.version = version;
    parts.headers = headers;
    Ok(Some(AnswerHead { parts, framing, keep_alive, used }))
}

/// RFC 9112, 6.3.
fn framing(
    headers: &mut HeaderMap,
    status: StatusCode,
    version: Version,
    to_head: bool,
) -> Result<AnswerFraming, BadAnswer> {
    let length = content_length(headers)?;
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = match (encodings.next(), encodings.next()) {
        (None, _) => false,
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") && version == Version::HTTP_11 => true,
        (Some(_), _) => return Err(BadAnswer::Encoding),
    };
    if to_head || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(AnswerFraming::None);
    }
    match (length, is_chunked) {
        (Some(_), true) => Err(BadAnswer::LengthAndEncoding),
        (None, true) => Ok(AnswerFraming::Chunked),
        (Some(0), false) => Ok(AnswerFraming::None),
        (Some(length), false) => Ok(AnswerFraming::Length(length)),
        (None, false) => Ok(AnswerFraming::UntilClose),
    }
}

/// The one length that all say; what was said more than once is said once from here on.
fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, BadAnswer> {
    let mut length = None;
    let mut said = 0;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for part in value.to_str().map_err(|_| BadAnswer::Length)?.split(',') {
            let part = part.trim_matches([' ', '\t']);
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let number = is_number.then(|| part.parse::<u64>().ok()).flatten().ok_or(BadAnswer::Length)?;
            if length.replace(number).is_some_and(|before| before != number) {
                return Err(BadAnswer::Length);
            }
            said += 1;
        }
    }
    if let (2.., Some(length)) = (said, length) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing_of(head: &str) -> Result<(AnswerFraming, bool), BadAnswer> {
        parse(format!("{head}\r\n").as_bytes(), false)
            .map(|head| head.map(|head| (head.framing, head.keep_alive)).expect("a whole head"))
    }

    #[test]
    fn the_length_of_a_body_is_what_its_head_says_or_the_head_is_refused() {
        use AnswerFraming as F;
        use BadAnswer as B;
        let table = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Ok((F::Length(5), true))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n", Ok((F::Length(5), true))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n", Ok((F::Length(5), true))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n", Err(B::Length)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n", Err(B::Length)),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n", Err(B::Length)),
            ("HTTP/1.1 200 OK\r\nContent-Length: \r\n", Err(B::Length)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n", Err(B::Length)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Ok((F::None, true))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n", Ok((F::None, false))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n", Ok((F::Chunked, true))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", Err(B::Encoding)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(B::Encoding)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(B::LengthAndEncoding)),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", Err(B::Encoding)),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", Ok((F::Length(5), false))),
            ("HTTP/1.1 200\r\n", Ok((F::UntilClose, false))),
            ("HTTP/1.1 204 No\r\nContent-Length: 5\r\n", Ok((F::None, true))),
            ("HTTP/1.1 304 No\r\nContent-Length: 5\r\n", Ok((F::None, true))),
            ("HTTP/1.1 101 Yes\r\nUpgrade: x\r\n", Ok((F::None, true))),
        ];
        for (head, expected) in table {
            assert_eq!(framing_of(head), expected, "{head:?}");
        }
        let twice = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5,5\r\n\r\nabcde", true).unwrap().unwrap();
        assert_eq!((twice.framing, twice.used), (F::None, 40));
        assert_eq!(twice.parts.headers.get_all("content-length").iter().collect::<Vec<_>>(), ["5"]);
    }

    #[test]
    fn a_head_that_is_not_whole_is_waited_for_and_one_that_is_none_is_refused() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nX: ", false).unwrap().is_none());
        assert!(parse(b"", false).unwrap().is_none());
        for bad in [&b"SSH-2.0-x\r\n"[..], b"HTTP/2.0 200 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n", b"\x16\x03\x01"] {
            assert!(matches!(parse(bad, false), Err(BadAnswer::Grammar(_))), "{bad:?}");
        }
        let empty = parse(b"HTTP/1.1 200 OK\r\nX:\r\nY: a b \r\n\r\n", false).unwrap().unwrap();
        assert_eq!((empty.parts.headers["x"].as_bytes(), empty.parts.headers["y"].as_bytes()), (&b""[..], &b"a b"[..]));
    }
}
