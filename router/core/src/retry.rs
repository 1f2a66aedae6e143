//! The rules of retries: what may be tried elsewhere, and what a client is told otherwise.
//!
//! Anything that may have been executed is never replayed. A plain 503 is an answer and does not come
//! here. Lives here: the decision. Must not live here: the budget in time, and where "elsewhere" is.

use supervisor_protocol::Refusal;

/// How an attempt to forward a request went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// No connection, or the connection was lost before a byte of the request was sent.
    NotSent,
    /// The child said, with its own nonce, that it has not begun any work.
    NotAdmitted,
    /// The connection ended without a byte of a response after something was sent.
    NoResponse,
    /// What came was not a response that can be forwarded.
    BadResponse,
}

/// What became of the request's body so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BodyState {
    /// Nothing has been read from the client, or there is no body.
    Unread,
    /// Everything that was read is still held and can be sent again.
    Buffered,
    /// More was read than is held.
    Streaming,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send it again, to whatever serves now.
    RetryElsewhere,
    /// Answer with this.
    GiveUp(Refusal),
}

/// Whether a method may be sent twice although the first may have been executed (RFC 9110, 9.2.2).
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// Decides about one failed attempt. `attempts_left` counts those that the budget still allows.
#[must_use]
pub const fn decide(failure: Failure, idempotent: bool, body: BodyState, attempts_left: u32) -> Decision {
    let refusal = match failure {
        Failure::NotSent => Refusal::ChildUnreachable,
        Failure::NotAdmitted => Refusal::ChildDraining,
        Failure::NoResponse | Failure::BadResponse => Refusal::ChildBroke,
    };
    let harmless = match failure {
        Failure::NotSent | Failure::NotAdmitted => true,
        Failure::NoResponse => idempotent,
        Failure::BadResponse => false,
    };
    let repeatable = match body {
        BodyState::Unread | BodyState::Buffered => true,
        BodyState::Streaming => false,
    };
    if harmless && repeatable && attempts_left > 0 { Decision::RetryElsewhere } else { Decision::GiveUp(refusal) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // F52: nothing that may have been executed is sent twice.
    #[test]
    fn f52_only_what_cannot_have_been_executed_is_repeated() {
        use BodyState::{Buffered, Streaming, Unread};
        use Failure::{BadResponse, NoResponse, NotAdmitted, NotSent};
        for (failure, idempotent, body, retried) in [
            (NotSent, false, Unread, true),
            (NotSent, false, Buffered, true),
            (NotSent, false, Streaming, false),
            (NotSent, true, Streaming, false),
            (NotAdmitted, false, Unread, true),
            (NotAdmitted, false, Buffered, true),
            (NotAdmitted, true, Streaming, false),
            (NoResponse, true, Unread, true),
            (NoResponse, true, Buffered, true),
            (NoResponse, true, Streaming, false),
            (NoResponse, false, Unread, false),
            (NoResponse, false, Buffered, false),
            (BadResponse, true, Unread, false),
        ] {
            let decision = decide(failure, idempotent, body, 1);
            assert_eq!(decision == Decision::RetryElsewhere, retried, "{failure:?} {idempotent} {body:?}");
        }
    }

    #[test]
    fn without_budget_the_client_is_told_whether_a_child_saw_it() {
        let end = |failure| decide(failure, true, BodyState::Unread, 0);
        assert_eq!(end(Failure::NotSent), Decision::GiveUp(Refusal::ChildUnreachable));
        assert_eq!(end(Failure::NotAdmitted), Decision::GiveUp(Refusal::ChildDraining));
        assert_eq!(end(Failure::NoResponse), Decision::GiveUp(Refusal::ChildBroke));
    }

    #[test]
    fn post_and_unknown_methods_are_not_idempotent() {
        assert!(is_idempotent("GET") && is_idempotent("DELETE"));
        assert!(!is_idempotent("POST") && !is_idempotent("PATCH") && !is_idempotent("get"));
    }
}
