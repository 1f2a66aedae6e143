//! The demo builds under `versionctl conformance`: they keep the contract, and each way to break it is found.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use camino::Utf8PathBuf;
use versionctl::conformance::{Options, Outcome, Report, Requirement, check};

const A: &str = env!("CARGO_BIN_EXE_demo-child-a");
const STUCK: &str = env!("CARGO_BIN_EXE_demo-child-stuck");
const HOLD: &str = "/sessions/held/stream?ms=1500&events=15";

async fn examine(program: &str, args: &[&str], hold: Option<&str>) -> Report {
    let options = Options {
        program: Utf8PathBuf::from(program),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        hold: hold.map(str::to_owned),
        ready_within: Duration::from_secs(20),
    };
    check(&options).await.unwrap()
}

fn failing(report: &Report) -> Vec<Requirement> {
    Requirement::ALL.into_iter().filter(|it| matches!(report.outcome(*it), Outcome::Fails(_))).collect()
}

/// Build "a" behind a shell script, which changes one thing.
struct Wrapped {
    folder: tempfile::TempDir,
}

impl Wrapped {
    fn in_script(run: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Another process writes it: were the file open here for a moment, a process that another test forks at that
        // moment would hold it open too, and nobody could execute it (ETXTBSY).
        let script = "printf '%s\\n' '#!/bin/sh' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let path = folder.path().join("program");
        let written = std::process::Command::new("sh").arg("-c").arg(script).arg(&path).arg(run).status().unwrap();
        assert!(written.success());
        Self { folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("program").to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn the_demo_child_keeps_every_line_of_the_contract() {
    let report = examine(A, &[], Some(HOLD)).await;
    for requirement in Requirement::ALL {
        let expected = if requirement == Requirement::Paused {
            Outcome::NotApplicable("it is a server".to_owned())
        } else {
            Outcome::Holds
        };
        assert_eq!(report.outcome(requirement), expected, "{requirement:?}");
    }
    assert!(report.conformant());
}

#[tokio::test]
async fn without_a_path_to_hold_the_rest_is_still_checked() {
    let report = examine(A, &["--ready-after", "100"], None).await;
    assert!(report.conformant(), "{:?}", failing(&report));
    assert!(matches!(report.outcome(Requirement::Admitted), Outcome::NotApplicable(_)));
}

#[tokio::test]
async fn f27_a_program_with_another_nonce_is_found_out() {
    let program = Wrapped::in_script(&format!("SUPERVISOR_NONCE=other exec {A} \"$@\""));
    let report = examine(&program.path(), &[], None).await;
    assert_eq!(failing(&report), [Requirement::Nonce, Requirement::NotAdmitted]);
    assert!(!report.conformant());
}

#[tokio::test]
async fn f41_a_program_that_leaves_its_own_child_behind_is_found_out_and_cleaned_up() {
    // The shell dies of the signal and its child does not.
    let pid_file = tempfile::NamedTempFile::new().unwrap();
    let pid_path = pid_file.path().display();
    let program = Wrapped::in_script(&format!(
        "[ \"$1\" = --port ] || exec {A} \"$@\"\n{A} \"$@\" &\necho $! > {pid_path}\nwait"
    ));
    let report = examine(&program.path(), &[], None).await;
    assert_eq!(failing(&report), [Requirement::Stop]);
    let pid = std::fs::read_to_string(pid_file.path()).unwrap();
    let process = std::path::Path::new("/proc").join(pid.trim());
    // The kill has been sent; the kernel takes its moment.
    let began = std::time::Instant::now();
    let alive = || std::fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains("demo-child"));
    while alive() {
        assert!(began.elapsed() < Duration::from_secs(20), "{} still runs", process.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_program_that_never_becomes_ready_is_found_out() {
    let options = Options {
        program: Utf8PathBuf::from(STUCK),
        args: Vec::new(),
        hold: None,
        ready_within: Duration::from_millis(300),
    };
    let report = check(&options).await.unwrap();
    assert_eq!(failing(&report), [Requirement::Ready]);
    let Outcome::Fails(detail) = report.outcome(Requirement::Ready) else { panic!() };
    assert!(detail.contains("model missing"), "{detail}");
}
