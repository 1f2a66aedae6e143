//! Processes: started, owned, watched and swept, on Linux, in process groups or control groups.
//!
//! One thread forks ([`spawner`]); what it forks is this program again as `versiond launch`
//! ([`launch`]), which prepares itself, waits until its identity is recorded, and only then executes the
//! sealed bytes ([`seal`]). A [`Running`] owns the process by its pidfd: one task per process waits for
//! the exit, kills what is left of the group while the zombie still pins its number, and reaps.
//!
//! ```text
//! caller ── prepare ──▶ spawner thread ──fork──▶ versiond launch ──(release)──▶ the program
//!   ◀── Prepared, Running ──┘  └─ strays: reaped   └─ output pipes ──▶ reader tasks ──▶ log thread
//! ```
//!
//! Lives here: everything that forks, signals, waits or reads `/proc`. Must not live here: slots,
//! generations, when to start or stop anything. The interface speaks of identities and exits, so that
//! an owner with cgroups, or one outside this process, can stand behind it.

pub mod cgroup;
pub mod confine;
mod connect;
pub mod folders;
pub mod identity;
pub mod launch;
pub mod logs;
pub mod oneshot;
pub mod output;
pub mod ports;
pub mod ring;
pub mod running;
pub mod seal;
pub mod sockets;
pub mod spawner;
mod strays;
pub mod sweep;
mod sys;

pub use confine::{Account, Confine};
pub use connect::connect;
pub use identity::{BootId, ProcessId};
pub use logs::{Logs, NoLog, Reader};
pub use nix::sys::signal::Signal;
pub use output::{LogQueue, Output, OutputLabel, OutputSink};
pub use ports::{PortAllocator, PortLease, PortRange, PortsExhausted};
pub use running::{ExitInfo, Life, Running, SignalError};
pub use seal::{SealError, Sealed, pin, seal, seal_up_to};
pub use spawner::{LaunchError, LaunchSpec, Prepared, Spawner};

/// Free memory at the end of the heap that is kept for what comes next, in bytes.
const HEAP_SPARE: i32 = 128 << 10;

/// Keeps this process small after something large: an archive that was unpacked once, or a catalog that was read
/// over TLS, would otherwise be paid for as long as it lives. Before any thread is started.
pub fn stay_small() {
    sys::trim_heap_from(HEAP_SPARE);
}
