//! Ending what is left of processes: a dead supervisor's at start, an ended leader's descendants after
//! its exit.
//!
//! A process is ours only if its environment carries a nonce of ours, or if it is in the group or the
//! session of a leader whose number, start time, boot and nonce are all as recorded. Numbers alone
//! never suffice: they are reused. Every signal goes through a pidfd that was opened before the check.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use supervisor_protocol::Nonce;

use super::identity::{Stat, all_processes, nonce_of};
use super::{BootId, ProcessId, Signal, sys};
use crate::ledger::LedgerGeneration;

/// How many looks in a row must find nothing. One may miss a process whose parent forked it just after
/// the list of processes was read and exited just before it was its turn.
const CLEAN: u32 = 2;

/// One thing to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub nonce: Nonce,
    /// The leader, when it was recorded.
    pub process: Option<ProcessId>,
}

impl Target {
    /// What carries the nonce of a process that has ended itself.
    pub(super) fn descendants_of(identity: &ProcessId) -> Self {
        Self { nonce: identity.nonce.clone(), process: None }
    }
}

impl From<&LedgerGeneration> for Target {
    fn from(generation: &LedgerGeneration) -> Self {
        Self { nonce: generation.nonce.clone(), process: generation.process.clone() }
    }
}

/// A process that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    pub pid: i32,
    pub nonce: Nonce,
}

/// What a sweep did. Nothing that it looked for is left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// In the order of their deaths; none twice.
    pub killed: Vec<Swept>,
}

/// Why a sweep did not end what it looked for.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error("cannot look for processes")]
    Proc(#[source] io::Error),
    #[error("cannot end process {pid}")]
    Kill {
        pid: i32,
        #[source]
        source: io::Error,
    },
    #[error("killed processes are still there: {pids:?}")]
    StillThere { pids: Vec<i32> },
}

/// Kills everything that belongs to the targets and waits until it is gone, at most `within`. Blocking.
///
/// # Errors
/// `/proc` cannot be read, a process cannot be signalled, or one outlives `within`.
pub fn sweep(targets: &[Target], within: Duration) -> Result<SweepReport, SweepError> {
    let deadline = Instant::now() + within;
    let search = Search::new(targets).map_err(SweepError::Proc)?;
    let mut report = SweepReport::default();
    let mut clean = 0;
    loop {
        let victims = search.victims().map_err(SweepError::Proc)?;
        if victims.is_empty() {
            clean += 1;
            if clean == CLEAN {
                return Ok(report);
            }
            continue;
        }
        clean = 0;
        if Instant::now() >= deadline {
            return Err(SweepError::StillThere { pids: victims.iter().map(|victim| victim.pid).collect() });
        }
        let mut refused = None;
        for victim in &victims {
            match sys::pidfd_signal(victim.pidfd.as_fd(), Signal::SIGKILL) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
                // The others are not to wait for it.
                Err(source) => refused = Some(SweepError::Kill { pid: victim.pid, source }),
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        for victim in victims {
            wait_until_dead(&victim, deadline).map_err(SweepError::Proc)?;
            let swept = Swept { pid: victim.pid, nonce: victim.nonce };
            if !report.killed.contains(&swept) {
                report.killed.push(swept);
            }
        }
    }
}

struct Search<'a> {
    targets: &'a [Target],
    boot_id: BootId,
    /// This process and those above it.
    spared: BTreeSet<i32>,
}

struct Victim {
    pid: i32,
    pidfd: OwnedFd,
    nonce: Nonce,
}

impl<'a> Search<'a> {
    fn new(targets: &'a [Target]) -> io::Result<Self> {
        let mut spared = BTreeSet::new();
        let mut pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        while pid > 0 && spared.insert(pid) {
            pid = Stat::read(pid).map_or(0, |stat| stat.parent);
        }
        Ok(Self { targets, boot_id: BootId::current()?, spared })
    }

    fn victims(&self) -> io::Result<Vec<Victim>> {
        let mut victims = Vec::new();
        for pid in all_processes()? {
            // Most processes are not ours: nothing is opened for them.
            if self.spared.contains(&pid) || self.owner_of(pid).is_none() {
                continue;
            }
            match sys::pidfd_open(pid) {
                // The number may have changed hands before the open: the second look counts.
                Ok(pidfd) => {
                    if let Some(nonce) = self.owner_of(pid) {
                        victims.push(Victim { pid, pidfd, nonce: nonce.clone() });
                    }
                }
                Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(victims)
    }

    /// The nonce of the target that the process belongs to. A dead one belongs to none.
    fn owner_of(&self, pid: i32) -> Option<&Nonce> {
        let stat = Stat::read(pid).ok().filter(|stat| !stat.is_dead())?;
        // Another user's process may hide its environment; it may still be in a group of ours.
        let nonce = nonce_of(pid).ok().flatten();
        let owner = self.targets.iter().find(|target| {
            nonce.as_ref() == Some(&target.nonce)
                || target.process.as_ref().is_some_and(|leader| {
                    (stat.group == leader.pid || stat.session == leader.pid) && self.is_alive(leader)
                })
        });
        owner.map(|target| &target.nonce)
    }

    /// Whether the process that was recorded still exists, so that its number is still its own.
    fn is_alive(&self, leader: &ProcessId) -> bool {
        let same_start = || Stat::read(leader.pid).is_ok_and(|stat| stat.start_ticks == leader.start_ticks);
        let same_nonce = || nonce_of(leader.pid).is_ok_and(|nonce| nonce.as_ref() == Some(&leader.nonce));
        leader.boot_id == self.boot_id && same_start() && same_nonce()
    }
}

fn wait_until_dead(victim: &Victim, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut watched = [PollFd::new(victim.pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, timeout) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
