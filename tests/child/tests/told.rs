//! The build that does as the end of its file says: each behaviour that other tests rest on, once by itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../supervisor-protocol/sdk/tests/support/mod.rs"]
mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use demo_child::{Behaviour, Crash, DataFormats, Role, StateKind, Unready};
use serde_json::Value;
use support::{Running, eventually};

const TOLD: &str = env!("CARGO_BIN_EXE_demo-child-told");
const SERVE: &[&str] = &["--port", "0"];

/// A build that behaves so, as a program in a folder of its own.
struct Build {
    folder: tempfile::TempDir,
}

impl Build {
    fn of(behaviour: &Behaviour) -> Build {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bytes"), behaviour.build_from(&std::fs::read(TOLD).unwrap())).unwrap();
        // Another process writes what is executed: a process that another test forks at this moment would hold the
        // file open, and nobody could execute it (ETXTBSY).
        let script = "cd \"$0\" && cp bytes program && chmod 755 program";
        assert!(Command::new("sh").arg("-c").arg(script).arg(folder.path()).status().unwrap().success());
        Build { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("program")
    }

    /// Serves in a folder that this makes, or that stands.
    fn serve(&self) -> Running {
        let running = Running::start_in(tempfile::tempdir().unwrap(), &self.path(), SERVE, &[]);
        eventually("it is ready", || running.admin("GET", "/ready", "").json()["ready"] == true);
        running
    }

    fn run(&self, args: &[&str], data_dir: &Path) -> Output {
        Command::new(self.path()).args(args).arg("--data-dir").arg(data_dir).stdin(Stdio::null()).output().unwrap()
    }
}

fn formats(first: u32, last: u32, writes: u32) -> Option<DataFormats> {
    Some(DataFormats { reads: [first, last], writes })
}

#[test]
fn a_build_is_what_the_end_of_its_file_says() {
    let bare = Command::new(TOLD).arg("--describe").output().unwrap();
    assert_eq!((bare.status.code(), bare.stdout.len()), (Some(64), 0));
    let behaviour = Behaviour {
        role: Role::Worker,
        state: StateKind::Shared,
        data: formats(3, 5, 5),
        undrain: false,
        ..Behaviour::named("seven")
    };
    let described = Build::of(&behaviour).run(&["--describe"], Path::new("/nonexistent"));
    let described: Value = serde_json::from_slice(&described.stdout).unwrap();
    assert!(described["version"].as_str().unwrap().ends_with("+seven"), "{described}");
    assert_eq!((&described["role"], &described["state"]), (&"worker".into(), &"shared".into()));
    assert_eq!((&described["data"]["writes"], &described["undrain"]), (&5.into(), &false.into()));
    let server = Build::of(&Behaviour::named("eight")).serve();
    assert_eq!(server.get("/hello").json()["build"], "eight");
}

#[test]
fn a_locked_database_keeps_a_second_one_from_starting() {
    let build = Build::of(&Behaviour { locks: true, state: StateKind::Local, ..Behaviour::named("locks") });
    let first = build.serve();
    let second = build.run(SERVE, first.folder.path());
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("the database is locked by another process"), "{said}");
}

#[test]
fn a_format_that_is_not_read_keeps_it_from_starting_and_one_that_is_gets_migrated() {
    let data = tempfile::tempdir().unwrap();
    let build = |data| Build::of(&Behaviour { state: StateKind::Local, data, ..Behaviour::named("data") });
    let at_most = |build: &Build| {
        // It aborts once it is ready, so that it need not be stopped.
        let output = build.run(&["--port", "0", "--crash-after", "1"], data.path());
        (output.status.signal(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let written = || std::fs::read_to_string(data.path().join("format")).unwrap();
    assert_eq!(at_most(&build(formats(3, 3, 3))).0, Some(6));
    assert_eq!(written(), "3\n");
    assert_eq!(at_most(&build(formats(3, 4, 4))).0, Some(6));
    assert_eq!(written(), "4\n");
    let (signal, said) = at_most(&build(formats(3, 3, 3)));
    assert!(signal.is_none() && said.contains("format 4, which this build does not read"), "{signal:?} {said}");
    assert_eq!(written(), "4\n");
}

#[test]
fn readiness_follows_a_file_and_goes_by_itself() {
    let follows = Behaviour { unready: Some(Unready::File("gone".to_owned())), ..Behaviour::named("follows") };
    let running = Build::of(&follows).serve();
    let ready = || running.admin("GET", "/ready", "").json()["ready"] == true;
    std::fs::write(running.folder.path().join("gone"), "").unwrap();
    eventually("it is unready", || !ready());
    std::fs::remove_file(running.folder.path().join("gone")).unwrap();
    eventually("it is ready again", ready);
    let goes = Build::of(&Behaviour { unready: Some(Unready::AfterMs(1)), ..Behaviour::named("goes") });
    let running = Running::start_in(tempfile::tempdir().unwrap(), &goes.path(), SERVE, &[]);
    eventually("it is unready", || running.admin("GET", "/ready", "").json()["reason"] == "its backend is gone");
}

#[test]
fn errors_come_as_often_as_they_are_told_to_and_a_crash_with_the_first_request() {
    let fails = Build::of(&Behaviour { errors_percent: 30, ..Behaviour::named("fails") }).serve();
    let statuses: Vec<u16> = (0..100).map(|_| fails.get("/work").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 30, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 70, "{statuses:?}");

    let mut crashes = Build::of(&Behaviour { crash: Some(Crash::FirstRequest), ..Behaviour::named("crashes") }).serve();
    assert_eq!(crashes.get("/healthz").status, 200);
    let mut connection = crashes.connect();
    std::io::Write::write_all(&mut connection, b"GET /work HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(crashes.wait().signal(), Some(6));
}

#[test]
fn one_that_ignores_its_stop_signal_serves_on() {
    let mut running = Build::of(&Behaviour { ignores_stop: true, ..Behaviour::named("stays") }).serve();
    running.signal("-TERM");
    for _ in 0..20 {
        assert_eq!(running.get("/hello").status, 200);
    }
    running.signal("-KILL");
    assert_eq!(running.wait().signal(), Some(9));
}

#[test]
fn one_that_daemonises_ends_at_once_and_serves_on_in_another_session() {
    let build = Build::of(&Behaviour { daemonises: true, ..Behaviour::named("leaves") });
    let folder = tempfile::tempdir().unwrap();
    let admin = folder.path().join("admin.sock");
    let status = Command::new(build.path())
        .args(SERVE)
        .arg("--data-dir")
        .arg(folder.path())
        .env("SUPERVISOR_ADMIN", &admin)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let mut pid = None;
    eventually("its child serves", || {
        pid = named_on_command_line(folder.path()).filter(|_| admin.exists());
        pid.is_some()
    });
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.unwrap())).unwrap();
    let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap().to_owned();
    assert_eq!(session, pid.unwrap().to_string());
    assert!(Command::new("kill").args(["-KILL", &session]).status().unwrap().success());
    eventually("it is gone", || named_on_command_line(folder.path()).is_none());
}

/// The process that names this folder as an argument.
fn named_on_command_line(folder: &Path) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let names = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == folder.as_os_str().as_encoded_bytes())
    };
    pids.into_iter().find(names)
}
