//! A process that this supervisor owns, from its fork to the moment when nothing of it is left.
//!
//! One task per process waits on the pidfd. At the exit it kills the rest of the group while the zombie
//! still pins the number, reaps, says so, ends what is left in its control group, hunts descendants that left the
//! process group, and says so too. The
//! task holds the process for as long as it lives: dropping a [`Running`] kills nothing and leaks no
//! zombie.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::ProcessId;
use super::cgroup::Group;
use super::output::Output;
use super::strays;
use super::sweep::{self, SweepError, Target};
use super::sys::{self, Block, Wait};

/// How long descendants that left the group are hunted after an exit. SIGKILL needs only as long as the
/// kernel takes to tear a process down; who is still there then sits in an uninterruptible call.
const HUNT: Duration = Duration::from_secs(30);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitInfo {
    /// It exited with this code.
    Code(i32),
    /// A signal of this number ended it.
    Signal(i32),
}

impl ExitInfo {
    /// Exit code 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == ExitInfo::Code(0)
    }
}

impl fmt::Display for ExitInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ExitInfo::Code(code) => write!(f, "exit code {code}"),
            ExitInfo::Signal(number) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "signal {}", signal.as_str()),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// Where a process is between its start and its last trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Alive,
    /// The process has exited and is reaped, and its group has been killed.
    Exited(ExitInfo),
    /// Besides, no descendant is left that carries its nonce. Its port and its data directory are free.
    Gone(ExitInfo),
}

impl Life {
    /// How it ended, once it has.
    #[must_use]
    pub fn exit(self) -> Option<ExitInfo> {
        match self {
            Life::Alive => None,
            Life::Exited(exit) | Life::Gone(exit) => Some(exit),
        }
    }
}

/// Why a signal was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    #[error("the process has exited")]
    Exited,
    #[error("the signal was refused")]
    Refused(#[source] Errno),
}

/// A process and its group.
#[derive(Debug)]
pub struct Running {
    identity: ProcessId,
    pidfd: OwnedFd,
    /// Whether the number may belong to somebody else by now. Held while signalling and while reaping.
    reaped: Mutex<bool>,
    life: watch::Sender<Life>,
    output: Arc<Output>,
    /// Its control group, where there are any.
    group: Option<Arc<Group>>,
}

impl Running {
    /// What tells the process from every other.
    #[must_use]
    pub fn identity(&self) -> &ProcessId {
        &self.identity
    }

    /// Signals the whole process group; SIGKILL also reaches who has left it within the control group.
    ///
    /// # Errors
    /// The leader has been reaped, or the kernel refused.
    pub fn signal(&self, signal: Signal) -> Result<(), SignalError> {
        let reaped = self.reaped.lock();
        if *reaped {
            return Err(SignalError::Exited);
        }
        self.signal_group(signal)
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn exit(&self) -> Option<ExitInfo> {
        self.life.borrow().exit()
    }

    /// Waits for the exit of the leader. The group is dead by then.
    pub async fn exited(&self) -> ExitInfo {
        self.until(Life::exit).await
    }

    /// Waits until no descendant is left either.
    pub async fn gone(&self) -> ExitInfo {
        self.until(|life| match life {
            Life::Gone(exit) => Some(exit),
            Life::Alive | Life::Exited(_) => None,
        })
        .await
    }

    /// Every change of its life, for those who wait for several processes at once.
    #[must_use]
    pub fn life(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    /// What it printed.
    #[must_use]
    pub fn output(&self) -> &Output {
        &self.output
    }

    async fn until(&self, mut wanted: impl FnMut(Life) -> Option<ExitInfo>) -> ExitInfo {
        let mut life = self.life.subscribe();
        loop {
            let now = *life.borrow_and_update();
            if let Some(exit) = wanted(now) {
                return exit;
            }
            if life.changed().await.is_err() {
                // The sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    fn signal_group(&self, signal: Signal) -> Result<(), SignalError> {
        if let (Some(group), Signal::SIGKILL) = (&self.group, signal)
            && let Err(error) = group.kill()
        {
            // The process group is killed all the same.
            tracing::warn!(pid = self.identity.pid, %error, "a control group was not killed");
        }
        match killpg(Pid::from_raw(self.identity.pid), signal) {
            Ok(()) => Ok(()),
            // Before the launcher has made its session there is no group of this number.
            Err(Errno::ESRCH) => sys::pidfd_signal(self.pidfd.as_fd(), signal)
                .map_err(|error| SignalError::Refused(Errno::from_raw(error.raw_os_error().unwrap_or_default()))),
            Err(errno) => Err(SignalError::Refused(errno)),
        }
    }

    /// Kills the group while the zombie pins its number, then reaps. The process must have exited.
    fn bury(&self) -> io::Result<ExitInfo> {
        let mut reaped = self.reaped.lock();
        if let Err(error) = self.signal_group(Signal::SIGKILL) {
            tracing::warn!(pid = self.identity.pid, %error, "the rest of a process group was not killed");
        }
        let exit = strays::end_leader(&self.identity, || sys::wait_pidfd(self.pidfd.as_fd(), Wait::Reap, Block::Yes))?;
        *reaped = true;
        exit.ok_or_else(|| io::Error::other("an exited process had no status"))
    }
}

/// Owns a process that has just been forked and registered: starts the task that waits for its end.
pub(super) fn own(
    identity: ProcessId,
    pidfd: OwnedFd,
    output: Arc<Output>,
    group: Option<Arc<Group>>,
    runtime: &tokio::runtime::Handle,
) -> Arc<Running> {
    let life = watch::Sender::new(Life::Alive);
    let running = Arc::new(Running { identity, pidfd, reaped: Mutex::new(false), life, output, group });
    runtime.spawn(attend(Arc::clone(&running)));
    running
}

async fn attend(running: Arc<Running>) {
    let pid = running.identity.pid;
    if let Err(error) = exit_of(&running.pidfd).await {
        tracing::error!(pid, %error, "cannot watch a process without a thread; one waits for it");
        let waiting = Arc::clone(&running);
        let wait = move || sys::wait_pidfd(waiting.pidfd.as_fd(), Wait::Peek, Block::Yes);
        if tokio::task::spawn_blocking(wait).await.is_err() {
            // The runtime is shutting down, and with it the supervisor.
            return;
        }
    }
    let exit = running.bury().unwrap_or_else(|error| {
        tracing::error!(pid, %error, "the exit status of a process was lost");
        ExitInfo::Code(-1)
    });
    running.life.send_replace(Life::Exited(exit));

    let (target, group) = (Target::descendants_of(&running.identity), running.group.clone());
    let hunt = move || {
        if let Some(group) = group {
            group.end(HUNT).map_err(SweepError::Proc)?;
        }
        sweep::sweep(&[target], HUNT)
    };
    match tokio::task::spawn_blocking(hunt).await {
        Ok(Ok(_)) => strays::end_nonce(&running.identity.nonce),
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(pid, error, "descendants of an ended process remain");
        }
        Err(_) => return,
    }
    running.life.send_replace(Life::Gone(exit));
}

async fn exit_of(pidfd: &OwnedFd) -> io::Result<()> {
    let watched = sys::watch(pidfd.try_clone()?)?;
    watched.readable().await?.retain_ready();
    Ok(())
}
