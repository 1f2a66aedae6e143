//! The one thread that forks.
//!
//! A parent-death signal follows the thread that forked, not its process: a pool's thread that idles
//! out would take its children along. So one thread does every fork and never ends while the supervisor
//! lives. Forking, the check of the freeze and the entry in the registry are one critical section: after
//! [`Spawner::freeze`] returns, no process appears that is not accounted for.

use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use supervisor_protocol::{Nonce, env};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::cgroup::Group;
use super::confine::{Account, Confine};
use super::launch::{self, Order, Report, Step};
use super::logs::Logs;
use super::output::{self, LogQueue, OutputSink, Pipes};
use super::running::{self, ExitInfo, Running};
use super::seal::{Program, SealError, Sealed};
use super::{ProcessId, Signal, strays, sys};

/// A launcher's steps take milliseconds; one that takes this long is stuck in the kernel (a dead mount).
const STUCK: Duration = Duration::from_secs(10);
/// How often strays are looked for when nothing is to be forked.
const TEND: Duration = Duration::from_secs(1);
/// The most that a launcher ever says, in bytes.
const MAX_REPORT: u64 = 4096;

/// What to start.
#[derive(Debug, Clone)]
pub struct LaunchSpec {
    pub exe: Arc<Sealed>,
    /// The name comes first.
    pub argv: Vec<String>,
    /// The whole environment. `SUPERVISOR_NONCE` is added by itself unless the output is captured.
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    /// A folder that at most one process tree may hold at a time; it must exist.
    pub lock_dir: Option<PathBuf>,
    pub output: OutputSink,
    /// Never used for two processes: the end of one would be the end of the other.
    pub nonce: Nonce,
    pub confine: Confine,
    /// A socket that listens where the program is to serve, handed over to it. Every copy of it that is kept here
    /// keeps its port open beyond the program's end.
    pub listener: Option<Arc<OwnedFd>>,
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("nothing is started any more")]
    Frozen,
    #[error("the argument or variable {what:?} cannot be passed to a program")]
    BadSpec { what: String },
    #[error("the thread that forks is gone")]
    SpawnerGone,
    #[error("cannot fork")]
    Fork(#[source] io::Error),
    #[error("cannot speak to the launcher")]
    Wire(#[source] io::Error),
    #[error("the program is not what was checked before")]
    Changed(#[source] SealError),
    #[error("another process holds {}", directory.display())]
    DirectoryBusy { directory: PathBuf },
    #[error("the launch failed at: {step}")]
    Step {
        step: Step,
        #[source]
        source: io::Error,
    },
    #[error("the launcher ended too early: {exit}")]
    Died { exit: ExitInfo },
    #[error("the launcher did nothing for {} s", STUCK.as_secs())]
    Stuck,
}

/// The way to the thread that forks.
#[derive(Debug, Clone)]
pub struct Spawner {
    /// Whom programs become that are only asked something.
    asking: Option<Account>,
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
    log: Arc<LogQueue>,
}

/// What the thread and its callers both see. Written with the registry locked.
#[derive(Debug, Default)]
struct Shared {
    frozen: AtomicBool,
    forked: AtomicU64,
}

impl Spawner {
    /// Starts the thread and makes this process adopt the orphans among its descendants. `launcher` is
    /// this program's own executable: `/proc/self/exe`.
    ///
    /// # Errors
    /// The kernel refuses a thread or the adoption.
    pub fn start(launcher: PathBuf) -> io::Result<Self> {
        Self::with_log(launcher, LogQueue::to_tracing()?)
    }

    /// As [`Spawner::start`], with the children's output going elsewhere.
    ///
    /// # Errors
    /// The kernel refuses a thread or the adoption.
    pub fn with_log(launcher: PathBuf, log: Arc<LogQueue>) -> io::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        let shared = Arc::new(Shared::default());
        let (requests, inbox) = mpsc::channel();
        let forker = Forker { launcher, shared: Arc::clone(&shared) };
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || forker.run(&inbox))?;
        Ok(Self { asking: None, requests, shared, log })
    }

    /// The same thread, for questions to programs as this account.
    #[must_use]
    pub fn asking_as(&self, account: Option<Account>) -> Self {
        Self { asking: account, ..self.clone() }
    }

    /// Whom programs become that are only asked something.
    #[must_use]
    pub fn asking(&self) -> Option<&Account> {
        self.asking.as_ref()
    }

    /// What is remembered of the children's output.
    #[must_use]
    pub fn logs(&self) -> Arc<Logs> {
        self.log.logs()
    }

    /// From the return of this call on nothing is forked; every [`Spawner::prepare`] is refused.
    pub fn freeze(&self) {
        let _no_fork_is_under_way = strays::registry();
        self.shared.frozen.store(true, Ordering::Release);
    }

    /// Whether [`Spawner::freeze`] was called.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.shared.frozen.load(Ordering::Acquire)
    }

    /// How many processes have been forked so far.
    #[must_use]
    pub fn forked(&self) -> u64 {
        self.shared.forked.load(Ordering::Acquire)
    }

    /// Makes a process that has prepared itself and waits for its release. Dropping the future or the
    /// result ends the process without anything having been executed.
    ///
    /// # Errors
    /// The spawner is frozen, the fork fails, the data directory is busy, a step of the launch fails, or a program
    /// that is too large for a sealed copy has changed since it was checked.
    pub async fn prepare(&self, spec: LaunchSpec) -> Result<Prepared, LaunchError> {
        let order = spec.order()?;
        if spec.exe.is_stored() {
            let exe = Arc::clone(&spec.exe);
            let checked = tokio::task::spawn_blocking(move || exe.check_again()).await;
            checked.map_err(|error| LaunchError::Fork(io::Error::other(error)))?.map_err(LaunchError::Changed)?;
        }
        let (reply, answer) = oneshot::channel();
        let log = Arc::clone(&self.log);
        let LaunchSpec { exe, output, nonce, lock_dir, confine, listener, .. } = spec;
        let group = confine.group;
        let request = Request { order, exe, output, nonce, group, listener, log, runtime: Handle::current(), reply };
        self.requests.send(request).map_err(|_| LaunchError::SpawnerGone)?;
        let Forked { socket, running } = answer.await.map_err(|_| LaunchError::SpawnerGone)??;

        socket.set_nonblocking(true).map_err(LaunchError::Wire)?;
        let socket = UnixStream::from_std(socket).map_err(LaunchError::Wire)?;
        let mut prepared = Prepared { socket, running, lock_dir };
        match tokio::time::timeout(STUCK, prepared.report()).await {
            Ok(Ok(Some(Report::Waiting))) => Ok(prepared),
            Ok(Ok(Some(report))) => Err(prepared.refused(report)),
            Ok(Ok(None)) => Err(LaunchError::Died { exit: prepared.running.exited().await }),
            Ok(Err(error)) => Err(LaunchError::Wire(error)),
            Err(_) => Err(prepared.stuck()),
        }
    }
}

impl LaunchSpec {
    fn order(&self) -> Result<Vec<u8>, LaunchError> {
        let bad = |what: &str| LaunchError::BadSpec { what: what.to_owned() };
        if let Some(arg) = self.argv.iter().find(|arg| arg.contains('\0')) {
            return Err(bad(arg));
        }
        let breaks =
            |(name, value): &&(String, String)| name.is_empty() || name.contains(['\0', '=']) || value.contains('\0');
        if let Some((name, _)) = self.env.iter().find(breaks) {
            // Never the value: it may be a secret.
            return Err(bad(name));
        }
        let mut env = self.env.clone();
        match self.output {
            OutputSink::Log(_) => {
                env.retain(|(name, _)| name != env::NONCE);
                env.push((env::NONCE.to_owned(), self.nonce.to_string()));
            }
            OutputSink::Capture { .. } => {}
        }
        let path = match &self.exe.program {
            Program::Memory(_) | Program::Stored { .. } => None,
            Program::Path(path) => Some(path.clone()),
        };
        let order = Order {
            parent: i32::try_from(std::process::id()).map_err(|error| LaunchError::Fork(io::Error::other(error)))?,
            listener: self.listener.is_some(),
            path,
            argv: self.argv.clone(),
            env,
            cwd: self.cwd.clone(),
            lock_dir: self.lock_dir.clone(),
            group: self.confine.group.as_ref().map(|group| group.path().to_owned()),
            account: self.confine.account.clone(),
        };
        serde_json::to_vec(&order).map_err(|error| LaunchError::Wire(error.into()))
    }
}

/// A process that waits for its release. Dropped, it exits without executing anything.
#[derive(Debug)]
pub struct Prepared {
    socket: UnixStream,
    running: Arc<Running>,
    lock_dir: Option<PathBuf>,
}

impl Prepared {
    /// What to write into the ledger before the release.
    #[must_use]
    pub fn identity(&self) -> &ProcessId {
        self.running.identity()
    }

    /// Lets the process execute its program and waits until it does. Dropping the future kills it.
    ///
    /// # Errors
    /// The program cannot be executed, or the process has died.
    pub async fn release(mut self) -> Result<Arc<Running>, LaunchError> {
        let mut guard = KillOnDrop(Some(Arc::clone(&self.running)));
        let released = async {
            self.socket.write_all(&launch::RELEASE).await?;
            self.report().await
        };
        match tokio::time::timeout(STUCK, released).await {
            // The socket closed: by the exec, or by a death that the caller sees as any other.
            Ok(Ok(None)) => {
                guard.0 = None;
                Ok(Arc::clone(&self.running))
            }
            Ok(Ok(Some(report))) => Err(self.refused(report)),
            Ok(Err(error)) => Err(LaunchError::Wire(error)),
            Err(_) => Err(self.stuck()),
        }
    }

    /// The launcher's next line; `None` at the end of the stream.
    async fn report(&mut self) -> io::Result<Option<Report>> {
        let mut line = Vec::new();
        let mut reader = (&mut self.socket).take(MAX_REPORT);
        loop {
            match reader.read_u8().await {
                Ok(b'\n') => return Ok(Some(serde_json::from_slice(&line)?)),
                Ok(byte) => line.push(byte),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && line.is_empty() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn refused(&self, report: Report) -> LaunchError {
        match report {
            Report::Busy => LaunchError::DirectoryBusy { directory: self.lock_dir.clone().unwrap_or_default() },
            Report::Failed { step, errno } => LaunchError::Step { step, source: io::Error::from_raw_os_error(errno) },
            Report::Waiting => LaunchError::Wire(io::Error::other("the launcher waits twice")),
        }
    }

    fn stuck(&self) -> LaunchError {
        // Already dead is as good.
        self.running.signal(Signal::SIGKILL).ok();
        LaunchError::Stuck
    }
}

struct KillOnDrop(Option<Arc<Running>>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            // Already dead is as good.
            running.signal(Signal::SIGKILL).ok();
        }
    }
}

struct Request {
    order: Vec<u8>,
    exe: Arc<Sealed>,
    output: OutputSink,
    nonce: Nonce,
    group: Option<Arc<Group>>,
    listener: Option<Arc<OwnedFd>>,
    log: Arc<LogQueue>,
    runtime: Handle,
    reply: oneshot::Sender<Result<Forked, LaunchError>>,
}

struct Forked {
    socket: StdUnixStream,
    running: Arc<Running>,
}

struct Forker {
    launcher: PathBuf,
    shared: Arc<Shared>,
}

impl Forker {
    fn run(&self, inbox: &mpsc::Receiver<Request>) {
        loop {
            match inbox.recv_timeout(TEND) {
                Ok(request) => {
                    let forked = self.fork(&request);
                    let Request { reply, listener, .. } = request;
                    // It is the program's now.
                    drop(listener);
                    // A caller that is gone lets go of the socket, and the launcher exits.
                    reply.send(forked).ok();
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // Every handle is gone, but the end of this thread would kill what it forked.
                Err(mpsc::RecvTimeoutError::Disconnected) => std::thread::sleep(TEND),
            }
            if let Err(error) = strays::tend() {
                tracing::warn!(%error, "cannot look for strays");
            }
        }
    }

    fn fork(&self, request: &Request) -> Result<Forked, LaunchError> {
        let order = order_file(&request.order).map_err(LaunchError::Fork)?;
        let (socket, theirs) = StdUnixStream::pair().map_err(LaunchError::Fork)?;
        let (pipes, stdout, stderr) = Pipes::new().map_err(LaunchError::Fork)?;
        let mut command = Command::new(&self.launcher);
        command
            .arg0("versiond")
            .arg(launch::SUBCOMMAND)
            .env_clear()
            // Recognisable from its first moment on; the order says what the program gets.
            .env(env::NONCE, request.nonce.as_str())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr));

        let (identity, pidfd) = self.spawn(&mut command, &request.nonce)?;
        // It holds copies of the launcher's ends: an end of file would never come.
        drop(command);
        let output = output::collect(pipes, &request.output, &request.log, &request.runtime);
        let running = running::own(identity, pidfd, output, request.group.clone(), &request.runtime);

        let listener = request.listener.as_ref().map(|listener| listener.as_fd());
        let fds: Vec<BorrowedFd<'_>> =
            std::iter::once(order.as_fd()).chain(listener).chain(request.exe.descriptor()).collect();
        sys::send_with_fds(socket.as_fd(), b"O", &fds).map_err(LaunchError::Wire)?;
        Ok(Forked { socket, running })
    }

    /// The critical section: the freeze is checked, the process forked and registered in one.
    fn spawn(&self, command: &mut Command, nonce: &Nonce) -> Result<(ProcessId, OwnedFd), LaunchError> {
        let mut registry = strays::registry();
        if self.shared.frozen.load(Ordering::Acquire) {
            return Err(LaunchError::Frozen);
        }
        let mut child = command.spawn().map_err(LaunchError::Fork)?;
        self.shared.forked.fetch_add(1, Ordering::Release);
        let known = i32::try_from(child.id())
            .map_err(io::Error::other)
            .and_then(|pid| Ok((ProcessId::of(pid, nonce.clone())?, sys::pidfd_open(pid)?)));
        match known {
            Ok((identity, pidfd)) => {
                registry.add(&identity);
                Ok((identity, pidfd))
            }
            Err(error) => {
                // Nobody could own it. It has been told nothing yet.
                child.kill().and_then(|()| child.wait()).map_err(LaunchError::Fork)?;
                Err(LaunchError::Fork(error))
            }
        }
    }
}

fn order_file(order: &[u8]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create("order", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(order)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file.into())
}
