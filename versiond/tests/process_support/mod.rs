//! What the tests with real processes share.
#![allow(clippy::unwrap_used, reason = "it is part of the tests")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use supervisor_protocol::{Generation, Nonce, ServiceName, VersionName};
use versiond::process::oneshot::random_nonce;
use versiond::process::{
    Confine, LaunchSpec, LogQueue, OutputLabel, OutputSink, Prepared, Running, Sealed, Signal, Spawner, seal,
};

/// Long enough for a loaded machine; no test waits for it when all is well.
pub const SOON: Duration = Duration::from_secs(20);

pub fn launcher() -> PathBuf {
    env!("CARGO_BIN_EXE_versiond").into()
}

pub fn spawner() -> Spawner {
    Spawner::start(launcher()).unwrap()
}

pub fn quiet_spawner() -> Spawner {
    Spawner::with_log(launcher(), LogQueue::to(|_| {}).unwrap()).unwrap()
}

/// The shell, sealed.
pub fn shell() -> Arc<Sealed> {
    Arc::new(seal(&std::fs::canonicalize("/bin/sh").unwrap(), None).unwrap())
}

pub fn nonce() -> Nonce {
    random_nonce().unwrap()
}

/// A shell command with an empty environment, in the root folder, logged.
pub fn sh(command: &str) -> LaunchSpec {
    program(shell(), &["sh", "-c", command])
}

pub fn program(exe: Arc<Sealed>, argv: &[&str]) -> LaunchSpec {
    LaunchSpec {
        exe,
        argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        cwd: "/".into(),
        lock_dir: None,
        output: OutputSink::Log(OutputLabel {
            service: ServiceName::new("demo").unwrap(),
            version: VersionName::new("v1").unwrap(),
            generation: Generation(1),
        }),
        nonce: nonce(),
        confine: Confine::default(),
        listener: None,
    }
}

/// A process that runs, ended with its group when the test ends.
pub struct Child(pub Arc<Running>);

impl std::ops::Deref for Child {
    type Target = Running;
    fn deref(&self) -> &Running {
        &self.0
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGKILL).ok();
    }
}

pub async fn run(spawner: &Spawner, spec: LaunchSpec) -> Child {
    Child(spawner.prepare(spec).await.unwrap().release().await.unwrap())
}

/// The identities are taken apart so that a test can let go of the process.
pub fn pid(prepared: &Prepared) -> i32 {
    prepared.identity().pid
}

/// The first line that the child prints, which must be a number.
pub async fn printed_number(child: &Running) -> i32 {
    let mut line = String::new();
    until("the child has printed a number", || {
        line = child.output().tail(200).first().cloned().unwrap_or_default();
        !line.is_empty()
    })
    .await;
    line.trim().parse().unwrap()
}

/// Waits for a condition that nobody announces.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether the process executes anything; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// Whether the number is free: not even a zombie has it.
pub fn is_reaped(pid: i32) -> bool {
    state(pid).is_none()
}

fn state(pid: i32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

/// A field of `/proc/<pid>/status`.
pub fn status_field(pid: i32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

/// The descriptors of a process and what they point to, as far as they stay for the look.
pub fn descriptors(pid: i32) -> BTreeMap<i32, PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, std::fs::read_link(&path).ok()?)))
        .collect()
}

pub fn read_number(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
