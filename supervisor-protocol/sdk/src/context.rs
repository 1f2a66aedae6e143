//! What a child's own code sees of its surroundings.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use supervisor_protocol::StreamClass;
use supervisor_protocol::contract::DrainMode;
use supervisor_protocol::headers::{NOT_ADMITTED, NotAdmitted};

use crate::life::{Gate, Standing};
use crate::settings::{Identity, Run};
use crate::shared::{Lease, Shared};

/// Handed to the child's code; cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) run: Arc<Run>,
}

impl Context {
    /// Who this child is to its supervisor.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.run.identity
    }

    /// The folder that belongs to this slot.
    #[must_use]
    pub fn data_dir(&self) -> Option<&Path> {
        self.run.data_dir.as_deref()
    }

    /// The value of a flag that was declared with [`crate::Child::flag`].
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<&str> {
        self.run.flags.get(name).map(String::as_str)
    }

    /// The handle by which the child says whether it can serve.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        Readiness { shared: Arc::clone(&self.shared) }
    }

    /// How far new work is to be refused now; `None` = it is welcome. A stop counts as [`DrainMode::All`].
    #[must_use]
    pub fn draining(&self) -> Option<DrainMode> {
        match self.shared.read(crate::life::Life::gate) {
            Gate::Open => None,
            Gate::Draining(mode) => Some(mode),
            Gate::Stopping => Some(DrainMode::All),
        }
    }

    /// Returns once the stop signal has come.
    pub async fn stopping(&self) {
        self.shared.wait(|life| life.gate() == Gate::Stopping).await;
    }

    /// Returns with a lease once work may begin: at once while the gate is open, else after the
    /// `DELETE /drain` that publishes a worker or takes a drain back; never once the child stops.
    /// A worker that asks for the first time has thereby said that it is ready.
    pub async fn lease(&self, class: StreamClass) -> Lease {
        self.readiness().started();
        loop {
            self.shared.wait(|life| life.gate() == Gate::Open).await;
            if let Ok(lease) = self.shared.admit(false) {
                lease.classify(class);
                return lease;
            }
        }
    }

    /// A lease for work that an admitted request owes and that goes on when its client has gone. Call it while that
    /// request is being answered. It is never refused: what is owed was admitted with the request.
    pub fn owed(&self, class: StreamClass) -> Lease {
        let lease = self.shared.owe();
        lease.classify(class);
        lease
    }

    /// The refusal of a request before any work, for a child that refuses by itself (a session that it
    /// does not hold, say). `reason`: lower-case letters, digits and `_`.
    #[must_use]
    pub fn not_admitted(&self, reason: &str) -> Response<Body> {
        not_admitted(&self.run.identity, reason)
    }
}

/// Tells the supervisor whether this child could serve. A child that never uses it is ready as soon as
/// its service has been built.
#[derive(Clone)]
pub struct Readiness {
    shared: Arc<Shared>,
}

impl Readiness {
    /// Getting there. Only this extends the window that the supervisor grants.
    pub fn initializing(&self, detail: impl Into<String>) {
        self.set(Standing::Initializing(detail.into()));
    }

    /// Able to serve.
    pub fn ready(&self) {
        self.set(Standing::Ready);
    }

    /// Unable to serve, for a reason that operators will read.
    pub fn unready(&self, reason: impl Into<String>) {
        self.set(Standing::Unready(reason.into()));
    }

    /// Ready, unless the child has said anything before.
    pub(crate) fn started(&self) {
        self.shared.change(|life| {
            if life.standing == Standing::Starting {
                life.standing = Standing::Ready;
            }
        });
    }

    fn set(&self, standing: Standing) {
        self.shared.change(|life| life.standing = standing);
    }
}

/// 503 with the header that lets the sender take the request elsewhere. Without a nonce nobody could
/// believe the header, so it stays away.
pub(crate) fn not_admitted(identity: &Identity, reason: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("not admitted: {reason}\n")));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    if let Some(nonce) = identity.nonce.clone() {
        let value = NotAdmitted { reason: reason.to_owned(), nonce }.to_string();
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(NOT_ADMITTED, value);
        }
    }
    response
}
