//! The paths that are a router's, a host's or a child's lifecycle's own, in whatever spelling.

/// First segments of what a router or a host answers itself: nothing below them is ever forwarded.
pub const RESERVED: [&str; 3] = ["healthz", "readyz", "drain"];

/// The part of them that is a child's lifecycle.
const LIFECYCLE: &str = "drain";

/// Whether a path (no query) is a router's or a host's own: never routed.
#[must_use]
pub fn is_reserved(path: &str) -> bool {
    RESERVED.iter().any(|name| first_segment(path).eq(name.bytes()))
}

/// Whether a child's path is part of its lifecycle: never reached through a data listener.
#[must_use]
pub fn is_lifecycle(path: &str) -> bool {
    first_segment(path).map(|byte| byte.to_ascii_lowercase()).eq(LIFECYCLE.bytes())
}

/// The first segment that is not empty, as whoever decodes it once reads it.
fn first_segment(path: &str) -> impl Iterator<Item = u8> + '_ {
    let bytes = path.trim_start_matches('/').split('/').next().unwrap_or_default().as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(at)?;
        let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (byte, digit(at + 1), digit(at + 2)) {
            at += 3;
            return u8::try_from(high * 16 + low).ok();
        }
        at += 1;
        Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f43_no_spelling_hides_a_path_of_the_host_or_of_a_childs_lifecycle() {
        for path in ["/drain", "//drain/status", "/%64rain", "/%64%72%61%69%6e/x", "/drai%6E"] {
            assert!(is_reserved(path) && is_lifecycle(path), "{path}");
        }
        assert!(is_reserved("/%68ealthz") && is_reserved("/ready%7a"));
        assert!(is_lifecycle("/%44RAIN"));
        // Decoded once, as a child decodes it.
        for path in ["/", "", "/drains", "/x/drain", "/%2564rain", "/%6", "/%zzdrain", "/drain%"] {
            assert!(!is_reserved(path) && !is_lifecycle(path), "{path}");
        }
    }
}
