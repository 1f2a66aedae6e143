//! A program run for its output: `--describe` and the like. In an empty folder, with an empty
//! environment, in its own group, for ten seconds at most.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use supervisor_protocol::contract::Describe;
use supervisor_protocol::{CONTRACT, NameError, Nonce};

use super::folders;
use super::output::{Captured, OutputSink};
use super::seal::Sealed;
use super::spawner::{LaunchError, LaunchSpec, Spawner};
use super::{Account, Confine, ExitInfo, Running, Signal};

/// The most that a program may print on each stream, in bytes.
pub const MAX_OUTPUT: usize = 64 << 10;
/// How long a program may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the pipes may stay open after the program's end: somebody else holds them.
const LINGER: Duration = Duration::from_secs(1);

/// Why a program gave no output.
#[derive(Debug, thiserror::Error)]
pub enum OneshotError {
    #[error("it was not started")]
    Launch(#[source] LaunchError),
    #[error("no empty folder could be made for it")]
    Directory(#[source] io::Error),
    #[error("no nonce could be made for it")]
    Nonce(#[source] NameError),
    #[error("it exited with code {code}")]
    Exit { code: i32, output: Captured },
    #[error("it ended by signal {number}")]
    Signal { number: i32 },
    #[error("it did not end within {} s", within.as_secs())]
    Timeout { within: Duration },
    #[error("it printed nothing")]
    Empty,
    #[error("it printed more than one line")]
    Lines,
    #[error("it printed more than {MAX_OUTPUT} bytes")]
    TooLong,
}

impl OneshotError {
    /// Whether the program ended by itself, normally, and complained about its arguments: it does not
    /// know the flag. Everything else may be different the next time.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            OneshotError::Exit { output, .. } => is_usage(output),
            OneshotError::Launch(_)
            | OneshotError::Directory(_)
            | OneshotError::Nonce(_)
            | OneshotError::Signal { .. }
            | OneshotError::Timeout { .. }
            | OneshotError::Empty
            | OneshotError::Lines
            | OneshotError::TooLong => false,
        }
    }
}

/// Why a program could not be described.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// It does not know `--describe`: built for an older contract, or for none.
    #[error("it does not know --describe")]
    Unsupported,
    #[error("it could not be asked")]
    Failed(#[source] OneshotError),
    #[error("it did not print one JSON object of the contract")]
    Malformed(#[source] serde_json::Error),
    #[error("it speaks contract {found}, newer than the {CONTRACT} that is known here")]
    NewerContract { found: u32 },
}

/// Asks a program what it is. `env` holds no secret.
///
/// # Errors
/// It does not know the flag, cannot be run, prints something else, or speaks a newer contract.
pub async fn describe(
    spawner: &Spawner,
    exe: &Arc<Sealed>,
    env: &[(String, String)],
) -> Result<Describe, DescribeError> {
    let output = match run_in(spawner, exe, &["--describe"], env, TIMEOUT).await {
        Ok(output) => output,
        Err(error) if error.is_usage() => return Err(DescribeError::Unsupported),
        Err(error) => return Err(DescribeError::Failed(error)),
    };
    parse(&output.stdout)
}

/// What a program says to a flag of the older contract, given alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One line, without the spaces around it.
    Said(String),
    /// It does not know the flag.
    Unsupported,
}

/// Asks a program of the older contract one thing. `env` holds no secret.
///
/// # Errors
/// It cannot be run, fails in another way than by complaining about the flag, or prints something other than one line.
pub async fn ask(
    spawner: &Spawner,
    exe: &Arc<Sealed>,
    flag: &str,
    env: &[(String, String)],
) -> Result<Answer, OneshotError> {
    match run_in(spawner, exe, &[flag], env, TIMEOUT).await {
        Ok(output) => one_line(&output.stdout).map(Answer::Said),
        Err(error) if error.is_usage() => Ok(Answer::Unsupported),
        Err(error) => Err(error),
    }
}

/// Has a program of the older contract do one thing, of which only the exit code tells. Whether it knows the flag.
///
/// # Errors
/// It cannot be run, or fails in another way than by complaining about the flag.
pub async fn act(
    spawner: &Spawner,
    exe: &Arc<Sealed>,
    flag: &str,
    env: &[(String, String)],
    within: Duration,
) -> Result<bool, OneshotError> {
    match run_in(spawner, exe, &[flag], env, within).await {
        Ok(_) | Err(OneshotError::Empty) => Ok(true),
        Err(error) if error.is_usage() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs a program to its end and returns what it printed; something on standard output at least.
///
/// # Errors
/// It cannot be started, fails, dies, takes longer than `within`, or prints nothing or too much.
pub async fn run(
    spawner: &Spawner,
    exe: &Arc<Sealed>,
    args: &[&str],
    within: Duration,
) -> Result<Captured, OneshotError> {
    run_in(spawner, exe, args, &[], within).await
}

/// Runs a program to its end, with its output where `spec` has it; only its exit code tells.
///
/// # Errors
/// It cannot be started, dies by a signal, or takes longer than `within`.
pub async fn finish(spawner: &Spawner, spec: LaunchSpec, within: Duration) -> Result<i32, OneshotError> {
    let prepared = spawner.prepare(spec).await.map_err(OneshotError::Launch)?;
    let guard = End(prepared.release().await.map_err(OneshotError::Launch)?);
    match tokio::time::timeout(within, guard.0.exited()).await {
        Ok(ExitInfo::Code(code)) => Ok(code),
        Ok(ExitInfo::Signal(number)) => Err(OneshotError::Signal { number }),
        Err(_) => {
            // Already dead is as good.
            guard.0.signal(Signal::SIGKILL).ok();
            guard.0.exited().await;
            Err(OneshotError::Timeout { within })
        }
    }
}

async fn run_in(
    spawner: &Spawner,
    exe: &Arc<Sealed>,
    args: &[&str],
    env: &[(String, String)],
    within: Duration,
) -> Result<Captured, OneshotError> {
    let directory = Scratch::new(spawner.asking()).map_err(OneshotError::Directory)?;
    let argv = std::iter::once("child").chain(args.iter().copied()).map(str::to_owned).collect();
    let spec = LaunchSpec {
        exe: Arc::clone(exe),
        argv,
        env: env.to_vec(),
        cwd: directory.0.clone(),
        lock_dir: None,
        output: OutputSink::Capture { limit: MAX_OUTPUT },
        nonce: random_nonce().map_err(OneshotError::Nonce)?,
        confine: Confine { account: spawner.asking().cloned(), group: None },
        listener: None,
    };
    let prepared = spawner.prepare(spec).await.map_err(OneshotError::Launch)?;
    let guard = End(prepared.release().await.map_err(OneshotError::Launch)?);
    let running = &guard.0;
    let Ok(exit) = tokio::time::timeout(within, running.exited()).await else {
        // Already dead is as good.
        running.signal(Signal::SIGKILL).ok();
        running.exited().await;
        return Err(OneshotError::Timeout { within });
    };
    // The group is dead; only a descendant that left it could still hold the pipes.
    tokio::time::timeout(LINGER, running.output().ended()).await.ok();
    let output = running.output().captured();
    match exit {
        ExitInfo::Signal(number) => Err(OneshotError::Signal { number }),
        _ if output.truncated => Err(OneshotError::TooLong),
        ExitInfo::Code(0) if output.stdout.trim_ascii().is_empty() => Err(OneshotError::Empty),
        ExitInfo::Code(0) => Ok(output),
        ExitInfo::Code(code) => Err(OneshotError::Exit { code, output }),
    }
}

/// An empty folder of the account's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new(account: Option<&Account>) -> io::Result<Self> {
        let made = Scratch(tempfile::tempdir()?.keep());
        if let Some(account) = account {
            folders::give(&made.0, account)?;
        }
        Ok(made)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = folders::remove(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "not removed");
        }
    }
}

/// A nonce that no other process has.
///
/// # Errors
/// Never in practice: the grammar of a nonce admits hexadecimal digits.
pub fn random_nonce() -> Result<Nonce, NameError> {
    Nonce::new(format!("{:032x}", rand::rng().random::<u128>()))
}

/// The caller may give up at any await; the process must not go on then.
struct End(Arc<Running>);

impl Drop for End {
    fn drop(&mut self) {
        // Already dead is as good.
        self.0.signal(Signal::SIGKILL).ok();
    }
}

fn parse(stdout: &[u8]) -> Result<Describe, DescribeError> {
    #[derive(serde::Deserialize)]
    struct Version {
        contract: u32,
    }
    // First the version alone: the rest of a newer object may have another shape.
    let Version { contract } = serde_json::from_slice(stdout).map_err(DescribeError::Malformed)?;
    if contract > CONTRACT {
        return Err(DescribeError::NewerContract { found: contract });
    }
    serde_json::from_slice(stdout).map_err(DescribeError::Malformed)
}

fn one_line(stdout: &[u8]) -> Result<String, OneshotError> {
    let text = String::from_utf8_lossy(stdout);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line.to_owned()),
        (Some(_), Some(_)) => Err(OneshotError::Lines),
        (None, _) => Err(OneshotError::Empty),
    }
}

/// Whether a program complains about its arguments, in the words of the usual readers of command lines. A word
/// that other errors use as well counts only where a usage text has it: at the beginning of a line.
fn is_usage(output: &Captured) -> bool {
    const ANYWHERE: [&str; 16] = [
        "unknown flag",
        "unknown shorthand flag",
        "unknown option",
        "unknown argument",
        "unknown command-line",
        "unrecognized option",
        "unrecognised option",
        "unrecognized argument",
        "unrecognized flag",
        "unexpected argument",
        "invalid option",
        "illegal option",
        "bad option",
        "no such option",
        "provided but not defined",
        "unsupported option",
    ];
    const AT_THE_BEGINNING: [&str; 2] = ["usage:", "usage of "];
    [&output.stdout, &output.stderr].into_iter().any(|stream| {
        let text = String::from_utf8_lossy(stream).to_lowercase();
        ANYWHERE.iter().any(|sign| text.contains(sign))
            || text.lines().any(|line| AT_THE_BEGINNING.iter().any(|sign| line.trim_start().starts_with(sign)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_contract_is_refused_by_name_whatever_else_it_says() {
        match parse(br#"{"contract":2,"state":{"kind":"new"}}"#) {
            Err(DescribeError::NewerContract { found: 2 }) => {}
            other => panic!("{other:?}"),
        }
        assert!(matches!(parse(br#"{"name":"x"}"#), Err(DescribeError::Malformed(_))));
        assert!(matches!(parse(b"hello"), Err(DescribeError::Malformed(_))));
        let own = parse(br#"{"contract":1,"name":"x","version":"1","state":"none"}"#).unwrap();
        assert_eq!(own.name, "x");
    }

    /// F09, and what fails closed: only a normal exit with a complaint about the arguments is no answer.
    #[test]
    fn f09_only_a_complaint_about_arguments_says_unsupported() {
        let exit = |stdout: &str, stderr: &str| OneshotError::Exit {
            code: 2,
            output: Captured { stdout: stdout.into(), stderr: stderr.into(), ..Captured::default() },
        };
        for complaint in [
            "flag provided but not defined: -print-storage-mode\nUsage of devshardd:\n  -port int",
            "error: unexpected argument '--describe' found\n\nUsage: child [OPTIONS]",
            "Error: unknown flag: --print-binary-version",
            "Error: unknown shorthand flag: 'p' in -print",
            "usage: child.py [-h]\nchild.py: error: unrecognized arguments: --describe",
            "Usage: child [OPTIONS]\nTry 'child --help' for help.\n\nError: No such option: --describe",
            "child: unrecognized option '--describe'",
            "nginx: invalid option: \"--describe\"",
            "node: bad option: --describe",
            "date: illegal option -- d",
        ] {
            assert!(exit("", complaint).is_usage(), "{complaint}");
            assert!(exit(complaint, "").is_usage(), "{complaint}");
        }
        for failure in [
            "",
            "cannot reach the database",
            "disk usage is at 100 %",
            "panic: runtime error",
            "PGHOST is not set",
            "permission denied: see the usage notes",
        ] {
            assert!(!exit("", failure).is_usage(), "{failure}");
        }
        for closed in [
            OneshotError::Signal { number: 11 },
            OneshotError::Timeout { within: TIMEOUT },
            OneshotError::Empty,
            OneshotError::Lines,
            OneshotError::TooLong,
        ] {
            assert!(!closed.is_usage(), "{closed}");
        }
    }

    #[test]
    fn an_answer_is_one_line() {
        assert_eq!(one_line(b"\n  v0.2.13 \n").unwrap(), "v0.2.13");
        assert!(matches!(one_line(b" \n\n"), Err(OneshotError::Empty)));
        assert!(matches!(one_line(b"starting\nv0.2.13\n"), Err(OneshotError::Lines)));
    }
}
