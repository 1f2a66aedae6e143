//! `versiond launch`: what runs between the fork and the program.
//!
//! It is the supervisor's own executable, run again, so that the steps before an exec are ordinary code
//! in a process with one thread. It gets its order over a socket on its standard input, prepares
//! itself, says so, and waits for one byte: *recorded*. End of file instead means that the supervisor
//! changed its mind or died, and the launcher exits without executing anything. The socket closes on
//! exec, which is how the supervisor sees that the program runs.
//!
//! Lives here: the launcher and its wire. Must not live here: tokio, threads, tracing.

use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd;
use serde::{Deserialize, Serialize};
use supervisor_protocol::env;

use super::confine::Account;
use super::sys;

/// The subcommand's name.
pub const SUBCOMMAND: &str = "launch";

/// Exit code: it was not started by a supervisor, or did not understand it.
pub const EXIT_USAGE: u8 = 64;
/// Exit code: a step failed; which one is on the wire.
pub const EXIT_FAILED: u8 = 70;
/// Exit code: another process holds the data directory.
pub const EXIT_BUSY: u8 = 75;
/// Exit code: the supervisor went away or let go before the release.
pub const EXIT_NOT_RELEASED: u8 = 76;

/// The number of a socket that is handed over.
const LISTENER_FD: i32 = 3;
/// What the launcher keeps for itself has this number or a higher one: those below are the program's.
const OWN_FDS: i32 = 16;
/// Where the descriptor of the data-directory lock goes: above any socket that is handed over.
const LOCK_FD: i32 = 64;

/// What the launcher is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The supervisor, which must be the launcher's parent.
    pub(super) parent: i32,
    /// Whether the first descriptor beside the order is a socket to hand over.
    pub(super) listener: bool,
    /// The program's path, unless its descriptor lies beside the order.
    pub(super) path: Option<PathBuf>,
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: PathBuf,
    pub(super) lock_dir: Option<PathBuf>,
    /// The control group to join.
    pub(super) group: Option<PathBuf>,
    /// Whom to become.
    pub(super) account: Option<Account>,
}

/// What the launcher says, one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// Everything is prepared; a byte releases it.
    Waiting,
    /// Another process holds the data directory.
    Busy,
    /// A step failed.
    Failed { step: Step, errno: i32 },
}

/// The byte that releases a launcher.
pub(super) const RELEASE: [u8; 1] = *b"R";

/// The steps of a launch, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    #[error("reading the order")]
    Order,
    #[error("tying its life to the supervisor's")]
    Parent,
    #[error("making a session")]
    Session,
    #[error("resetting signals")]
    Signals,
    #[error("joining its control group")]
    Group,
    #[error("becoming its user")]
    User,
    #[error("locking the data directory")]
    Lock,
    #[error("entering the working directory")]
    Directory,
    #[error("closing descriptors")]
    Descriptors,
    #[error("handing the listening socket over")]
    Listener,
    #[error("executing the program")]
    Exec,
}

enum Refusal {
    Usage,
    NotReleased,
    Busy,
    Failed(Step, io::Error),
}

/// The launcher. It returns only when it did not become the program.
pub fn main() -> ExitCode {
    let socket = match sys::lift(io::stdin(), OWN_FDS) {
        Ok(socket) => UnixStream::from(socket),
        Err(_) => return ExitCode::from(EXIT_USAGE),
    };
    let Err(refusal) = launch(&socket);
    let (code, report) = match refusal {
        Refusal::Usage => (EXIT_USAGE, None),
        Refusal::NotReleased => (EXIT_NOT_RELEASED, None),
        Refusal::Busy => (EXIT_BUSY, Some(Report::Busy)),
        Refusal::Failed(step, error) => {
            (EXIT_FAILED, Some(Report::Failed { step, errno: error.raw_os_error().unwrap_or_default() }))
        }
    };
    if let Some(report) = report {
        // Who no longer listens learns it from the exit code.
        say(&socket, &report).ok();
    }
    ExitCode::from(code)
}

fn launch(socket: &UnixStream) -> Result<Infallible, Refusal> {
    let at = |step| move |error| Refusal::Failed(step, error);

    let Received { order, listener, program } = receive(socket)?;
    tie_to_parent(order.parent)?;
    unistd::setsid().map_err(|errno| at(Step::Session)(errno.into()))?;
    sys::reset_signals();
    SigSet::empty().thread_set_mask().map_err(|errno| at(Step::Signals)(errno.into()))?;
    if let Some(group) = &order.group {
        std::fs::write(group.join("cgroup.procs"), "0").map_err(at(Step::Group))?;
    }
    if let Some(account) = &order.account {
        become_user(account).map_err(|errno| at(Step::User)(errno.into()))?;
        // A change of user has untied it.
        tie_to_parent(order.parent)?;
    }
    unistd::chdir(&order.cwd).map_err(|errno| at(Step::Directory)(errno.into()))?;
    leave_only_standard_descriptors().map_err(at(Step::Descriptors))?;
    if let Some(listener) = &listener {
        sys::place(listener.as_fd(), LISTENER_FD).map_err(at(Step::Listener))?;
    }
    if let Some(directory) = &order.lock_dir {
        lock(directory)?;
    }
    let exec = Exec::new(&order, program).map_err(|error| at(Step::Order)(error.into()))?;

    say(socket, &Report::Waiting).map_err(|_| Refusal::NotReleased)?;
    let mut byte = [0u8];
    match (&mut &*socket).read(&mut byte) {
        Ok(1) if byte == RELEASE => {}
        Ok(_) | Err(_) => return Err(Refusal::NotReleased),
    }
    exec.run().map_err(|errno| at(Step::Exec)(errno.into()))
}

struct Received {
    order: Order,
    listener: Option<OwnedFd>,
    program: Option<OwnedFd>,
}

fn receive(socket: &UnixStream) -> Result<Received, Refusal> {
    let (byte, fds) = sys::receive_with_fds(socket.as_fd()).map_err(|_| Refusal::Usage)?;
    if byte.is_none() {
        return Err(Refusal::NotReleased);
    }
    let mut fds = fds.into_iter();
    let mut order = File::from(fds.next().ok_or(Refusal::Usage)?);
    let read = |error| Refusal::Failed(Step::Order, error);
    order.seek(SeekFrom::Start(0)).map_err(read)?;
    let order: Order = serde_json::from_reader(io::BufReader::new(order)).map_err(|error| read(error.into()))?;
    let mut next = || fds.next().map(|fd| sys::lift(fd, OWN_FDS)).transpose().map_err(read);
    let listener = if order.listener { next()? } else { None };
    Ok(Received { order, listener, program: next()? })
}

/// Dies when the thread that forked this process does. Had that happened before the call, the parent
/// would be another by now.
fn tie_to_parent(parent: i32) -> Result<(), Refusal> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| Refusal::Failed(Step::Parent, errno.into()))?;
    if unistd::getppid().as_raw() == parent { Ok(()) } else { Err(Refusal::NotReleased) }
}

/// Lets go of every power but those of the account. Its two pipes become its own, for programs that open them by
/// name.
fn become_user(account: &Account) -> Result<(), Errno> {
    for stream in [io::stdout().as_fd(), io::stderr().as_fd()] {
        unistd::fchown(stream, Some(account.uid()), None)?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    unistd::setgroups(&account.groups())?;
    unistd::setgid(account.gid())?;
    unistd::setuid(account.uid())
}

fn leave_only_standard_descriptors() -> io::Result<()> {
    let null = File::open("/dev/null")?;
    unistd::dup2_stdin(null.as_fd())?;
    sys::close_on_exec_from(3)
}

/// Takes the lock and leaves its descriptor to the program and to whatever descends from it, so that
/// the lock is free only when the last of them is gone.
fn lock(directory: &PathBuf) -> Result<(), Refusal> {
    let failed = |error| Refusal::Failed(Step::Lock, error);
    let handle = File::open(directory).map_err(failed)?;
    match handle.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(Refusal::Busy),
        Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    sys::keep_across_exec(&handle, LOCK_FD).map_err(failed)?;
    Ok(())
}

/// Everything an exec needs, made before the wait so that nothing but the exec itself can fail after it.
struct Exec {
    program: Executable,
    argv: Vec<CString>,
    env: Vec<CString>,
}

enum Executable {
    Fd(OwnedFd),
    Path(CString),
}

impl Exec {
    fn new(order: &Order, fd: Option<OwnedFd>) -> Result<Self, NulError> {
        let program = match (fd, &order.path) {
            (Some(fd), _) => Executable::Fd(fd),
            (None, path) => {
                let path = path.clone().unwrap_or_default();
                Executable::Path(CString::new(path.into_os_string().into_encoded_bytes())?)
            }
        };
        let argv = order.argv.iter().map(|arg| CString::new(arg.as_str())).collect::<Result<_, _>>()?;
        let given = order.env.iter().map(|(name, value)| format!("{name}={value}"));
        // Whoever is started by the program and finds them finds another process's number.
        let handed_over = order.listener.then(|| {
            [
                format!("{}=1", env::LISTEN_FDS),
                format!("{}={}", env::LISTEN_FDNAMES, env::LISTEN_HTTP),
                format!("{}={}", env::LISTEN_PID, std::process::id()),
            ]
        });
        let env = given.chain(handed_over.into_iter().flatten()).map(CString::new);
        Ok(Self { program, argv, env: env.collect::<Result<_, _>>()? })
    }

    fn run(&self) -> Result<Infallible, Errno> {
        match &self.program {
            Executable::Fd(fd) => unistd::fexecve(fd, &self.argv, &self.env),
            Executable::Path(path) => unistd::execve(path, &self.argv, &self.env),
        }
    }
}

fn say(mut socket: &UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    socket.write_all(&line)
}
