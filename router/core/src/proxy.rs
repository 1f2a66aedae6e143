//! The PROXY protocol, version 2: what a balancer before us says of the connection that it passes on.
//!
//! Grammar of the binary header: the HAProxy project's `proxy-protocol.txt`. Version 1 is text, and not
//! spoken. Must not live here: reading, and who may say it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first bytes of a header.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The bytes before the addresses, which say how many follow.
pub const FIXED: usize = 16;
/// The longest header that is read, in bytes: addresses and as many further fields as anybody sends.
pub const MAX_HEADER: usize = 4 * 1024;

const IPV4: usize = 12;
const IPV6: usize = 36;

/// How a header breaks the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyViolation {
    #[error("the connection does not begin with a PROXY protocol header of version 2")]
    Signature,
    #[error("the PROXY protocol header has version {0}")]
    Version(u8),
    #[error("the PROXY protocol header has the unknown command {0}")]
    Command(u8),
    #[error("the PROXY protocol header is longer than {MAX_HEADER} bytes")]
    TooLong,
    #[error("the addresses in the PROXY protocol header are cut short")]
    Addresses,
    #[error("the fields behind the addresses in the PROXY protocol header are malformed")]
    Fields,
}

/// What has been read so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// So many bytes make the next step possible, all told. Nothing behind the header is asked for.
    NeedMore(usize),
    Header(ProxyHeader),
}

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// In bytes.
    pub len: usize,
    /// Whose connection it is; `None` when the balancer speaks for itself (a check of its own), or does not say.
    pub source: Option<SocketAddr>,
}

/// Reads a header from the front of `input`.
pub fn parse(input: &[u8]) -> Result<Parsed, ProxyViolation> {
    let begun = input.len().min(SIGNATURE.len());
    if input[..begun] != SIGNATURE[..begun] {
        return Err(ProxyViolation::Signature);
    }
    let Some(fixed) = input.first_chunk::<FIXED>() else { return Ok(Parsed::NeedMore(FIXED)) };
    let [.., version_command, family, high, low] = *fixed;
    if version_command >> 4 != 2 {
        return Err(ProxyViolation::Version(version_command >> 4));
    }
    let is_local = match version_command & 0xf {
        0 => true,
        1 => false,
        other => return Err(ProxyViolation::Command(other)),
    };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_HEADER {
        return Err(ProxyViolation::TooLong);
    }
    let Some(rest) = input.get(FIXED..len) else { return Ok(Parsed::NeedMore(len)) };
    let (source, fields) = match family {
        // Over IPv4 and IPv6, whatever the transport.
        0x11 | 0x12 => addresses::<IPV4>(rest).map(|(block, rest)| (Some(source_v4(block)), rest))?,
        0x21 | 0x22 => addresses::<IPV6>(rest).map(|(block, rest)| (Some(source_v6(block)), rest))?,
        // Unspecified, or of a family without an address that would help: to be skipped.
        _ => (None, &[][..]),
    };
    skim(fields)?;
    Ok(Parsed::Header(ProxyHeader { len, source: if is_local { None } else { source } }))
}

fn addresses<const N: usize>(rest: &[u8]) -> Result<(&[u8; N], &[u8]), ProxyViolation> {
    rest.split_first_chunk::<N>().ok_or(ProxyViolation::Addresses)
}

fn source_v4(block: &[u8; IPV4]) -> SocketAddr {
    let [a, b, c, d, _, _, _, _, high, low, ..] = *block;
    (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into()
}

fn source_v6(block: &[u8; IPV6]) -> SocketAddr {
    let mut address = [0; 16];
    address.copy_from_slice(&block[..16]);
    (Ipv6Addr::from(address), u16::from_be_bytes([block[32], block[33]])).into()
}

/// Type, length, value, one after the other: of none anything is believed.
fn skim(mut fields: &[u8]) -> Result<(), ProxyViolation> {
    while !fields.is_empty() {
        let [_, high, low, rest @ ..] = fields else { return Err(ProxyViolation::Fields) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        fields = rest.get(length..).ok_or(ProxyViolation::Fields)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_command, family], &length, rest].concat()
    }

    fn v4() -> Vec<u8> {
        [[203, 0, 113, 7, 10, 0, 0, 1].as_slice(), &[0x1f, 0x90, 0x00, 0x50]].concat()
    }

    fn whole(bytes: &[u8]) -> Result<ProxyHeader, ProxyViolation> {
        parse(bytes).map(|parsed| match parsed {
            Parsed::Header(header) => header,
            Parsed::NeedMore(most) => panic!("{most} of {} bytes", bytes.len()),
        })
    }

    #[test]
    fn the_source_is_read_and_what_is_behind_it_left() {
        let mut bytes = header(0x21, 0x11, &v4());
        bytes.extend(b"GET /");
        assert_eq!(whole(&bytes), Ok(ProxyHeader { len: 28, source: Some("203.0.113.7:8080".parse().unwrap()) }));
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[32..34].copy_from_slice(&[1, 1]);
        let with_fields = [&v6[..], &[3, 0, 2, b'x', b'y', 4, 0, 0]].concat();
        let read = whole(&header(0x21, 0x21, &with_fields));
        assert_eq!(read, Ok(ProxyHeader { len: 60, source: Some("[::1]:257".parse().unwrap()) }));
    }

    #[test]
    fn a_balancer_that_speaks_for_itself_or_does_not_say_names_nobody() {
        for bytes in
            [header(0x20, 0x11, &v4()), header(0x20, 0, &[]), header(0x21, 0, &[1, 2]), header(0x21, 0x31, &[0; 216])]
        {
            assert_eq!(whole(&bytes).map(|header| header.source), Ok(None));
        }
    }

    #[test]
    fn what_is_no_header_is_named() {
        use ProxyViolation as V;
        for (bytes, violation) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), V::Signature),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), V::Signature),
            (b"\r\n\r\n\0\r\nQUIX".to_vec(), V::Signature),
            (header(0x11, 0x11, &v4()), V::Version(1)),
            (header(0x22, 0x11, &v4()), V::Command(2)),
            (header(0x21, 0x11, &v4()[..11]), V::Addresses),
            (header(0x21, 0x21, &v4()), V::Addresses),
            (header(0x21, 0x11, &[&v4()[..], &[1, 0]].concat()), V::Fields),
            (header(0x21, 0x11, &[&v4()[..], &[1, 0, 9, 0]].concat()), V::Fields),
            (header(0x21, 0x11, &[0; MAX_HEADER]), V::TooLong),
        ] {
            assert_eq!(parse(&bytes), Err(violation), "{bytes:?}");
        }
    }

    proptest! {
        /// Whoever reads as many bytes as are asked for ends with the same, and never has one too many.
        #[test]
        fn read_by_what_it_asks_for_it_is_the_same(fields in proptest::collection::vec(any::<u8>(), 0..40)) {
            let length = u8::try_from(fields.len()).unwrap();
            let bytes = header(0x21, 0x11, &[&v4()[..], &[5, 0, length], &fields].concat());
            let mut asked = 0;
            let end = loop {
                match parse(&bytes[..asked]).unwrap() {
                    Parsed::Header(header) => break header,
                    Parsed::NeedMore(more) => {
                        prop_assert!(more > asked && more <= bytes.len());
                        asked = more;
                    }
                }
            };
            prop_assert_eq!(Ok(end), whole(&bytes));
            prop_assert_eq!(end.len, asked);
        }

        #[test]
        fn nothing_makes_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..80), signed in any::<bool>()) {
            let bytes = if signed { [&SIGNATURE[..], &tail].concat() } else { tail };
            let _ = parse(&bytes);
        }
    }
}
