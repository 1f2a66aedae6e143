//! One process with a group of its own. The whole group ends with it: a program that leaves a process
//! behind leaves it to us.

use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// Between two looks at something that is to change.
pub(super) const LOOK: Duration = Duration::from_millis(25);

/// Killed, with its group, when dropped.
pub(super) struct Process {
    child: Child,
    /// Of the process and of its group; `None` once reaped, for then the number may be somebody else's.
    pid: Option<Pid>,
}

impl Process {
    pub(super) fn spawn(mut command: Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Self { child, pid })
    }

    /// How it ended, when it has. What it has left behind is killed.
    pub(super) async fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if let Some(pid) = self.pid {
            // Looked at and not reaped, so that the number is still ours for the group's sake.
            let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            if waitid(Id::Pid(pid), look).map_err(io::Error::from)? == WaitStatus::StillAlive {
                return Ok(None);
            }
            self.kill();
        }
        let status = self.child.wait().await?;
        self.pid = None;
        Ok(Some(status))
    }

    /// Waits for its end; `None` after `limit`.
    pub(super) async fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let began = Instant::now();
        loop {
            match self.ended().await? {
                Some(status) => return Ok(Some(status)),
                None if began.elapsed() > limit => return Ok(None),
                None => sleep(LOOK).await,
            }
        }
    }

    /// Asks it to stop.
    pub(super) fn terminate(&self) -> Result<(), String> {
        let pid = self.pid.ok_or("it has already ended")?;
        kill(pid, Signal::SIGTERM).map_err(|error| error.to_string())
    }

    fn kill(&self) {
        if let Some(pid) = self.pid {
            // It fails only if the group is gone, which is what is wanted.
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
