//! One request to a child and back: attempts, retries, and the beginning of the answer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::upgrade::OnUpgrade;
use router_core::leases::How;
use router_core::retry::{BodyState, Failure, is_idempotent};
use supervisor_protocol::{Refusal, StreamClass};

use crate::body::{AttemptBody, BodySource, Broke};
use crate::client::{Client, ClientBody};
use crate::counters::bump;
use crate::headers;
use crate::hold::Admission;
use crate::limits::InFlight;
use crate::refuse::Refused;
use crate::relay::{RelayBody, Terms};
use crate::silence::Silence;
use crate::target::{Lease, Target};
use crate::tunnel;
use crate::upstream::{SendError, UpstreamBody};
use crate::way::{Lost, Way};
use crate::worker::Worker;

/// The client is gone: there is nobody to answer.
#[derive(Debug, thiserror::Error)]
#[error("the client is gone")]
pub(crate) struct Gone;

/// A request as the child is to see it.
pub(crate) struct Outbound {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ClientBody,
    /// The client's half of an upgrade, when one is asked for.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// The class that the configuration declares.
    pub(crate) class: Option<StreamClass>,
    pub(crate) place: InFlight,
}

/// How one attempt ended.
enum Attempt {
    Answered(Response<UpstreamBody>),
    Failed(Failure, Over),
    Ended(Ended),
}

/// What a request was sent over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The child may have closed it for want of use, whatever became of the child.
    Kept,
    /// Its loss says something of the child.
    New,
}

/// What ends an attempt from outside.
enum Ended {
    /// The lease was cut.
    Cut,
    ClientGone,
    /// Nothing came, and nothing went, for too long.
    Silent,
}

/// What may end an attempt from outside.
struct Ends<'a> {
    lease: &'a Lease,
    client: &'a Client,
    source: &'a BodySource,
    idle: Duration,
}

/// Forwards a request by its way.
pub(crate) async fn forward(
    worker: &Arc<Worker>,
    client: &Client,
    mut way: Way<'_>,
    outbound: Outbound,
) -> Result<Response<RelayBody>, Gone> {
    let shared = &worker.shared;
    let refuse = |refused: Refused| Ok(refused.answer(shared, None, client.peer.trusted));
    let Outbound { method, uri, mut headers, body, upgrade, class, place } = outbound;
    headers.entry(header::HOST).or_insert(HeaderValue::from_static("localhost"));
    let is_idempotent = is_idempotent(method.as_str());
    let limits = &shared.config.limits;
    let source = BodySource::new(body, if shared.config.retry { shared.config.replay_buffer } else { 0 }, limits.body);
    let idle = *limits.idle.get(class.unwrap_or(StreamClass::Request));
    let mut attempts_left = if shared.config.retry { shared.config.attempts.max(1) } else { 1 };

    loop {
        let mut lease = match way.admit().await {
            Admission::Admitted(lease) => lease,
            Admission::Refused(refused) => return refuse(refused),
            Admission::ClientGone => return Err(Gone),
        };
        attempts_left -= 1;
        let stamp = way.stamp();
        let request = || {
            let mut request = Request::new(source.attempt());
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            if let Some((name, value)) = &stamp {
                request.headers_mut().insert(name, value.clone());
            }
            request
        };

        let (failure, over) =
            match attempt(worker, &Ends { lease: &lease, client, source: &source, idle }, request).await {
                Attempt::Answered(response) => match judge(&response, lease.target(), upgrade.is_some()) {
                    Ok(()) => {
                        lease.target().count_answer(response.status());
                        source.settle();
                        return Ok(answer(worker, client, lease, response, Onward { upgrade, class, place }));
                    }
                    Err(failure) => (failure, Over::New),
                },
                Attempt::Ended(Ended::Cut) => return refuse(Refused::new(Refusal::DeadlineCut)),
                Attempt::Ended(Ended::ClientGone) => return Err(Gone),
                Attempt::Ended(Ended::Silent) => {
                    lease.finish(How::Cut);
                    return refuse(Refused::new(Refusal::ChildSilent));
                }
                Attempt::Failed(..) if client.body_violation().is_some() => {
                    let detail = client.body_violation().map(|violation| violation.to_string());
                    return Ok(Refused::new(Refusal::BadHead).answer(shared, detail.as_deref(), client.peer.trusted));
                }
                Attempt::Failed(failure, over) => match source.broke() {
                    None => (failure, over),
                    Some(Broke::Client) => return Err(Gone),
                    Some(Broke::TooLarge) => return refuse(Refused::new(Refusal::BodyTooLarge)),
                },
            };
        let target = lease.target().clone();
        lease.finish(match failure {
            Failure::NotAdmitted => How::Finished,
            Failure::NotSent | Failure::NoResponse | Failure::BadResponse => How::UpstreamBroke,
        });
        tracing::debug!(target = %target.label(), ?failure, "an attempt failed");
        let body = source.state();
        if let Err(refused) = way.failed(Lost { target, failure, over, is_idempotent, body, attempts_left }) {
            return refuse(refused);
        }
        bump(&shared.counters.retries);
    }
}

/// Sends once, over a kept connection or a new one.
async fn attempt(worker: &Arc<Worker>, ends: &Ends<'_>, request: impl Fn() -> Request<AttemptBody>) -> Attempt {
    let target = ends.lease.target();
    let mut kept = target.pool.take(worker.index, worker.shared.config.pool_idle);
    loop {
        let over = if kept.is_some() { Over::Kept } else { Over::New };
        let channel = match kept.take() {
            Some(channel) => channel,
            None => match unless_ended(ends, worker.connect(target)).await {
                Ok(Ok(channel)) => channel,
                Ok(Err(error)) => {
                    tracing::debug!(target = %target.label(), %error, "no connection to a child");
                    return Attempt::Failed(Failure::NotSent, over);
                }
                Err(ended) => return Attempt::Ended(ended),
            },
        };
        let error = match unless_ended(ends, channel.send(request())).await {
            Err(ended) => return Attempt::Ended(ended),
            Ok(Ok(response)) => return Attempt::Answered(response),
            Ok(Err(error)) => error,
        };
        tracing::debug!(target = %target.label(), %error, "no response of a child");
        match error {
            // The child has closed a kept connection meanwhile; nothing was sent.
            SendError::NotSent(_) if over == Over::Kept && ends.source.state() != BodyState::Streaming => {}
            SendError::NotSent(_) => return Attempt::Failed(Failure::NotSent, over),
            SendError::Bad(_) | SendError::BadStream(_) => return Attempt::Failed(Failure::BadResponse, over),
            SendError::NoResponse | SendError::Body(_) => return Attempt::Failed(Failure::NoResponse, over),
        }
    }
}

/// Drives `work` until it is done, or something else ends the attempt.
async fn unless_ended<T>(ends: &Ends<'_>, work: impl Future<Output = T>) -> Result<T, Ended> {
    let mut work = pin!(work);
    let mut reset = pin!(ends.client.reset());
    let (mut silence, mut taken) = (Silence::new(ends.idle), ends.source.taken());
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        if ends.lease.poll_cut(cx).is_ready() {
            return Poll::Ready(Err(Ended::Cut));
        }
        if reset.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Ended::ClientGone));
        }
        let before = std::mem::replace(&mut taken, ends.source.taken());
        if before != taken {
            silence.ends();
        }
        silence.poll(cx).map(|()| Err(Ended::Silent))
    })
    .await
}

/// Whether a response may be passed on.
fn judge(response: &Response<UpstreamBody>, target: &Target, upgrade: bool) -> Result<(), Failure> {
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS if !upgrade => Err(Failure::BadResponse),
        StatusCode::SERVICE_UNAVAILABLE if target.voucher().not_admitted(response.headers()) => {
            Err(Failure::NotAdmitted)
        }
        _ => Ok(()),
    }
}

/// What else decides how a response goes on.
struct Onward {
    upgrade: Option<OnUpgrade>,
    class: Option<StreamClass>,
    place: InFlight,
}

/// Begins to pass a response on.
fn answer(
    worker: &Arc<Worker>,
    client: &Client,
    lease: Lease,
    mut response: Response<UpstreamBody>,
    onward: Onward,
) -> Response<RelayBody> {
    if !lease.begin_response() {
        return Refused::new(Refusal::DeadlineCut).answer(&worker.shared, None, client.peer.trusted);
    }
    bump(&worker.shared.counters.answered);
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    headers::to_client(response.headers_mut(), switching);
    *response.version_mut() = Version::HTTP_11;

    if switching && let Some(upgrade) = onward.upgrade {
        let (head, body) = response.into_parts();
        if let Some(upgraded) = body.into_upgraded() {
            lease.reclass(StreamClass::Upgrade);
            let idle = worker.shared.config.limits.idle.upgrade;
            let tunnel = tunnel::run(client.clone(), lease, upgrade, upgraded, idle);
            worker.spawn(async move {
                tunnel.await;
                drop(onward.place);
            });
            client.decide_upgrade(true);
        }
        return Response::from_parts(head, RelayBody::full(bytes::Bytes::new()));
    }
    let class = onward.class.unwrap_or_else(|| {
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        content_type.map_or(StreamClass::Request, StreamClass::of_content_type)
    });
    let hangup = match class {
        StreamClass::Request | StreamClass::Upgrade | StreamClass::Job => false,
        StreamClass::Stream => true,
    };
    if class != StreamClass::Request {
        lease.reclass(class);
    }
    let idle = *worker.shared.config.limits.idle.get(class);
    let terms = Terms { lease, client: client.clone(), worker: worker.index, hangup, idle, place: onward.place };
    response.map(|incoming| RelayBody::relay(incoming, terms))
}
