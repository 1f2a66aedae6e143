//! What a build does by itself: at its start, once it is ready, and against its supervisor.
//!
//! Must not live here: what it answers (that is `endpoints`), or what it is told to do (`behaviour`).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};
use supervisor_sdk::{Context, DataFormats, Readiness};
use tokio::time::{Instant, sleep};

use crate::behaviour::{Behaviour, Crash, Unready};

/// Set for the process to which a build that daemonises leaves its work.
const DAEMON: &str = "DEMO_CHILD_DAEMON";
/// How often a file is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why a build does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("`--data-dir` is missing")]
    NoDataDir,
    #[error("{}", .0.display())]
    Data(PathBuf, #[source] io::Error),
    #[error("the database is locked by another process")]
    Locked,
    #[error("the database has format {found}, which this build does not read")]
    Format { found: String },
}

/// Before anything else, in the only thread: `Some` when this process is to end.
pub(crate) fn begin(behaviour: &Behaviour) -> Option<ExitCode> {
    if std::env::args().nth(1).as_deref() == Some("pre-upgrade") {
        return Some(pre_upgrade(behaviour));
    }
    if behaviour.ignores_stop {
        // Every thread to come inherits it, so that the signal stays pending for ever.
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.thread_block().ok();
    }
    if behaviour.floods > 0 && !describes() {
        let (lines, burst) = (behaviour.floods, (behaviour.floods / 100).max(1));
        std::thread::spawn(move || flood(lines, burst));
    }
    if !behaviour.daemonises || describes() {
        return None;
    }
    if std::env::var_os(DAEMON).is_some() {
        // It leads no group, so that this does not fail.
        nix::unistd::setsid().ok();
        return None;
    }
    let daemon =
        Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).env(DAEMON, "1").stdin(Stdio::null()).spawn();
    Some(if daemon.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run before an upgrade: a line in the working directory, which is the data's, and the next exit code.
fn pre_upgrade(behaviour: &Behaviour) -> ExitCode {
    let log = Path::new("pre-upgrade");
    let before = std::fs::read_to_string(log).unwrap_or_default();
    let runs = before.lines().filter(|build| *build == behaviour.build).count();
    if std::fs::write(log, format!("{before}{}\n", behaviour.build)).is_err() {
        return ExitCode::from(30);
    }
    // Without any it is not implemented.
    let code = behaviour.pre_upgrade.get(runs).or(behaviour.pre_upgrade.last());
    ExitCode::from(code.copied().unwrap_or(1))
}

/// Whether it is only asked what it is.
fn describes() -> bool {
    std::env::args_os().any(|arg| arg == "--describe")
}

/// Never returns.
fn flood(lines: u32, burst: u32) {
    let pause = Duration::from_secs(1) * burst / lines;
    for n in 0_u64.. {
        for line in 0..burst {
            // A reader that is gone changes nothing.
            writeln!(io::stderr(), "flood {n} {line} of a child that has much to say and nothing to tell").ok();
        }
        std::thread::sleep(pause);
    }
}

/// What a build holds of its data directory while it lives.
pub(crate) struct Database {
    _lock: Option<Flock<File>>,
}

impl Database {
    /// Takes the lock, looks at the format that is found, and writes its own.
    pub(crate) fn open(behaviour: &Behaviour, folder: Option<&Path>) -> Result<Database, StartError> {
        if !behaviour.locks && behaviour.data.is_none() {
            return Ok(Database { _lock: None });
        }
        let folder = folder.ok_or(StartError::NoDataDir)?;
        let lock = if behaviour.locks { Some(lock(&folder.join("database"))?) } else { None };
        if let Some(formats) = behaviour.data {
            migrate(&folder.join("format"), formats)?;
        }
        Ok(Database { _lock: lock })
    }
}

fn lock(path: &Path) -> Result<Flock<File>, StartError> {
    let data = |error| StartError::Data(path.to_owned(), error);
    let file = File::options().create(true).append(true).open(path).map_err(data)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StartError::Locked)
}

fn migrate(path: &Path, formats: DataFormats) -> Result<(), StartError> {
    let data = |error| StartError::Data(path.to_owned(), error);
    match std::fs::read_to_string(path) {
        Ok(found) => {
            let [first, last] = formats.reads;
            let readable = found.trim().parse().is_ok_and(|found: u32| (first..=last).contains(&found));
            if !readable {
                return Err(StartError::Format { found: found.trim().to_owned() });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(data(error)),
    }
    std::fs::write(path, format!("{}\n", formats.writes)).map_err(data)
}

/// Says when it is ready, and when it is no more. Never returns.
pub(crate) async fn live(behaviour: Behaviour, context: Context, ready_after: Duration) {
    let readiness = context.readiness();
    if let Some(reason) = &behaviour.never_ready {
        readiness.unready(reason.as_str());
        return std::future::pending().await;
    }
    if !ready_after.is_zero() {
        readiness.initializing("warming up");
        sleep(ready_after).await;
    }
    let began = Instant::now();
    readiness.ready();
    let crash = async {
        match behaviour.crash {
            Some(Crash::AfterReadyMs(ms)) => {
                tokio::time::sleep_until(began + Duration::from_millis(ms)).await;
                std::process::abort();
            }
            Some(Crash::FirstRequest) | None => std::future::pending::<()>().await,
        }
    };
    let unready = async {
        match &behaviour.unready {
            Some(Unready::AfterMs(ms)) => {
                sleep(Duration::from_millis(*ms)).await;
                readiness.unready("its backend is gone");
            }
            Some(Unready::File(name)) => {
                if let Some(folder) = context.data_dir() {
                    follow(&folder.join(name), &readiness).await;
                }
            }
            None => {}
        }
        std::future::pending::<()>().await;
    };
    tokio::join!(crash, unready);
}

/// Unready while the file is there. Never returns.
async fn follow(file: &Path, readiness: &Readiness) {
    let mut was = false;
    loop {
        let is = file.exists();
        match (was, is) {
            (false, true) => readiness.unready("its backend is gone"),
            (true, false) => readiness.ready(),
            (true, true) | (false, false) => {}
        }
        was = is;
        sleep(LOOK_EVERY).await;
    }
}
