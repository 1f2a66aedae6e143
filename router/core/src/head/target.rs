//! The target of a request line: origin-form, and nothing in it that two readers could take for two
//! different paths.

use super::HeadViolation as V;

/// Checks the target of a request that is not CONNECT.
pub(super) fn check(method: &[u8], target: &[u8]) -> Result<(), V> {
    if target == b"*" {
        return if method == b"OPTIONS" { Ok(()) } else { Err(V::AsteriskForm) };
    }
    if target.contains(&b'#') {
        return Err(V::Fragment);
    }
    if target.first() != Some(&b'/') {
        let absolute = target.windows(3).any(|w| w == b"://");
        return Err(if absolute { V::AbsoluteForm } else { V::NotOriginForm });
    }
    let question = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(question);
    if !path.iter().all(|b| is_path(*b)) || !query.iter().all(|b| is_query(*b)) {
        return Err(V::TargetCharacter);
    }
    path.split(|b| *b == b'/').try_for_each(segment)
}

fn segment(raw: &[u8]) -> Result<(), V> {
    let mut rest = raw;
    let mut dots = 0usize;
    let mut only_dots = true;
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let high = char::from(*high).to_digit(16).ok_or(V::Escape)?;
                let low = char::from(*low).to_digit(16).ok_or(V::Escape)?;
                let byte = u8::try_from(high << 4 | low).map_err(|_| V::Escape)?;
                match byte {
                    b'/' | b'\\' => return Err(V::EncodedSlash),
                    0..=0x1f | 0x7f => return Err(V::EncodedControl),
                    _ => (byte, tail),
                }
            }
            (b'%', _) => return Err(V::Escape),
            (byte, tail) => (*byte, tail),
        };
        rest = tail;
        // `..;x` is `..` to servers that know path parameters.
        match byte {
            b'.' if only_dots => dots += 1,
            b';' if only_dots && matches!(dots, 1 | 2) => return Err(V::DotSegment),
            _ => only_dots = false,
        }
    }
    if only_dots && matches!(dots, 1 | 2) { Err(V::DotSegment) } else { Ok(()) }
}

/// `pchar` and `/` of RFC 3986, and what clients are seen to send unencoded.
const fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b'/' | b':' | b'@')
        || is_sub_delim(byte)
        || matches!(byte, b'[' | b']' | b'|')
}

const fn is_query(byte: u8) -> bool {
    is_path(byte) || matches!(byte, b'?' | b'{' | b'}' | b'^' | b'`' | b'\\')
}

const fn is_sub_delim(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}
