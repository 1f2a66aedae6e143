//! The paths that the host answers itself, whatever is routed.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::Full;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A request for one of the host's own paths. Its body is not read.
#[derive(Debug, Clone)]
pub struct LocalRequest {
    pub method: Method,
    pub path: String,
    pub query: Option<String>,
    pub peer: SocketAddr,
    pub headers: HeaderMap,
}

/// Answers the reserved paths on the data listener. The future is dropped when the client hangs up.
pub trait LocalEndpoints: Send + Sync + 'static {
    /// `None` = there is no such thing: the plane answers 404 and forwards nothing.
    fn answer(&self, request: LocalRequest) -> BoxFuture<'static, Option<Response<Full<Bytes>>>>;
}

/// A host without endpoints of its own: reserved paths are all 404.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLocalEndpoints;

impl LocalEndpoints for NoLocalEndpoints {
    fn answer(&self, _: LocalRequest) -> BoxFuture<'static, Option<Response<Full<Bytes>>>> {
        Box::pin(std::future::ready(None))
    }
}

/// Whether a path (no query) is the host's own: never routed.
#[must_use]
pub fn is_reserved(path: &str) -> bool {
    matches!(&*first_segment(path), b"healthz" | b"readyz" | b"drain")
}

/// Whether a child's path is part of its lifecycle: never reached through a data listener.
pub(crate) fn is_lifecycle(path: &str) -> bool {
    first_segment(path).eq_ignore_ascii_case(b"drain")
}

/// The first segment that is not empty, as whoever decodes it reads it.
fn first_segment(path: &str) -> Vec<u8> {
    let mut rest = path.trim_start_matches('/').split('/').next().unwrap_or_default().as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => digit(*high).zip(digit(*low)).map(|(h, l)| (h << 4 | l, after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, tail));
        decoded.push(byte);
        rest = after;
    }
    decoded
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
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
