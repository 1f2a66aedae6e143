//! What tells one process from every other: number, start time, boot and nonce; and how `/proc` shows it.
//!
//! Lives here: the identity and the readers of `/proc/<pid>/{stat,environ}`. Must not live here:
//! anything that signals or waits.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use supervisor_protocol::{Nonce, env};

/// How often an environment is read again that looks empty because its process is being executed.
const EXEC_TRIES: u32 = 50;
const EXEC_PAUSE: Duration = Duration::from_millis(1);

/// The kernel's name for one boot of the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(String);

impl BootId {
    /// The boot that the machine is in.
    ///
    /// # Errors
    /// `/proc/sys/kernel/random/boot_id` cannot be read.
    pub fn current() -> io::Result<Self> {
        Ok(Self(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned()))
    }

    /// The boot of a record. It is compared, never parsed.
    #[must_use]
    pub fn from_record(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a process over every reuse of its number and every boot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Also the number of its process group and session.
    pub pid: i32,
    /// Clock ticks between boot and start, field 22 of `/proc/<pid>/stat`. An exec leaves it.
    pub start_ticks: u64,
    pub boot_id: BootId,
    /// The value of `SUPERVISOR_NONCE` in its environment.
    pub nonce: Nonce,
}

impl ProcessId {
    /// The identity of the process that has this number now.
    ///
    /// # Errors
    /// There is no such process, or `/proc` cannot be read.
    pub fn of(pid: i32, nonce: Nonce) -> io::Result<Self> {
        Ok(Self { pid, start_ticks: Stat::read(pid)?.start_ticks, boot_id: BootId::current()?, nonce })
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} (start {})", self.pid, self.start_ticks)
    }
}

/// The fields of `/proc/<pid>/stat` that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) start_ticks: u64,
    environment: Environment,
}

/// What the addresses of a process's environment say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Environment {
    /// It was executed with none.
    Empty,
    Present,
    /// In the middle of an exec, or another user's, or a kernel thread's.
    Unknown,
}

impl Stat {
    pub(super) fn read(pid: i32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable stat line"))
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in brackets, which may itself hold brackets and blanks. An
        // exec writes the start of the code (the 26th) after the environment's two ends (the 50th and 51st),
        // which for a moment are equal: only with the first do the others count.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
            environment: match (fields.get(23), fields.get(47), fields.get(48)) {
                (Some(&"0"), ..) | (_, None | Some(&"0"), _) | (_, _, None | Some(&"0")) => Environment::Unknown,
                (_, Some(start), Some(end)) if start == end => Environment::Empty,
                (_, Some(_), Some(_)) => Environment::Present,
            },
        })
    }

    /// A zombie, or on its way to be one: it executes nothing any more.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The nonce in a process's environment, as it was when the process was executed. Blocks for a moment
/// when the process is in the middle of an exec.
///
/// # Errors
/// The process is gone, or belongs to another user.
pub(super) fn nonce_of(pid: i32) -> io::Result<Option<Nonce>> {
    for _ in 0..EXEC_TRIES {
        let environ = environment_of(pid)?;
        if !environ.is_empty() {
            return Ok(nonce_in(&environ));
        }
        // During an exec it only looks empty; a kernel thread, which has none, has no executable either.
        if Stat::read(pid)?.environment == Environment::Empty || fs::read_link(format!("/proc/{pid}/exe")).is_err() {
            return Ok(None);
        }
        std::thread::sleep(EXEC_PAUSE);
    }
    Ok(None)
}

/// Whether a process has the nonce of a generation, of this versiond or of another.
#[must_use]
pub fn is_child(pid: i32) -> bool {
    matches!(nonce_of(pid), Ok(Some(_)))
}

/// The environment in one read: between two the process may execute something else, and the second would
/// find the end of what is no more.
fn environment_of(pid: i32) -> io::Result<Vec<u8>> {
    let mut room = 32 << 10;
    loop {
        let mut environ = vec![0; room];
        let length = File::open(format!("/proc/{pid}/environ"))?.read(&mut environ)?;
        if length < room {
            environ.truncate(length);
            return Ok(environ);
        }
        room *= 4;
    }
}

fn nonce_in(environ: &[u8]) -> Option<Nonce> {
    environ.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(env::NONCE.as_bytes())?.strip_prefix(b"=")?;
        Nonce::new(std::str::from_utf8(value).ok()?).ok()
    })
}

/// The numbers of all processes that `/proc` shows.
pub(super) fn all_processes() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f47_a_stat_line_is_read_past_a_name_made_to_confuse() {
        let line = "42 (a) Z 1 (b) c) S 7 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 2";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.group, stat.session), ('S', 7, 42, 41));
        assert_eq!((stat.start_ticks, stat.environment), (98_765, Environment::Unknown));
        assert!(Stat::parse("42 (a").is_none());
        assert!(Stat::parse("42 (a) S 7").is_none());
    }

    #[test]
    fn f41_an_environment_counts_as_empty_only_after_the_exec() {
        let environment = |code: &str, start: &str, end: &str| {
            let mut fields = vec!["1"; 52];
            fields[..3].copy_from_slice(&["42", "(sh)", "S"]);
            (fields[25], fields[49], fields[50]) = (code, start, end);
            Stat::parse(&fields.join(" ")).unwrap().environment
        };
        assert_eq!(environment("4096", "900", "950"), Environment::Present);
        assert_eq!(environment("4096", "900", "900"), Environment::Empty);
        assert_eq!(environment("0", "900", "900"), Environment::Unknown);
        assert_eq!(environment("4096", "0", "0"), Environment::Unknown);
    }

    #[test]
    fn the_nonce_is_a_whole_variable_not_part_of_one() {
        let nonce = |environ: &[u8]| nonce_in(environ).map(String::from);
        assert_eq!(nonce(b"A=1\0SUPERVISOR_NONCE=abc\0B=2\0"), Some("abc".to_owned()));
        assert_eq!(nonce(b"X_SUPERVISOR_NONCE=abc\0"), None);
        assert_eq!(nonce(b"SUPERVISOR_NONCE_OLD=abc\0SUPERVISOR_NONCE=\0"), None);
    }

    #[test]
    fn this_process_has_an_identity() {
        let nonce = Nonce::new("n1").unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let identity = ProcessId::of(pid, nonce.clone()).unwrap();
        assert_eq!(identity, ProcessId::of(pid, nonce).unwrap());
        assert!(identity.start_ticks > 0);
        assert!(all_processes().unwrap().contains(&pid));
    }

    #[test]
    fn f41_the_nonce_is_seen_in_the_middle_of_an_exec_too() {
        use std::process::{Command, Stdio};
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("again"), "exec sh again").unwrap();
        let mut command = Command::new("/bin/sh");
        command.arg("again").current_dir(directory.path()).env(env::NONCE, "n1").stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let bare = Command::new("/bin/sleep").arg("1000").env_clear().spawn();
        let seen: Vec<_> = (0..5_000).map(|_| nonce_of(pid).unwrap()).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        let mut bare = bare.unwrap();
        let of_bare = nonce_of(i32::try_from(bare.id()).unwrap()).unwrap();
        bare.kill().unwrap();
        bare.wait().unwrap();
        assert_eq!(of_bare, None);
        let expected = Nonce::new("n1").unwrap();
        let missed = seen.iter().filter(|nonce| nonce.as_ref() != Some(&expected)).count();
        assert_eq!(missed, 0, "of {}", seen.len());
    }
}
