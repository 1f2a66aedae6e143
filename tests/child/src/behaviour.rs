//! How a build of the child behaves, and where that stands: JSON behind the sections of its ELF file, which no
//! loader looks at. So one program becomes any number of builds, each with a hash of its own, without a compiler.
//!
//! Must not live here: the behaviour itself (that is `acts` and `endpoints`).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use supervisor_sdk::{DataFormats, Role, StateKind};

use crate::older::Older;

/// The last bytes of a program with a behaviour. Before them: the length of the JSON, and before that the JSON.
const MARK: &[u8; 16] = b"demo-child told\n";
const LENGTH: usize = size_of::<u32>();

/// How a build behaves. The default one is ready at once, keeps nothing, and does what it is asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Signs every answer.
    pub build: String,
    pub role: Role,
    pub state: StateKind,
    /// Written into the data directory at the start. What is found there must be readable.
    pub data: Option<DataFormats>,
    pub undrain: bool,
    /// It holds a lock on its database for as long as it lives, and does not start without.
    pub locks: bool,
    /// It says `initializing` for so long.
    pub ready_after_ms: u64,
    /// It is never ready, and says this.
    pub never_ready: Option<String>,
    pub crash: Option<Crash>,
    pub unready: Option<Unready>,
    /// Of a hundred requests for work so many are answered with 500.
    pub errors_percent: u8,
    /// How long a request for work takes.
    pub work_ms: u64,
    /// The stop signal changes nothing.
    pub ignores_stop: bool,
    /// It leaves the work to a child of its own, which has a session of its own, and ends at once.
    pub daemonises: bool,
    /// So many lines a second on standard error.
    pub floods: u32,
    /// The exit codes of `pre-upgrade`, one run after the other, the last one for all that follow.
    pub pre_upgrade: Vec<u8>,
    /// It speaks the older contract, and nothing else of this counts but its name.
    pub older: Option<Older>,
}

/// When a build aborts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crash {
    /// With the first request.
    FirstRequest,
    /// So many milliseconds after it was ready.
    AfterReadyMs(u64),
}

/// When a build that was ready is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unready {
    /// So many milliseconds after it was ready.
    AfterMs(u64),
    /// While there is a file of this name in its data directory.
    File(String),
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            build: "told".to_owned(),
            role: Role::Server,
            state: StateKind::None,
            data: None,
            undrain: true,
            locks: false,
            ready_after_ms: 0,
            never_ready: None,
            crash: None,
            unready: None,
            errors_percent: 0,
            work_ms: 0,
            ignores_stop: false,
            daemonises: false,
            floods: 0,
            pre_upgrade: Vec::new(),
            older: None,
        }
    }
}

/// Why a program has no behaviour.
#[derive(Debug, thiserror::Error)]
pub enum BehaviourError {
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("no behaviour is appended to {}", .0.display())]
    Missing(PathBuf),
    #[error("the behaviour of {} is not understood", .0.display())]
    Malformed(PathBuf, #[source] serde_json::Error),
}

impl Behaviour {
    /// One that is named so.
    #[must_use]
    pub fn named(build: &str) -> Self {
        Behaviour { build: build.to_owned(), ..Behaviour::default() }
    }

    /// Whether it says anything of its readiness by itself.
    pub(crate) const fn acts_on_readiness(&self) -> bool {
        self.never_ready.is_some() || self.crash.is_some() || self.unready.is_some()
    }

    /// A build that behaves so, of a program that does as it is told.
    ///
    /// # Panics
    /// Its text is longer than 4 GiB.
    #[must_use]
    pub fn build_from(&self, program: &[u8]) -> Vec<u8> {
        let text = serde_json::json!(self).to_string();
        let length = u32::try_from(text.len()).unwrap_or_else(|_| panic!("a behaviour of {} bytes", text.len()));
        [program, text.as_bytes(), &length.to_le_bytes(), MARK].concat()
    }

    /// That of the program which runs here.
    pub fn of_this_program() -> Result<Self, BehaviourError> {
        let path = PathBuf::from("/proc/self/exe");
        let read = || {
            let mut program = File::open(&path)?;
            let tail = i64::try_from(LENGTH + MARK.len()).map_err(io::Error::other)?;
            program.seek(SeekFrom::End(-tail))?;
            let (mut length, mut mark) = ([0; LENGTH], [0; MARK.len()]);
            program.read_exact(&mut length)?;
            program.read_exact(&mut mark)?;
            if mark != *MARK {
                return Ok(None);
            }
            let length = u32::from_le_bytes(length);
            program.seek(SeekFrom::End(-tail - i64::from(length)))?;
            let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            program.read_exact(&mut text)?;
            Ok(Some(text))
        };
        let read: io::Result<Option<Vec<u8>>> = read();
        match read {
            Err(error) => Err(BehaviourError::Read(path, error)),
            Ok(None) => Err(BehaviourError::Missing(path)),
            Ok(Some(text)) => serde_json::from_slice(&text).map_err(|error| BehaviourError::Malformed(path, error)),
        }
    }
}
