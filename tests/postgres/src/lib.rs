//! A Postgres of its own for a test: a real one, on a free port of loopback, in a temporary folder. It ends when it is
//! dropped, and with the thread that started it.
//!
//! Needs Debian's `postgresql`; its programs lie outside of the usual path. Postgres refuses to run as root, so that
//! root starts it as the user `postgres`.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use tempfile::TempDir;

/// How long it may take to start or to stop.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Enough for a few hosts with their pools.
const CONNECTIONS: u32 = 200;
const USER: &str = "postgres";

/// One that runs, or has been stopped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start() -> anyhow::Result<Postgres> {
        let programs = programs().context("no Postgres is installed: apt-get install postgresql")?;
        let folder = TempDir::new()?;
        if let Some(user) = other_user()? {
            chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        // Free at this moment; nobody else is told of it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut postgres = Postgres { programs, folder, port, server: None };
        let data = postgres.data();
        let made = postgres
            .command("initdb")?
            .args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--username=postgres", "--pgdata"])
            .arg(&data)
            .stdout(Stdio::null())
            .output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        postgres.resume()?;
        Ok(postgres)
    }

    /// The URL of a database of it. The first is called `postgres`.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The address of it.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Has `psql` do this in a database, and gives back what it prints.
    pub fn sql(&self, database: &str, statement: &str) -> anyhow::Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--command", statement])
            .arg(self.url(database))
            .output()?;
        ensure!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Makes an empty database.
    pub fn create(&self, database: &str) -> anyhow::Result<String> {
        self.sql("postgres", &format!("CREATE DATABASE {database}"))?;
        Ok(self.url(database))
    }

    /// Copies a database with everything in it, as a backup that was restored elsewhere.
    pub fn copy(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.create(to)?;
        let mut dump =
            Command::new(self.programs.join("pg_dump")).arg(self.url(from)).stdout(Stdio::piped()).spawn()?;
        let text = dump.stdout.take().context("no output of pg_dump")?;
        let mut restore = Command::new(self.programs.join("psql"));
        let restored = restore.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]).arg(self.url(to));
        let restored = restored.stdin(text).stdout(Stdio::null()).status()?;
        ensure!(dump.wait()?.success() && restored.success(), "{from} cannot be copied");
        Ok(())
    }

    /// Kills it: connections break, and nothing listens.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        // Its children notice that it has gone.
        signal(&server, Signal::SIGQUIT)?;
        server.wait()?;
        Ok(())
    }

    /// Stops its processes, so that it answers nobody while connections stay; or has them go on.
    pub fn freeze(&self, is_frozen: bool) -> anyhow::Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        let way = if is_frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        let all = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.id()))?;
        for pid in all.split_whitespace() {
            // One that has ended meanwhile needs no signal.
            let _ = kill(Pid::from_raw(pid.parse()?), way);
        }
        signal(server, way)
    }

    /// Starts it again, with what it holds, on the same port.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        ensure!(self.server.is_none(), "it runs");
        let log = std::fs::File::create(self.folder.path().join("log"))?;
        let data = self.data();
        let mut server = self
            .command("postgres")?
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-N", &CONNECTIONS.to_string()])
            // The machine does not lose its power in a test.
            .args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=32MB", "-k", ""])
            .arg("-D")
            .arg(data)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() || !self.is_ready()? {
            let said = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            ensure!(server.try_wait()?.is_none(), "postgres has ended: {}", said());
            ensure!(begun.elapsed() < WITHIN, "postgres does not listen: {}", said());
            std::thread::sleep(LOOK_EVERY);
        }
        self.server = Some(server);
        Ok(())
    }

    fn is_ready(&self) -> anyhow::Result<bool> {
        let mut command = Command::new(self.programs.join("pg_isready"));
        let asked = command.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]).status()?;
        Ok(asked.success())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> anyhow::Result<Command> {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=QUIT").stdin(Stdio::null()).current_dir(self.folder.path());
        if let Some(user) = other_user()? {
            command.args([
                format!("--reuid={}", user.uid),
                format!("--regid={}", user.gid),
                "--clear-groups".to_owned(),
            ]);
        }
        command.arg(self.programs.join(program));
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A frozen one hears nothing else.
        let _ = self.freeze(false);
        let _ = self.kill();
    }
}

/// Whether a Postgres is there at all.
#[must_use]
pub fn is_installed() -> bool {
    programs().is_some()
}

/// Where the programs of the latest version are.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(Path::new("/usr/lib/postgresql")).ok()?;
    let numbered = versions.filter_map(|entry| {
        let path = entry.ok()?.path();
        Some((path.file_name()?.to_str()?.parse::<u32>().ok()?, path.join("bin")))
    });
    let latest = numbered.filter(|(_, bin)| bin.join("postgres").is_file()).max()?;
    Some(latest.1)
}

/// Whom root runs it as.
fn other_user() -> anyhow::Result<Option<User>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    User::from_name(USER)?.map(Some).context("there is no user `postgres`: apt-get install postgresql")
}

fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
}
