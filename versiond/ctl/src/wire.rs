//! One HTTP exchange over a connection of its own, to a Unix socket or a port.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Who is asked.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
    /// A name and a port.
    Named(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Unix(path) => write!(f, "{}", path.display()),
            Place::Tcp(address) => write!(f, "http://{address}"),
            Place::Named(address) => write!(f, "http://{address}"),
        }
    }
}

/// What went wrong on the way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("the exchange broke")]
    Broke(#[source] hyper::Error),
    #[error("not a request")]
    Request(#[source] http::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Sends a request and returns when the head of the response is there; the body is still to come.
pub(crate) async fn begin(
    place: &Place,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Response<Incoming>, WireError> {
    match place {
        Place::Unix(path_of_socket) => {
            let stream = UnixStream::connect(path_of_socket).await.map_err(WireError::Connect)?;
            over(stream, method, path, headers, body).await
        }
        Place::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(WireError::Connect)?;
            over(stream, method, path, headers, body).await
        }
        Place::Named(address) => {
            let stream = TcpStream::connect(address).await.map_err(WireError::Connect)?;
            over(stream, method, path, headers, body).await
        }
    }
}

/// Sends a request and reads the whole answer, within `limit`.
pub(crate) async fn ask(
    place: &Place,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
    limit: Duration,
) -> Result<Answer, WireError> {
    let exchange = async {
        let (head, body) = begin(place, method, path, headers, body).await?.into_parts();
        let body = body.collect().await.map_err(WireError::Broke)?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(WireError::Silent(limit)),
    }
}

async fn over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Response<Incoming>, WireError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(WireError::Broke)?;
    // It ends with the body; its error is also the request's or the body's.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).map_err(WireError::Request)?;
    sender.send_request(request).await.map_err(WireError::Broke)
}
