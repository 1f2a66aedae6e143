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
