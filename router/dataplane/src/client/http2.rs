//! A connection that speaks HTTP/2: its streams, each a task of its own, and how it ends.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::{self, HeaderValue};
use http::{HeaderMap, Request, Response, Version, request};
use http_body_util::BodyExt;
use router_core::head::{Framing, HeadViolation, MAX_HEAD, Pseudo, check_http2};
use tokio::time::{Instant, timeout};

use super::body::Received;
use super::conn::Conn;
use super::requests::HeadRefused;
use super::transport::Early;
use super::{Announced, Client, ClientBody};
use crate::chunk::{Chunk, LARGE};
use crate::relay::RelayBody;
use crate::serve;
use crate::worker::Worker;

/// What a client may send ahead of what was taken, in bytes: of one stream, and of all of them together.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The streams that are open. One of them holds a clone.
type Streams = Arc<()>;

/// Drives a connection to its end.
pub(super) async fn serve(worker: Arc<Worker>, conn: Arc<Conn>, io: Early) {
    let config = &worker.shared.config;
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(config.limits.streams)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_send_buffer_size(2 * LARGE);
    let shaken = timeout(config.limits.head_timeout, builder.handshake::<_, Chunk>(io)).await;
    let Ok(Ok(mut h2)) = shaken else { return };
    let peer = conn.peer;
    let drive = drive(&worker, &conn, &mut h2);
    match drive.await {
        Ok(()) => {}
        Err(error) => tracing::debug!(%error, peer = %peer.address, "a connection of a client ended"),
    }
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Broken(#[from] h2::Error),
    #[error("the client answers no ping")]
    Silent,
    #[error("it was aborted")]
    Aborted,
}

async fn drive(worker: &Arc<Worker>, conn: &Arc<Conn>, h2: &mut Connection<Early, Chunk>) -> Result<(), Ended> {
    let shared = worker.shared.clone();
    let (streams, asked) = (Streams::default(), AtomicUsize::new(0));
    let mut watch = Watch { pings: h2.ping_pong(), waits: false, idle_since: Instant::now() };
    let often = shared.config.ping.min(shared.config.limits.keep_alive);
    let mut round = tokio::time::interval_at(Instant::now() + often, often);
    let mut announced = shared.announce.subscribe();
    let mut is_leaving = false;
    loop {
        let goes = async {
            tokio::select! {
                // Of a host that announces new connections get their first answer, and then the same word.
                result = announced.wait_for(|on| *on), if asked.load(Ordering::Relaxed) > 0 => drop(result),
                () = shared.stop.cancelled() => {}
            }
        };
        tokio::select! {
            biased;
            () = poll_fn(|cx| conn.poll_aborted(cx)) => return Err(Ended::Aborted),
            accepted = h2.accept() => match accepted {
                None => return Ok(()),
                Some(accepted) => {
                    let (request, respond) = accepted?;
                    asked.fetch_add(1, Ordering::Relaxed);
                    let (client, held) = (Client::http2(conn.peer), streams.clone());
                    let stream = stream(worker.clone(), client, request, respond);
                    worker.spawn(async move {
                        stream.await;
                        drop(held);
                    });
                }
            },
            () = goes, if !is_leaving => {
                is_leaving = true;
                h2.graceful_shutdown();
            }
            _ = round.tick() => {
                let idle = watch.look(Arc::strong_count(&streams) == 1)?;
                if idle >= shared.config.limits.keep_alive && !is_leaving {
                    is_leaving = true;
                    h2.graceful_shutdown();
                }
            }
        }
    }
}

/// Whether the other side is there.
struct Watch {
    pings: Option<PingPong>,
    waits: bool,
    idle_since: Instant,
}

impl Watch {
    /// For how long there has been no stream. While there is one, a ping must be answered before the next.
    fn look(&mut self, is_idle: bool) -> Result<Duration, Ended> {
        if is_idle {
            return Ok(self.idle_since.elapsed());
        }
        self.idle_since = Instant::now();
        if let Some(pings) = &mut self.pings {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            if self.waits && pings.poll_pong(&mut cx)?.is_pending() {
                return Err(Ended::Silent);
            }
            self.waits = pings.send_ping(Ping::opaque()).is_ok();
        }
        Ok(Duration::ZERO)
    }
}

/// One request, to the last byte of its response.
async fn stream(worker: Arc<Worker>, client: Client, request: Request<RecvStream>, mut respond: SendResponse<Chunk>) {
    let (mut parts, body) = request.into_parts();
    let (announced, length) = match check(&mut parts, body.is_end_stream()) {
        Ok((announced, length)) => (announced, length),
        Err(violation) => (Announced::Refused(HeadRefused::Violation(violation)), None),
    };
    let abort = client.abort.clone();
    let request = Request::from_parts(parts, ClientBody::Http2(Received::new(body, length)));
    let stalled = worker.shared.config.limits.stalled;
    let response = tokio::select! {
        biased;
        // Whatever works for it is dropped.
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
        served = serve::serve(worker, client, announced, request) => served,
    };
    let Ok(response) = response else { return respond.send_reset(Reason::CANCEL) };
    let (mut head, body) = response.into_parts();
    head.version = Version::HTTP_2;
    head.headers.remove(header::CONNECTION);
    let ends = http_body::Body::is_end_stream(&body);
    let Ok(mut sender) = respond.send_response(Response::from_parts(head, ()), ends) else { return };
    if ends {
        return;
    }
    let sent = tokio::select! {
        biased;
        () = poll_fn(|cx| abort.poll_raised(cx)) => Err(Reason::CANCEL),
        sent = send(&mut sender, body, stalled) => sent,
    };
    if let Err(reason) = sent {
        sender.send_reset(reason);
    }
}

/// Sends a body to its end. An error is what the stream is to be reset with.
async fn send(sender: &mut SendStream<Chunk>, mut body: RelayBody, stalled: Duration) -> Result<(), Reason> {
    let gone = |_| Reason::CANCEL;
    loop {
        // One piece is on its way at most.
        sender.reserve_capacity(1);
        let room = async {
            while sender.capacity() == 0 {
                match poll_fn(|cx| sender.poll_capacity(cx)).await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(Reason::CANCEL),
                }
            }
            Ok(())
        };
        timeout(stalled, room).await.map_err(|_| Reason::CANCEL)??;
        let frame = tokio::select! {
            biased;
            _ = poll_fn(|cx| sender.poll_reset(cx)) => return Err(Reason::CANCEL),
            frame = body.frame() => frame,
        };
        match frame {
            None => return sender.send_data(Chunk::from(Bytes::new()), true).map_err(gone),
            Some(Err(error)) => {
                tracing::debug!(%error, "a response ends early");
                return Err(Reason::INTERNAL_ERROR);
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let ends = http_body::Body::is_end_stream(&body);
                    if data.has_remaining() || ends {
                        sender.send_data(data, ends).map_err(gone)?;
                    }
                    if ends {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    return sender.send_trailers(frame.into_trailers().unwrap_or_default()).map_err(gone);
                }
            },
        }
    }
}

/// Checks a request, and makes of it what it is in HTTP/1: one Host, one Cookie.
fn check(parts: &mut request::Parts, ends: bool) -> Result<(Announced, Option<u64>), HeadViolation> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().to_owned());
    let pseudo = Pseudo {
        method: parts.method.as_str().as_bytes(),
        path: parts.uri.path_and_query().map(|target| target.as_str().as_bytes()),
        authority: authority.as_deref().map(str::as_bytes),
        ends,
    };
    let fields = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let head = check_http2(pseudo, fields)?;
    if let Some(authority) = authority {
        let host = HeaderValue::try_from(authority).map_err(|_| HeadViolation::HostMalformed)?;
        parts.headers.insert(header::HOST, host);
    }
    join_cookies(&mut parts.headers);
    let length = match head.framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    Ok((Announced::Head(head), length))
}

/// RFC 9113, 8.2.3.
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, cookie);
    }
}
