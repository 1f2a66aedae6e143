//! What the contract asks for, each with its name and sentence.

/// One requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    Describe,
    Contract,
    UnknownFlag,
    Ready,
    Nonce,
    ReadyStatus,
    Liveness,
    Metrics,
    Counts,
    Private,
    Paused,
    Drain,
    Admitted,
    NotAdmitted,
    LastResort,
    Drained,
    Undrain,
    StopFinishes,
    Stop,
}

impl Requirement {
    /// In the order in which they are checked.
    pub const ALL: [Requirement; 19] = [
        Requirement::Describe,
        Requirement::Contract,
        Requirement::UnknownFlag,
        Requirement::Ready,
        Requirement::Nonce,
        Requirement::ReadyStatus,
        Requirement::Liveness,
        Requirement::Metrics,
        Requirement::Counts,
        Requirement::Private,
        Requirement::Paused,
        Requirement::Drain,
        Requirement::Admitted,
        Requirement::NotAdmitted,
        Requirement::LastResort,
        Requirement::Drained,
        Requirement::Undrain,
        Requirement::StopFinishes,
        Requirement::Stop,
    ];

    /// A stable name.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Requirement::Describe => "describe",
            Requirement::Contract => "contract",
            Requirement::UnknownFlag => "unknown_flag",
            Requirement::Ready => "ready",
            Requirement::Nonce => "nonce",
            Requirement::ReadyStatus => "ready_status",
            Requirement::Liveness => "liveness",
            Requirement::Metrics => "metrics",
            Requirement::Counts => "counts",
            Requirement::Private => "private",
            Requirement::Paused => "paused",
            Requirement::Drain => "drain",
            Requirement::Admitted => "admitted",
            Requirement::NotAdmitted => "not_admitted",
            Requirement::LastResort => "last_resort",
            Requirement::Drained => "drained",
            Requirement::Undrain => "undrain",
            Requirement::StopFinishes => "stop_finishes",
            Requirement::Stop => "stop",
        }
    }

    /// What it asks for.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Requirement::Describe => "--describe prints one JSON object of the contract's shape and exits 0",
            Requirement::Contract => "it speaks contract 1",
            Requirement::UnknownFlag => "an unknown flag is a usage error: exit code not 0, the flag is named",
            Requirement::Ready => "with --port, --data-dir and SUPERVISOR_ADMIN it starts and becomes ready",
            Requirement::Nonce => "GET /ready echoes SUPERVISOR_NONCE",
            Requirement::ReadyStatus => "GET /ready is 200 exactly when ready and not draining",
            Requirement::Liveness => "GET /healthz on the data port is 200, also while draining",
            Requirement::Metrics => "GET /metrics on the admin socket is 200",
            Requirement::Counts => "GET /drain/status tells state and in-flight count",
            Requirement::Private => "the admin endpoints do nothing on the data port",
            Requirement::Paused => "a worker starts paused and DELETE /drain publishes it",
            Requirement::Drain => "POST /drain makes /ready 503 and draining, with ready unchanged",
            Requirement::Admitted => "a request admitted before the drain is counted and comes to its end",
            Requirement::NotAdmitted => "while draining, 503 with Versiond-Not-Admitted and the right nonce",
            Requirement::LastResort => "while draining, Versiond-Last-Resort: 1 is admitted",
            Requirement::Drained => "draining with nothing in flight is drained",
            Requirement::Undrain => "DELETE /drain takes the drain back",
            Requirement::StopFinishes => "after SIGTERM an admitted request comes to its end",
            Requirement::Stop => "after SIGTERM it exits 0 within SUPERVISOR_SHUTDOWN_GRACE",
        }
    }

    /// Whether a program that fails it breaks the contract.
    #[must_use]
    pub const fn required(self) -> bool {
        !matches!(self, Requirement::Metrics)
    }
}
