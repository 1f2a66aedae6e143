//! The data listener: accepts connections, admits requests, and holds a lease for each until the last
//! byte of its response, or the close of its upgraded connection.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, EXPECT};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use supervisor_protocol::StreamClass;
use supervisor_protocol::headers::LAST_RESORT;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::context::not_admitted;
use crate::life::{Gate, Refused};
use crate::shared::{Lease, Shared};
use crate::socket::{Listening, Socket};

/// The child's own service.
pub(crate) type App = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// How long a connection may be idle, or take for one request head. The proxy before us keeps idle
/// connections for 5 s. Were ours the shorter, we could close one just as a POST is sent on it, and
/// nobody could say whether that POST was executed.
const IDLE: Duration = Duration::from_secs(90);
const _: () = assert!(IDLE.as_secs() >= 75);

/// Of the body of a refused request: read so much, for so long, and throw it away. Closing a socket
/// with unread bytes in it resets the connection, and the refusal may be lost with it.
const DISCARD_BYTES: usize = 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Everything a connection needs.
pub(crate) struct Server {
    pub(crate) shared: Arc<Shared>,
    /// Empty until the child has built it.
    pub(crate) app: Arc<OnceLock<App>>,
    /// Accept no more connections.
    pub(crate) stop: CancellationToken,
    /// End the connections, each after the response that it is sending.
    pub(crate) close: CancellationToken,
    pub(crate) connections: TaskTracker,
}

impl Server {
    /// Accepts until told to stop.
    pub(crate) async fn run(self: Arc<Self>, listener: Listening) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(socket) => {
                    self.connections.spawn(Arc::clone(&self).connection(socket));
                }
                // Out of descriptors, most likely: those that are open go on, and some will close.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn connection(self: Arc<Self>, socket: Socket) {
        let upgraded = Upgraded::default();
        let io = Connection { io: TokioIo::new(socket.clone()), upgraded: upgraded.clone() };
        let service = hyper::service::service_fn(|request| {
            let (server, socket, upgraded) = (Arc::clone(&self), socket.clone(), upgraded.clone());
            async move { Ok::<_, Infallible>(server.answer(request, socket, &upgraded).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .half_close(true)
            .serve_connection(io, service)
            .with_upgrades();
        let mut connection = pin!(connection);
        // An error is the client's hanging up; the lease has ended with the body.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = self.close.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, socket: Socket, upgraded: &Upgraded) -> Response<Body> {
        if request.uri().path() == "/healthz" && matches!(*request.method(), Method::GET | Method::HEAD) {
            return Response::new(Body::from("ok\n"));
        }
        let Some(app) = self.app.get() else {
            self.shared.refuse(Refused::Initializing);
            return self.refuse(request, Refused::Initializing);
        };
        let last_resort = request.headers().get(LAST_RESORT).is_some_and(|value| value == "1");
        let lease = match self.shared.admit(last_resort) {
            Ok(lease) => lease,
            Err(refused) => return self.refuse(request, refused),
        };
        let tunnel = *request.method() == Method::CONNECT;
        let response = match app.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS || (tunnel && status.is_success()) {
            lease.classify(StreamClass::Upgrade);
            upgraded.hold(lease);
            return response;
        }
        let class = class_of(&response);
        lease.classify(class);
        // The end of the client's half is the end of a stream, which may have nothing to write for minutes. What
        // is done once goes on.
        let hung_up = match class {
            StreamClass::Stream => Some(Box::pin(socket.hung_up()) as Pin<Box<dyn Future<Output = ()> + Send>>),
            StreamClass::Request | StreamClass::Upgrade | StreamClass::Job => None,
        };
        response.map(|inner| Body::new(Leased { inner, hung_up, lease: Some(lease) }))
    }

    fn refuse(&self, request: Request<Incoming>, refused: Refused) -> Response<Body> {
        // Who expects a 100 has not sent the body: reading it would ask for it.
        if !request.body().is_end_stream() && !request.headers().contains_key(EXPECT) {
            self.connections.spawn(discard(request.into_body()));
        }
        let mut response = not_admitted(&self.shared.identity, refused.code());
        if self.shared.read(crate::life::Life::gate) == Gate::Stopping {
            response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        }
        response
    }
}

/// The class that the child declares as a response extension, else the one that its content type implies.
fn class_of(response: &Response<Body>) -> StreamClass {
    if let Some(declared) = response.extensions().get::<StreamClass>() {
        return *declared;
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.map_or(StreamClass::Request, StreamClass::of_content_type)
}

async fn discard(mut body: Incoming) {
    let reading = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
}

pin_project_lite::pin_project! {
    /// A response body that ends its lease when it ends, breaks or is dropped.
    struct Leased {
        #[pin]
        inner: Body,
        hung_up: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
        lease: Option<Lease>,
    }
}

impl http_body::Body for Leased {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        if let Some(hung_up) = this.hung_up
            && hung_up.as_mut().poll(cx).is_ready()
        {
            (*this.hung_up, *this.lease) = (None, None);
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the client hung up");
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        let frame = ready!(this.inner.poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            *this.lease = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Where the lease of an upgraded connection waits for that connection to close.
#[derive(Clone, Default)]
struct Upgraded(Arc<Mutex<Option<Lease>>>);

impl Upgraded {
    fn hold(&self, lease: Lease) {
        *self.0.lock() = Some(lease);
    }

    fn release(&self) {
        let lease = self.0.lock().take();
        drop(lease);
    }
}

/// The socket. After an upgrade it belongs to the child's code, and drops when that code is done with it.
struct Connection {
    io: TokioIo<Socket>,
    upgraded: Upgraded,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.upgraded.release();
    }
}

impl Read for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
