//! One HTTP/1 connection of a client, and how its errors are told apart.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use supervisor_protocol::error::chain;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::checks::Fault;

/// The body of a client's request.
pub type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A body of bytes that are all there.
#[must_use]
pub fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).boxed()
}

/// A connection to the host.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Body>,
    host: SocketAddr,
}

impl Connection {
    /// Opens one.
    pub async fn open(host: SocketAddr, within: Duration) -> Result<Self, Fault> {
        let failed = |error: &dyn std::fmt::Display| Fault::Connect(error.to_string());
        let socket = timeout(within, TcpStream::connect(host))
            .await
            .map_err(|_| Fault::Connect(format!("not within {within:?}")))?
            .map_err(|error| failed(&error))?;
        socket.set_nodelay(true).map_err(|error| failed(&error))?;
        let (sender, driver) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| failed(&error))?;
        // What ends the driver also ends the exchange, where it is noticed.
        tokio::spawn(driver);
        Ok(Self { sender, host })
    }

    /// Whether another request may be sent on it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and waits for the head of the answer, which must be a 200.
    pub async fn send(&mut self, mut request: Request<Body>, within: Duration) -> Result<Response<Incoming>, Fault> {
        let host = http::HeaderValue::from_str(&self.host.to_string());
        request.headers_mut().insert(http::header::HOST, host.map_err(|error| Fault::NoAnswer(error.to_string()))?);
        let exchange = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let response = timeout(within, exchange)
            .await
            .map_err(|_| Fault::NoAnswer(format!("nothing within {within:?}")))?
            .map_err(|error| Fault::NoAnswer(chain(&error)))?;
        if response.status() == http::StatusCode::OK {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let refusal = response.headers().get(supervisor_protocol::headers::NOT_ADMITTED).cloned();
        let text = match timeout(within, response.into_body().collect()).await {
            Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).chars().take(160).collect(),
            Ok(Err(error)) => chain(&error),
            Err(_) => "its body did not come".to_owned(),
        };
        let refusal = refusal.map(|value| format!(" [{}]", String::from_utf8_lossy(value.as_bytes())));
        Err(Fault::Status { status, detail: format!("{}{}", text.trim(), refusal.unwrap_or_default()) })
    }

    /// Sends a request and reads the whole answer.
    pub async fn exchange(&mut self, request: Request<Body>, within: Duration) -> Result<String, Fault> {
        let response = self.send(request, within).await?;
        let body = timeout(within, response.into_body().collect()).await;
        let broken = |how| Fault::BrokenOff { after: "the head of the answer".to_owned(), how };
        let body = body.map_err(|_| broken(format!("nothing within {within:?}")))?;
        let bytes = body.map_err(|error| broken(chain(&error)))?.to_bytes();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A request of a client.
pub fn request(method: http::Method, path: &str, body: Body) -> Result<Request<Body>, Fault> {
    let request = Request::builder().method(method).uri(path).body(body);
    request.map_err(|error| Fault::Malformed(error.to_string()))
}
