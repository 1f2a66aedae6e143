//! Names of the environment variables that a child is given.

/// `1` under a supervisor that honours this contract.
pub const CONTRACT: &str = "SUPERVISOR_CONTRACT";
/// The service's name.
pub const SERVICE: &str = "SUPERVISOR_SERVICE";
/// The slot's version name.
pub const VERSION: &str = "SUPERVISOR_VERSION";
/// The generation's number.
pub const GENERATION: &str = "SUPERVISOR_GENERATION";
/// The nonce that `GET /ready` echoes.
pub const NONCE: &str = "SUPERVISOR_NONCE";
/// The path of the Unix socket on which the child serves its admin endpoints.
pub const ADMIN: &str = "SUPERVISOR_ADMIN";
/// The folder of the slot, when the service has one.
pub const DATA_DIR: &str = "SUPERVISOR_DATA_DIR";
/// How long the child may take after its stop signal: a duration with unit (`600s`).
pub const SHUTDOWN_GRACE: &str = "SUPERVISOR_SHUTDOWN_GRACE";
/// How many sockets are handed over, from descriptor 3 on: one, on which the child serves. Absent = none.
pub const LISTEN_FDS: &str = "LISTEN_FDS";
/// What it is called: [`LISTEN_HTTP`].
pub const LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";
/// The process to which it is handed over. To any other these three mean nothing.
pub const LISTEN_PID: &str = "LISTEN_PID";
/// The name of the socket on which a child serves.
pub const LISTEN_HTTP: &str = "http";
/// Without a supervisor: the address (`ip:port`) of the probe listener. Absent = none.
pub const PROBE_ADDR: &str = "PROBE_ADDR";
