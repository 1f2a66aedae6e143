//! Programs run for their output.
#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod process_support;

use std::sync::Arc;
use std::time::Duration;

use process_support::*;
use versiond::process::oneshot::{DescribeError, MAX_OUTPUT, OneshotError, TIMEOUT, describe, run as run_once};
use versiond::process::output::Captured;
use versiond::process::{Sealed, Spawner, seal};

async fn once(spawner: &Spawner, command: &str, within: Duration) -> Result<Captured, OneshotError> {
    run_once(spawner, &shell(), &["-c", command], within).await
}

fn sealed(path: &str) -> Arc<Sealed> {
    Arc::new(seal(&std::fs::canonicalize(path).unwrap(), None).unwrap())
}

#[tokio::test]
async fn each_way_to_end_is_told_from_the_others() {
    let spawner = quiet_spawner();
    let output = once(&spawner, "echo out; echo err >&2", TIMEOUT).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    match once(&spawner, "echo half; echo why >&2; exit 3", TIMEOUT).await {
        Err(OneshotError::Exit { code: 3, output }) => assert_eq!(output.stderr, b"why\n"),
        other => panic!("{other:?}"),
    }
    let end = async |command: &str| once(&spawner, command, TIMEOUT).await.unwrap_err();
    assert!(matches!(end("kill -SEGV $$").await, OneshotError::Signal { number: 11 }));
    assert!(matches!(end("echo; true").await, OneshotError::Empty));
    assert!(matches!(end(&format!("seq {MAX_OUTPUT}")).await, OneshotError::TooLong));
}

#[tokio::test]
async fn a_program_that_does_not_end_is_ended_with_what_it_started() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let command = format!("sleep 1000 & echo $! >{}; wait", file.path().display());
    let end = once(&quiet_spawner(), &command, Duration::from_secs(1)).await;
    assert!(matches!(end, Err(OneshotError::Timeout { .. })), "{end:?}");
    let started = read_number(file.path()).unwrap();
    until("its child is dead", || !is_alive(started)).await;
}

#[tokio::test]
async fn f42_it_has_an_empty_folder_of_its_own_and_an_empty_environment() {
    let spawner = quiet_spawner();
    let look = "pwd; ls -A; tr '\\0' '\\n' </proc/$$/environ";
    let output = once(&spawner, look, TIMEOUT).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let [folder] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(!std::path::Path::new(folder).exists(), "the folder went with it");
}

#[tokio::test]
async fn f09_programs_that_say_nothing_of_the_contract_are_told_apart() {
    let spawner = quiet_spawner();
    // It complains about the flag and exits normally.
    assert!(matches!(describe(&spawner, &sealed("/bin/sleep"), &[]).await, Err(DescribeError::Unsupported)));
    // It takes the flag for text.
    assert!(matches!(describe(&spawner, &sealed("/bin/echo"), &[]).await, Err(DescribeError::Malformed(_))));
    let nothing = describe(&spawner, &sealed("/bin/true"), &[]).await;
    assert!(matches!(nothing, Err(DescribeError::Failed(OneshotError::Empty))), "{nothing:?}");
}

#[tokio::test]
async fn giving_up_ends_the_program() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let command = format!("echo $$ >{}; exec sleep 1000", file.path().display());
    let spawner = quiet_spawner();
    let asked = tokio::spawn(async move { once(&spawner, &command, TIMEOUT).await });
    until("it runs", || read_number(file.path()).is_some()).await;
    asked.abort();
    let program = read_number(file.path()).unwrap();
    until("it is reaped", || is_reaped(program)).await;
}
