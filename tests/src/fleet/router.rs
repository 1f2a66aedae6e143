//! A versiond-router as a process: started, asked, stopped.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use supervisor_protocol::router::{HostStatus, Hosts, LookupReport};
use tokio::process::{Child, Command};

use crate::supervisor::admin;
use crate::supervisor::config::pick_ports;
use crate::supervisor::last_lines;

/// Between two questions to a host, and how long each may take: a host that falls silent is out after twice that and
/// the pause, at the latest.
pub const CHECK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));
/// The window in which two routers may see different hosts.
pub const DETECTION_WINDOW: Duration = Duration::from_secs(CHECK.0.as_secs() + 2 * CHECK.1.as_secs());
/// A router that is to stop says so with each answer for so long, and goes on meanwhile.
const ANNOUNCE_S: u64 = 2;

/// One router of a fleet.
#[derive(Debug)]
pub struct Router {
    pub name: String,
    /// Where clients come to.
    pub address: SocketAddr,
    pub admin: SocketAddr,
    binary: Utf8PathBuf,
    folder: Utf8PathBuf,
    process: Mutex<Option<Child>>,
}

impl Router {
    /// Starts one whose members are those of a file.
    pub fn start(binary: &Utf8Path, folder: &Utf8Path, name: &str, members: &Utf8Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (address, others) = pick_ports()?;
        let admin = SocketAddr::new(address.ip(), *others.start());
        let (interval, timeout) = (CHECK.0.as_secs(), CHECK.1.as_secs());
        let settings = format!(
            r#"[router]
listen = "{address}"
admin = "{admin}"
state_dir = "{folder}/state"
threads = 1
announce = "{ANNOUNCE_S}s"
drain = "60s"

[[route]]
match = "/devshard/{{version}}/sessions/{{session}}/*"
pool = "devshard"
key = "{{session}}"

[[route]]
match = "/{{version}}/*"
pool = "devshard"

[pool.devshard]
policy = "sticky"
file = "{members}"
versions = true
check = "versiond"
check_interval = "{interval}s"
check_timeout = "{timeout}s"
"#
        );
        std::fs::write(folder.join("router.toml"), settings)?;
        let binary = binary.canonicalize_utf8().with_context(|| format!("cannot find {binary}"))?;
        let (name, folder, process) = (name.to_owned(), folder.to_owned(), Mutex::new(None));
        let router = Self { name, address, admin, binary, folder, process };
        router.run()?;
        Ok(router)
    }

    /// Starts it again.
    pub fn run(&self) -> anyhow::Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(self.folder.join("router.toml")).stdin(Stdio::null());
        // A group of its own, and its end with ours: Ctrl-C is for the demo, which then stops it in order.
        command.process_group(0).kill_on_drop(true).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.binary))?;
        *self.process.lock() = Some(child);
        Ok(())
    }

    /// Stops it in order, and says how it ended.
    pub async fn stop(&self, within: Duration) -> anyhow::Result<ExitStatus> {
        let Some(mut child) = self.process.lock().take() else { bail!("{} does not run", self.name) };
        if let Some(pid) = child.id() {
            kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        }
        match tokio::time::timeout(within, child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                child.kill().await?;
                bail!("{} did not stop within {within:?} and was killed:\n{}", self.name, last_lines(&self.log(), 10))
            }
        }
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.lock().as_ref().and_then(Child::id)
    }

    /// `GET /v1/hosts`.
    pub async fn hosts(&self) -> anyhow::Result<Vec<HostStatus>> {
        Ok(admin::get_at::<Hosts>(self.admin, "/v1/hosts").await?.hosts)
    }

    /// Where a request for this path would go: the ids, the first choice first.
    pub async fn lookup(&self, path: &str) -> anyhow::Result<Vec<String>> {
        let report: LookupReport = admin::get_at(self.admin, &format!("/v1/lookup?path={path}")).await?;
        Ok(report.candidates.into_iter().map(|candidate| candidate.id).collect())
    }

    /// The file that holds its log.
    #[must_use]
    pub fn log(&self) -> Utf8PathBuf {
        self.folder.join("router.log")
    }
}

/// The role in which a host may be chosen.
#[must_use]
pub fn role<'h>(hosts: &'h [HostStatus], id: &str) -> Option<&'h str> {
    hosts.iter().find(|host| host.id.as_deref() == Some(id))?.role.as_deref()
}
