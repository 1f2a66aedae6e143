//! What the plane answers by itself.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use supervisor_protocol::Refusal;
use supervisor_protocol::headers::NOT_ADMITTED;

use crate::plane::Shared;
use crate::relay::RelayBody;

/// A refusal on its way to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) retry_after_s: Option<u32>,
}

impl Refused {
    pub(crate) const fn new(refusal: Refusal) -> Self {
        let retry_after_s = match refusal {
            Refusal::HoldExpired
            | Refusal::HoldFull
            | Refusal::NotServing
            | Refusal::HostStopping
            | Refusal::ChildDraining
            | Refusal::ChildUnreachable
            | Refusal::UnknownVersion
            | Refusal::NoHost
            | Refusal::Overloaded
            | Refusal::TooManyConnections => Some(1),
            Refusal::NotFound
            | Refusal::ChildBroke
            | Refusal::BadHead
            | Refusal::HeadTooLarge
            | Refusal::HeadTimeout
            | Refusal::NotSupported
            | Refusal::DeadlineCut
            | Refusal::BodyTooLarge
            | Refusal::ChildSilent => None,
        };
        Self { refusal, retry_after_s }
    }

    pub(crate) const fn after(refusal: Refusal, retry_after_s: Option<u32>) -> Self {
        match retry_after_s {
            Some(_) => Self { refusal, retry_after_s },
            None => Self::new(refusal),
        }
    }

    /// The body of the answer.
    pub(crate) fn text(self, detail: Option<&str>) -> String {
        let message = detail.unwrap_or(sentence(self.refusal));
        format!("{{\"code\":\"{}\",\"message\":\"{message}\"}}\n", self.refusal.code())
    }

    /// The answer. `detail` says more than the refusal's own sentence; a trusted peer is told that any
    /// host may take the request, when no child saw it.
    pub(crate) fn answer(self, shared: &Shared, detail: Option<&str>, trusted: bool) -> Response<RelayBody> {
        shared.counters.refused(self.refusal);
        let mut response = Response::new(RelayBody::full(Bytes::from(self.text(detail))));
        *response.status_mut() = StatusCode::from_u16(self.refusal.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.refusal.is_before_admission()
            && trusted
            && let Some(host) = &shared.config.host
        {
            let value = format!("{}; nonce={}", self.refusal.code(), host.boot);
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(NOT_ADMITTED), value);
            }
        }
        response
    }
}

/// For a person who reads the answer. Safe inside a JSON string.
const fn sentence(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotFound => "there is no such route or version here",
        Refusal::HoldExpired => "nothing serves this version yet; the request has waited as long as it may",
        Refusal::HoldFull => "as many requests wait for this version as may",
        Refusal::NotServing => "nothing will serve this version soon enough to wait for it",
        Refusal::HostStopping => "the host is on its way out",
        Refusal::ChildDraining => "the service refused the request before any work, and no other took it",
        Refusal::ChildUnreachable => "the service cannot be reached",
        Refusal::ChildBroke => "the service ended the exchange before it answered",
        Refusal::BadHead => "the request breaks the grammar of HTTP",
        Refusal::HeadTooLarge => "the head of the request is too large",
        Refusal::HeadTimeout => "the head of the request came too slowly",
        Refusal::NotSupported => "this method or protocol is not forwarded",
        Refusal::DeadlineCut => "the service was replaced, and its deadline passed before it answered",
        Refusal::UnknownVersion => "no host has this version",
        Refusal::NoHost => "no host is ready for this",
        Refusal::BodyTooLarge => "the body of the request is larger than it may be",
        Refusal::Overloaded => "as many requests are in flight here as may",
        Refusal::TooManyConnections => "as many connections are open from this address as may",
        Refusal::ChildSilent => "the service said nothing for as long as it may",
    }
}
