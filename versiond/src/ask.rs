//! Questions to children over HTTP/1, and the connections that they go over.
//!
//! A child is asked once a second for as long as it lives, and connecting costs more than asking: a [`Line`] may
//! keep its connection from one question to the next. Must not live here: what is asked, and what an answer means.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::process::{self, Account};

/// Questions over one connection: a child that answers on old connections and takes no new ones is noticed by the
/// first question of the next.
const QUESTIONS: u32 = 10;

/// Why a child did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    #[error("no connection to {place}")]
    Connect { place: String, source: io::Error },
    #[error("no answer from {place} within {within:?}")]
    Timeout { place: String, within: Duration },
    #[error("{place} broke off")]
    Broke { place: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{place} answered {status}")]
    Status { place: String, status: StatusCode },
    #[error("{place} answered something else than the contract says")]
    Body { place: String, source: serde_json::Error },
    #[error("{place} gave no count of what is in flight")]
    NoCount { place: String },
}

impl ChildError {
    /// Whether the child says that it has no such endpoint.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, ChildError::Status { status, .. } if is_absent(*status))
    }
}

/// The statuses by which a child says that it does not have an endpoint.
pub(crate) fn is_absent(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
}

/// What a line runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// Where questions to one listener of a child go. It connects when it has to.
pub(crate) enum Line {
    /// Each question has its own connection. What knows of no supervisor may serve one connection at a time.
    Fresh,
    /// A connection serves several questions.
    Kept(Option<Open>),
}

/// Polled only while a question is on its way.
type Driven = Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

/// A connection without a question on its way. Nothing reads it meanwhile: that it was closed shows at the next one.
pub(crate) struct Open {
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Driven>>,
    left: u32,
}

/// One question.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    /// Who is asked, for errors.
    pub(crate) place: &'a str,
    /// The largest body that it may answer, in bytes.
    pub(crate) most: usize,
}

impl Line {
    /// Asks, over the connection that is kept or over a new one. A question may reach the child twice, when it has
    /// closed the kept one meanwhile: everything that is asked may.
    pub(crate) async fn ask(
        &mut self,
        question: &Question<'_>,
        dial: impl Future<Output = Result<Box<dyn Stream>, ChildError>>,
    ) -> Result<(StatusCode, Bytes), ChildError> {
        // Taken, so that one that was given up half-way is not used again.
        if let Line::Kept(kept) = self
            && let Some(open) = kept.take()
            && let Ok((answer, open)) = open.ask(question).await
        {
            *kept = open;
            return Ok(answer);
        }
        let questions = match self {
            Line::Fresh => 1,
            Line::Kept(_) => QUESTIONS,
        };
        let (answer, open) = Open::new(dial.await?, questions, question.place).await?.ask(question).await?;
        if let Line::Kept(kept) = self {
            *kept = open;
        }
        Ok(answer)
    }
}

impl Open {
    async fn new(stream: Box<dyn Stream>, left: u32, place: &str) -> Result<Open, ChildError> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| broke(place, source))?;
        Ok(Open { sender, connection: Box::pin(connection), left })
    }

    /// Gives back the connection, where it may be asked again.
    async fn ask(mut self, question: &Question<'_>) -> Result<((StatusCode, Bytes), Option<Open>), ChildError> {
        let place = question.place;
        self.left -= 1;
        let mut request = Request::builder()
            .method(question.method.clone())
            .uri(question.path)
            .header(header::HOST, "supervisor")
            .body(Full::<Bytes>::default())
            .map_err(|source| broke(place, source))?;
        if self.left == 0 {
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let Open { mut sender, mut connection, left } = self;
        let conversation = async {
            sender.ready().await.map_err(|source| broke(place, source))?;
            let response = sender.send_request(request).await.map_err(|source| broke(place, source))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), question.most)
                .collect()
                .await
                .map_err(|source| broke(place, source))?;
            Ok((status, body.to_bytes()))
        };
        let (answer, has_ended) = {
            let mut conversation = std::pin::pin!(conversation);
            tokio::select! {
                answer = &mut conversation => (answer?, false),
                ended = &mut connection => {
                    ended.map_err(|source| broke(place, source))?;
                    (conversation.await?, true)
                }
            }
        };
        let again = !has_ended && left > 0;
        Ok((answer, again.then_some(Open { sender, connection, left })))
    }
}

/// A connection to a child's loopback port.
pub(crate) async fn dial_port(port: u16, place: &str) -> Result<Box<dyn Stream>, ChildError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    dialled(TcpStream::connect(address).await, place)
}

/// A connection to another host, `name:port` or an address.
pub(crate) async fn dial_host(address: &str) -> Result<Box<dyn Stream>, ChildError> {
    dialled(TcpStream::connect(address).await, address)
}

/// The same to its socket, as whoever that belongs to.
pub(crate) async fn dial_socket(
    socket: &Path,
    account: Option<&Account>,
    place: &str,
) -> Result<Box<dyn Stream>, ChildError> {
    dialled(process::connect(socket, account).await, place)
}

fn dialled(stream: io::Result<impl Stream + 'static>, place: &str) -> Result<Box<dyn Stream>, ChildError> {
    match stream {
        Ok(stream) => Ok(Box::new(stream)),
        Err(source) => Err(ChildError::Connect { place: place.to_owned(), source }),
    }
}

fn broke(place: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ChildError {
    ChildError::Broke { place: place.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A child that answers so many questions on each connection, and counts the connections.
    async fn child(answers: usize) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let connections = count.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut buffer = [0; 1_024];
                for _ in 0..answers {
                    let Ok(1..) = stream.read(&mut buffer).await else { break };
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                }
            }
        });
        (address, connections)
    }

    /// The connections that so many questions took.
    async fn connections(answers: usize, questions: usize, mut line: Line) -> usize {
        let (address, connections) = child(answers).await;
        let question = Question { method: Method::GET, path: "/ready", place: "the child", most: 2 };
        for _ in 0..questions {
            let dial = async { Ok(Box::new(TcpStream::connect(address).await.unwrap()) as Box<dyn Stream>) };
            let (status, body) = line.ask(&question, dial).await.unwrap();
            assert_eq!((status, body.as_ref()), (StatusCode::OK, b"ok".as_slice()));
        }
        connections.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_kept_line_connects_anew_now_and_then_and_when_the_child_has_closed_it() {
        assert_eq!(connections(usize::MAX, 1, Line::Kept(None)).await, 1);
        assert_eq!(connections(usize::MAX, 25, Line::Kept(None)).await, 3);
        assert_eq!(connections(2, 8, Line::Kept(None)).await, 4);
        assert_eq!(connections(usize::MAX, 4, Line::Fresh).await, 4);
    }
}
