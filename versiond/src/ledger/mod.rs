//! What a supervisor must know after its own death: its processes, and what it had decided.
//!
//! Two files of fixed size are written in turn, each with a number and a checksum; the valid one with
//! the highest number counts. A write that tears, at whatever byte, leaves the other one whole. Both are
//! allocated when they are made, so that a full disk cannot stop a write.
//!
//! Lives here: the record and its two slots. Must not live here: decisions, processes, async.

mod slot;
mod state;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

pub use slot::CAPACITY;
use slot::{Found, Record};
pub use state::{LEDGER_SCHEMA, LedgerGeneration, LedgerState, SlotMemory};

/// How long the lock of a versiond that is dead may outlive it, and how often it is tried meanwhile.
const ORPHANED: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// `pid` is 0 when the other one has not written its number yet.
    #[error("another versiond runs with {} (pid {pid})", directory.display())]
    Locked { directory: PathBuf, pid: u32 },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Never taken for a fresh start: processes of a predecessor may be alive.
    #[error("neither slot of the ledger in {} is readable", directory.display())]
    Corrupt { directory: PathBuf },
    #[error("the ledger in {} has schema {found}, newer than {LEDGER_SCHEMA}", directory.display())]
    NewerSchema { directory: PathBuf, found: u32 },
    #[error("the ledger's content is not understood")]
    Content(#[source] serde_json::Error),
    #[error("a state of {bytes} bytes does not fit into {CAPACITY}")]
    TooLarge { bytes: usize },
}

/// The ledger of one state directory. As long as it lives no other versiond can open the same.
#[derive(Debug)]
pub struct Ledger {
    slots: [Slot; 2],
    /// The slot that holds the state in force.
    current: Which,
    number: u64,
    _lock: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    First,
    Second,
}

impl Which {
    fn other(self) -> Self {
        match self {
            Which::First => Which::Second,
            Which::Second => Which::First,
        }
    }

    fn index(self) -> usize {
        match self {
            Which::First => 0,
            Which::Second => 1,
        }
    }
}

#[derive(Debug)]
struct Slot {
    path: PathBuf,
    file: File,
}

impl Ledger {
    /// Takes the state directory for this process and reads the state, an empty one on the first start.
    ///
    /// # Errors
    /// Another process has it, it cannot be read or written, or what it holds is damaged or too new.
    pub fn open(directory: &Path) -> Result<(Self, LedgerState), LedgerError> {
        fs::create_dir_all(directory).map_err(|source| LedgerError::Write { path: directory.to_owned(), source })?;
        let lock = lock(directory)?;
        let paths = [directory.join("ledger.0"), directory.join("ledger.1")];
        let existed = paths.iter().any(|path| path.exists());
        if !existed {
            create(&paths[0], 1, &LedgerState::default())?;
        }

        let found = [read(&paths[0])?, read(&paths[1])?];
        let record = newest(directory, &found)?;
        let state: LedgerState = serde_json::from_slice(&record.content).map_err(LedgerError::Content)?;
        let (current, number) = (record.which, record.number);
        for (path, found) in paths.iter().zip(&found) {
            match found {
                Found::Valid(_) => {}
                // Number 0: older than any other.
                Found::Missing => create(path, 0, &LedgerState::default())?,
                // Its room on the disk may have gone too; without any to spare it still can be written over.
                Found::Invalid => create(path, 0, &LedgerState::default()).unwrap_or_else(|error| {
                    tracing::warn!(%error, "a damaged slot of the ledger was not made anew");
                }),
            }
        }
        let [first, second] = paths;
        let slots = [Slot::open(first)?, Slot::open(second)?];
        Ok((Self { slots, current, number, _lock: lock }, state.migrated()))
    }

    /// Makes `state` the state in force: on disk when this returns. Blocking.
    ///
    /// # Errors
    /// It could not be written; the previous state stays in force.
    pub fn write(&mut self, state: &LedgerState) -> Result<(), LedgerError> {
        let content = serde_json::to_vec(state).map_err(LedgerError::Content)?;
        let number = self.number + 1;
        let bytes = slot::encode(number, LEDGER_SCHEMA, &content)?;
        let target = self.current.other();
        self.slots[target.index()].write(&bytes)?;
        self.current = target;
        self.number = number;
        Ok(())
    }
}

impl Slot {
    fn open(path: PathBuf) -> Result<Self, LedgerError> {
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(LedgerError::Write { path, source }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let mut write = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(bytes)?;
            self.file.sync_data()
        };
        write().map_err(|source| LedgerError::Write { path: self.path.clone(), source })
    }
}

struct Newest {
    which: Which,
    number: u64,
    content: Vec<u8>,
}

fn newest(directory: &Path, found: &[Found; 2]) -> Result<Newest, LedgerError> {
    let mut best: Option<(Which, &Record)> = None;
    for (which, found) in [Which::First, Which::Second].into_iter().zip(found) {
        if let Found::Valid(record) = found
            && best.is_none_or(|(_, other)| record.number > other.number)
        {
            best = Some((which, record));
        }
    }
    let directory = || directory.to_owned();
    let (which, record) = best.ok_or_else(|| LedgerError::Corrupt { directory: directory() })?;
    if record.schema > LEDGER_SCHEMA {
        return Err(LedgerError::NewerSchema { directory: directory(), found: record.schema });
    }
    Ok(Newest { which, number: record.number, content: record.content.clone() })
}

fn lock(directory: &Path) -> Result<File, LedgerError> {
    let path = directory.join("lock");
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(|source| LedgerError::Write { path: path.clone(), source })?;
    let write = |source| LedgerError::Write { path: path.clone(), source };
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                let pid = holder(&mut file);
                if is_alive(pid) || begun.elapsed() >= ORPHANED {
                    return Err(LedgerError::Locked { directory: directory.to_owned(), pid });
                }
                std::thread::sleep(LOOK_EVERY);
            }
            Err(TryLockError::Error(source)) => return Err(write(source)),
        }
    }
    // A full disk may refuse the number: it is for people only, and the lock is held without it.
    if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
        tracing::warn!(%error, "the process id was not written into the lock file");
    }
    Ok(file)
}

/// The process that has taken the lock last, as it says itself; 0 when it has not yet.
fn holder(file: &mut File) -> u32 {
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).ok();
    text.trim().parse().unwrap_or(0)
}

/// Whether the holder is another versiond. A dead one's lock lives on for a moment in a child that it had forked
/// and that has not become another program yet.
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0);
    pid.is_none_or(|pid| !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH)))
}

fn read(path: &Path) -> Result<Found, LedgerError> {
    let mut bytes = Vec::new();
    let opened = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        opened => opened,
    };
    opened
        .and_then(|file| file.take(CAPACITY as u64).read_to_end(&mut bytes))
        .map_err(|source| LedgerError::Read { path: path.to_owned(), source })?;
    Ok(slot::decode(&bytes))
}

/// Makes a slot whole or not at all: allocated, written and synchronised under another name first.
fn create(path: &Path, number: u64, state: &LedgerState) -> Result<(), LedgerError> {
    let content = serde_json::to_vec(state).map_err(LedgerError::Content)?;
    let mut bytes = slot::encode(number, LEDGER_SCHEMA, &content)?;
    // Real zeroes: an extent that was only reserved needs more of the disk at its first write.
    bytes.resize(CAPACITY, 0);
    let fresh = path.with_extension("new");
    let make = || {
        let mut file = File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    };
    make().map_err(|source| LedgerError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
