//! A connection that speaks HTTP/1: the filter, and hyper above it.

use std::future::poll_fn;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use super::conn::Conn;
use super::io::{ClientIo, Patience};
use super::requests::Requests;
use super::transport::Early;
use super::{Client, ClientBody};
use crate::serve;
use crate::worker::{BUFFER, Worker};

/// Drives a connection to its end.
pub(super) async fn serve(worker: Arc<Worker>, conn: Arc<Conn>, io: Early) {
    let (shared, config) = (worker.shared.clone(), &worker.shared.config);
    let requests = Requests::new(conn.clone());
    let patience =
        Patience { head: config.limits.head_timeout, idle: config.limits.keep_alive, stalled: config.limits.stalled };
    let io = TokioIo::new(ClientIo::new(requests.clone(), io, patience));
    // Keeps a permit from its first request on.
    let asked = Arc::new(Notify::new());
    let service = {
        let (worker, asked) = (worker.clone(), asked.clone());
        service_fn(move |request: http::Request<hyper::body::Incoming>| {
            asked.notify_one();
            let announced = requests.next();
            serve::serve(worker.clone(), Client::http1(&requests), announced, request.map(ClientBody::Http1))
        })
    };
    let http =
        http1::Builder::new().half_close(true).max_buf_size(BUFFER).serve_connection(io, service).with_upgrades();
    tokio::pin!(http);

    let stopping = async {
        shared.stop.cancelled().await;
        // Whoever has only just come is about to ask, and its connection is not closed under its request.
        tokio::time::timeout(config.first_request, asked.notified()).await.ok();
    };
    tokio::pin!(stopping);
    let mut graceful = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut http => break Some(ended),
            () = poll_fn(|cx| conn.poll_aborted(cx)) => break None,
            () = &mut stopping, if !graceful => {
                graceful = true;
                http.as_mut().graceful_shutdown();
            }
        }
    };
    match ended {
        Some(Ok(())) => conn.drain().await,
        Some(Err(error)) => tracing::debug!(%error, peer = %conn.peer.address, "a connection of a client ended"),
        None => conn.show_break(false),
    }
}
