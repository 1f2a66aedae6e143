//! Requests that go to one of several hosts: whoever places them says which, attempt by attempt.
//!
//! Must not live here: placement, health, or which failures allow another attempt. They belong to whoever
//! implements [`Pools`].

use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use router_core::choose::Failed;
use supervisor_protocol::{Refusal, StreamClass};

use crate::target::Target;

/// Places requests on hosts. Asked by every worker, for every request: it must not block.
pub trait Pools: Send + Sync + 'static {
    /// Begins with a request for this path, without its query. The path goes to the host as it is.
    fn begin(&self, path: &str) -> Result<Placed, Refused>;
}

/// A request that has a first choice.
pub struct Placed {
    pub first: Attempt,
    /// What is asked when an attempt has failed.
    pub choices: Box<dyn Choices>,
    /// The class that the configuration declares.
    pub class: Option<StreamClass>,
    pub stamps: Stamps,
}

/// Headers that a request has in the end, whoever said what of them before; without a value one is removed.
pub type Stamps = Arc<[(HeaderName, Option<HeaderValue>)]>;

/// The choices that one request has left.
pub trait Choices: Send {
    /// The next one after a failure.
    fn failed(&mut self, failed: Failed) -> Result<Attempt, Refused>;
}

/// Whom to send to.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub target: Arc<Target>,
    /// Every other choice has refused, and this one must admit.
    pub is_last_resort: bool,
}

/// Nobody is to be asked, or nobody any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub refusal: Refusal,
    /// When it may be worth asking again.
    pub retry_after_s: Option<u32>,
}

impl fmt::Debug for dyn Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pools")
    }
}
