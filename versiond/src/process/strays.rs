//! Children that this process did not fork: descendants that it adopted as a subreaper.
//!
//! The registry knows every process that was forked here, so that nothing else ever reaps one of them;
//! its lock is held while forking, while reaping and while looking for strays. Strays that have exited
//! are reaped; one that still runs although its generation has ended, told by its nonce, is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd;

use parking_lot::{Mutex, MutexGuard};
use supervisor_protocol::Nonce;

use super::identity::{Stat, nonce_of};
use super::{ExitInfo, ProcessId, Signal, sys};

/// The processes that were forked here and are not yet reaped.
#[derive(Debug)]
pub(super) struct Registry {
    leaders: BTreeMap<i32, Nonce>,
    /// Nonces of processes that have ended while a descendant may still live.
    ended: BTreeSet<Nonce>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { leaders: BTreeMap::new(), ended: BTreeSet::new() });

/// The registry, for as long as a fork takes.
pub(super) fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock()
}

impl Registry {
    pub(super) fn add(&mut self, identity: &ProcessId) {
        self.leaders.insert(identity.pid, identity.nonce.clone());
    }
}

/// Reaps a leader by `reap` and forgets its number in the same breath: a moment later both could be
/// another's.
pub(super) fn end_leader(
    identity: &ProcessId,
    reap: impl FnOnce() -> io::Result<Option<ExitInfo>>,
) -> io::Result<Option<ExitInfo>> {
    let mut registry = registry();
    let exit = reap();
    registry.leaders.remove(&identity.pid);
    registry.ended.insert(identity.nonce.clone());
    exit
}

/// No descendant with this nonce is left.
pub(super) fn end_nonce(nonce: &Nonce) {
    registry().ended.remove(nonce);
}

/// Reaps the strays that have exited and kills those whose generation has ended. Returns how many it reaped.
pub(super) fn tend() -> io::Result<usize> {
    let registry = registry();
    let mut reaped = 0;
    for pid in adopted()? {
        if registry.leaders.contains_key(&pid) {
            continue;
        }
        match Stat::read(pid) {
            Ok(stat) if stat.is_dead() => reaped += usize::from(matches!(sys::reap_pid(pid), Ok(Some(_)))),
            Ok(_) => kill_if_ended(pid, &registry),
            Err(_) => {}
        }
    }
    Ok(reaped)
}

/// The kernel gives orphans to the first thread of a subreaper, and this program forks on another.
fn adopted() -> io::Result<Vec<i32>> {
    let own = std::process::id();
    let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
    Ok(children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// A stray is this process's child and only this function's caller reaps it, so that its number stays its own.
fn kill_if_ended(pid: i32, registry: &Registry) {
    let Ok(Some(nonce)) = nonce_of(pid) else { return };
    if !registry.ended.contains(&nonce) {
        return;
    }
    let killed = sys::pidfd_open(pid).and_then(|pidfd| sys::pidfd_signal(pidfd.as_fd(), Signal::SIGKILL));
    if let Err(error) = killed {
        tracing::warn!(pid, %error, "a stray was not killed");
    }
}
