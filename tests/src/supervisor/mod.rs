//! The versiond under test as a process: started, asked, killed, stopped.

pub mod admin;
pub mod config;

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use supervisor_protocol::admin::{Status, Why};
use tokio::process::{Child, Command};

use crate::sabotage::Sabotage;

/// A handle on versiond.
#[derive(Debug)]
pub struct Supervisor {
    binary: Utf8PathBuf,
    folder: Utf8PathBuf,
    fault: Option<Sabotage>,
    /// The point at which the next start is to die.
    crash_at: Mutex<Option<String>>,
    process: Mutex<Option<Child>>,
    /// Held by whoever ends it or starts it again.
    changing: tokio::sync::Mutex<()>,
}

impl Supervisor {
    /// A versiond that is not yet started, with its configuration written into `folder`.
    pub fn new(
        binary: &Utf8Path,
        folder: &Utf8Path,
        config: &config::Config,
        fault: Option<Sabotage>,
    ) -> anyhow::Result<Arc<Self>> {
        std::fs::write(folder.join("versiond.toml"), config.to_toml(folder))?;
        Ok(Arc::new(Self {
            // It is started in another folder.
            binary: binary.canonicalize_utf8().with_context(|| format!("cannot find {binary}"))?,
            folder: folder.to_owned(),
            fault,
            crash_at: Mutex::new(None),
            process: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
        }))
    }

    /// Makes the next start die at this point (a build with the feature `faults` alone knows how), or not any more.
    pub fn crash_at(&self, point: Option<&str>) {
        *self.crash_at.lock() = point.map(str::to_owned);
    }

    /// Starts it. Its log is appended to `versiond.log`.
    pub fn start(&self) -> anyhow::Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(self.folder.join("versiond.toml"));
        if let Some(fault) = self.fault {
            command.args(["--fault", fault.as_str()]);
        }
        if let Some(point) = &*self.crash_at.lock() {
            command.args(["--crash-at", point]);
        }
        // What the caller's environment says would override the file.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VERSIOND_")) {
            command.env_remove(name);
        }
        // A group of its own: Ctrl-C is for the demo, which then stops it in order.
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&self.folder);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.binary))?;
        *self.process.lock() = Some(child);
        Ok(())
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.lock().as_ref().and_then(Child::id)
    }

    /// How it ended, if it has ended by itself.
    #[must_use]
    pub fn exited(&self) -> Option<ExitStatus> {
        self.process.lock().as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Kills it without a word; `noted` is called just before. At the return the kernel has taken all that it held.
    pub async fn kill(&self, noted: impl FnOnce()) -> anyhow::Result<()> {
        let _changing = self.changing.lock().await;
        self.take_down(noted).await
    }

    /// Kills it without a word and starts it again; `noted` is called just before.
    pub async fn kill_and_restart(&self, noted: impl FnOnce()) -> anyhow::Result<()> {
        let _changing = self.changing.lock().await;
        self.take_down(noted).await?;
        self.start()
    }

    async fn take_down(&self, noted: impl FnOnce()) -> anyhow::Result<()> {
        let Some(mut child) = self.process.lock().take() else { bail!("versiond does not run") };
        noted();
        Ok(child.kill().await?)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid().context("versiond does not run")?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    /// Stops it in order; kills it when that takes longer than `within`. Returns how it ended.
    pub async fn stop(&self, within: Duration) -> anyhow::Result<ExitStatus> {
        let _changing = self.changing.lock().await;
        let Some(mut child) = self.process.lock().take() else { bail!("versiond does not run") };
        if let Some(pid) = child.id() {
            kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        }
        match tokio::time::timeout(within, child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                child.kill().await?;
                bail!("versiond did not stop within {within:?} and was killed")
            }
        }
    }

    /// `GET /v1/status`.
    pub async fn status(&self) -> anyhow::Result<Status> {
        admin::get(&self.admin(), "/v1/status").await
    }

    /// `GET /v1/why`.
    pub async fn why(&self) -> anyhow::Result<Why> {
        admin::get(&self.admin(), "/v1/why").await
    }

    /// Its admin socket.
    #[must_use]
    pub fn admin(&self) -> Utf8PathBuf {
        self.folder.join(config::ADMIN_SOCKET)
    }

    /// The file that holds its log.
    #[must_use]
    pub fn log(&self) -> Utf8PathBuf {
        self.folder.join("versiond.log")
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_words(&self, lines: usize) -> String {
        last_lines(&self.log(), lines)
    }

    /// The folder that every path of this run lies in.
    #[must_use]
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }
}

/// The last lines of a file; none of one that cannot be read.
#[must_use]
pub fn last_lines(file: &Utf8Path, lines: usize) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What `versiond --version` says.
pub async fn version_of(binary: &Utf8Path) -> anyhow::Result<String> {
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).output().await;
    let output = output.with_context(|| format!("cannot run {binary}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
