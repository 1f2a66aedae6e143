//! From the fork to the exec: what a child inherits, when it runs, and what refuses.
#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod process_support;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Gid, Uid};
use process_support::*;
use versiond::process::launch::{EXIT_NOT_RELEASED, Step};
use versiond::process::{
    Account, ExitInfo, LaunchError, LaunchSpec, OutputSink, ProcessId, SealError, pin, seal, seal_up_to,
};

#[tokio::test]
async fn f42_a_child_has_the_listed_environment_and_nothing_else() {
    // The test's own environment stands for a supervisor's with secrets in it.
    assert!(std::env::vars().count() > 0);
    let spawner = quiet_spawner();
    let mut spec = sh("tr '\\0' '\\n' </proc/$$/environ");
    spec.env = vec![("B".into(), "2 = two".into()), ("SUPERVISOR_NONCE".into(), "forged".into())];
    let nonce = spec.nonce.clone();
    let child = run(&spawner, spec).await;
    child.output().ended().await;
    assert_eq!(child.output().tail(99), ["B=2 = two".to_owned(), format!("SUPERVISOR_NONCE={nonce}")]);

    let mut bare = sh("tr '\\0' '\\n' </proc/$$/environ");
    bare.output = OutputSink::Capture { limit: 1000 };
    let child = run(&spawner, bare).await;
    child.output().ended().await;
    assert_eq!(child.output().captured().stdout, b"");
}

#[tokio::test]
async fn f42_f47_a_child_has_three_descriptors_default_signals_and_a_session_of_its_own() {
    // Neither a descriptor that is open across exec nor an ignored signal may come through.
    let leak = memfd_create("leak", MFdFlags::empty()).unwrap();
    assert_eq!(fcntl(&leak, FcntlArg::F_GETFD).unwrap(), 0);
    let spawner = quiet_spawner();
    let child = run(&spawner, sh("exec sleep 1000")).await;
    let pid = child.identity().pid;
    // The dynamic loader opens and closes a few of its own; one that came with the exec would stay.
    until("three descriptors are open", || descriptors(pid).into_keys().eq([0, 1, 2])).await;
    assert_eq!(descriptors(pid)[&0].to_str(), Some("/dev/null"));
    assert_eq!(u64::from_str_radix(&status_field(pid, "SigIgn"), 16), Ok(0));
    assert_eq!(u64::from_str_radix(&status_field(pid, "SigBlk"), 16), Ok(0));
    assert_eq!(nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).unwrap().as_raw(), pid);
    assert_eq!(nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid))).unwrap().as_raw(), pid);
    assert_eq!(ProcessId::of(pid, child.identity().nonce.clone()).unwrap(), *child.identity());
}

#[tokio::test]
async fn p7_nothing_is_executed_before_the_release_and_the_identity_outlives_the_exec() {
    let directory = tempfile::tempdir().unwrap();
    let witness = directory.path().join("witness");
    let mut spec = sh("echo $$ >witness; exec sleep 1000");
    spec.cwd = directory.path().to_owned();
    let prepared = quiet_spawner().prepare(spec).await.unwrap();
    let identity = prepared.identity().clone();
    let executable = || std::fs::read_link(format!("/proc/{}/exe", identity.pid)).unwrap();
    assert_eq!(executable(), std::fs::canonicalize(launcher()).unwrap());
    assert!(!witness.exists());

    let child = Child(prepared.release().await.unwrap());
    until("the program runs", || read_number(&witness).is_some()).await;
    assert_eq!(read_number(&witness), Some(identity.pid));
    assert_eq!(ProcessId::of(identity.pid, identity.nonce.clone()).unwrap(), identity);
    assert_eq!(*child.identity(), identity);
}

#[tokio::test]
async fn p7_a_process_that_is_not_released_ends_without_a_trace() {
    let directory = tempfile::tempdir().unwrap();
    let mut spec = sh("echo $$ >witness");
    spec.cwd = directory.path().to_owned();
    spec.lock_dir = Some(directory.path().to_owned());
    let spawner = quiet_spawner();
    let again = LaunchSpec { nonce: nonce(), ..spec.clone() };
    let prepared = spawner.prepare(spec).await.unwrap();
    let number = pid(&prepared);
    assert!(is_alive(number));
    drop(prepared);
    until("the launcher has ended and is reaped", || is_reaped(number)).await;
    assert!(!directory.path().join("witness").exists());
    // The data directory is free again.
    drop(spawner.prepare(again).await.unwrap());
}

#[test]
fn a_launcher_without_a_supervisor_does_nothing() {
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};
    let code = |stdin: Stdio| Command::new(launcher()).arg("launch").stdin(stdin).status().unwrap().code();
    let (gone, theirs) = UnixStream::pair().unwrap();
    drop(gone);
    assert_eq!(code(Stdio::from(std::os::fd::OwnedFd::from(theirs))), Some(i32::from(EXIT_NOT_RELEASED)));
    assert_eq!(code(Stdio::null()), Some(64));
}

#[tokio::test]
async fn f67_what_runs_is_what_was_checked_although_the_file_was_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    std::fs::copy(std::fs::canonicalize("/bin/sh").unwrap(), &path).unwrap();
    let sealed = Arc::new(seal(&path, None).unwrap());
    // Through the same inode, as a writer with the file open would.
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    file.write_all(b"#!/bin/false\n").unwrap();
    drop(file);

    let child = run(&quiet_spawner(), program(sealed, &["sh", "-c", "exit 41"])).await;
    assert_eq!(child.exited().await, ExitInfo::Code(41));
}

/// F67: what is too large for a copy is checked right before it is executed, as that user who may not even look into
/// its folder.
#[tokio::test]
async fn f67_p6_a_program_too_large_for_memory_is_checked_at_every_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    std::fs::copy("/bin/true", &path).unwrap();
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let sealed = Arc::new(seal_up_to(1000, &path, None).unwrap());
    let mut spec = program(sealed, &["large"]);
    if nix::unistd::geteuid().is_root() {
        spec.confine.account = Some(Account::new(Uid::from_raw(61_234), Gid::from_raw(61_234), Vec::new()));
    }
    let again = |spec: &LaunchSpec| LaunchSpec { nonce: nonce(), ..spec.clone() };
    let spawner = quiet_spawner();
    for _ in 0..2 {
        assert_eq!(run(&spawner, again(&spec)).await.exited().await, ExitInfo::Code(0));
    }

    let forked = spawner.forked();
    mode(0o755);
    let error = spawner.prepare(again(&spec)).await.unwrap_err();
    assert!(matches!(error, LaunchError::Changed(SealError::Open { .. })), "{error:?}");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    mode(0o555);
    let error = spawner.prepare(again(&spec)).await.unwrap_err();
    assert!(matches!(error, LaunchError::Changed(SealError::WrongHash { .. })), "{error:?}");
    assert_eq!(spawner.forked(), forked, "nothing was started to find it out");
}

#[tokio::test]
async fn a_pinned_program_is_run_by_its_path_and_may_be_a_script() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script");
    // Another process writes it: were the file open here for a moment, a process that another test forks at that
    // moment would hold it open too, and nobody could execute it (ETXTBSY).
    let write = "printf '#!/bin/sh\\nexit $1\\n' > \"$0\" && chmod 755 \"$0\"";
    assert!(std::process::Command::new("sh").arg("-c").arg(write).arg(&path).status().unwrap().success());
    let pinned = Arc::new(pin(&path, None).unwrap());
    let child = run(&quiet_spawner(), program(pinned, &["script", "42"])).await;
    assert_eq!(child.exited().await, ExitInfo::Code(42));
}

#[tokio::test]
async fn what_fails_on_the_way_is_named() {
    let spawner = quiet_spawner();
    let mut nowhere = sh("true");
    nowhere.cwd = "/nowhere".into();
    match spawner.prepare(nowhere).await {
        Err(LaunchError::Step { step: Step::Directory, source }) => {
            assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }

    let mut broken = tempfile::NamedTempFile::new().unwrap();
    broken.write_all(b"\x7fELF but not really").unwrap();
    let sealed = Arc::new(seal(broken.path(), None).unwrap());
    let prepared = spawner.prepare(program(sealed, &["broken"])).await.unwrap();
    let number = pid(&prepared);
    match prepared.release().await {
        Err(LaunchError::Step { step: Step::Exec, source }) => {
            assert_eq!(source.raw_os_error(), Some(nix::libc::ENOEXEC));
        }
        other => panic!("{other:?}"),
    }
    until("the launcher is reaped", || is_reaped(number)).await;

    let mut spec = sh("true");
    spec.env = vec![("A=B".into(), "secret".into())];
    match spawner.prepare(spec).await {
        Err(LaunchError::BadSpec { what }) => assert_eq!(what, "A=B"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn p5_f11_a_data_directory_has_one_holder_until_its_last_descendant_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let spawner = quiet_spawner();
    let locked = |command: &str| {
        let mut spec = sh(command);
        spec.lock_dir = Some(directory.path().to_owned());
        spec
    };
    let is_busy = async || match spawner.prepare(locked("true")).await {
        Err(LaunchError::DirectoryBusy { directory: busy }) => {
            assert_eq!(busy, directory.path());
            true
        }
        Ok(_) => false,
        Err(other) => panic!("{other:?}"),
    };
    // A descendant that leaves the session and forgets the nonce: nothing but the lock knows of it.
    let first = run(&spawner, locked("env -i setsid sleep 1000 & echo $!; exec sleep 1000")).await;
    let escaped = printed_number(&first).await;
    let has_escaped = || std::fs::read(format!("/proc/{escaped}/environ")).is_ok_and(|environ| environ.is_empty());
    let is_sleep = || std::fs::read_to_string(format!("/proc/{escaped}/comm")).is_ok_and(|name| name == "sleep\n");
    until("the descendant has escaped", || has_escaped() && is_sleep()).await;
    assert!(is_busy().await);

    first.signal(versiond::process::Signal::SIGKILL).unwrap();
    first.gone().await;
    assert!(is_alive(escaped));
    assert!(is_busy().await);

    nix::sys::signal::kill(nix::unistd::Pid::from_raw(escaped), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the stray is reaped", || is_reaped(escaped)).await;
    assert!(!is_busy().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f30_nothing_is_forked_after_the_freeze() {
    let spawner = quiet_spawner();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let spawner = spawner.clone();
        tasks.spawn(async move { spawner.prepare(sh("exec sleep 1000")).await });
    }
    // In the midst of them.
    let mut made = vec![tasks.join_next().await.unwrap().unwrap().unwrap()];
    spawner.freeze();
    let forked = spawner.forked();

    let mut refused = 0;
    while let Some(prepared) = tasks.join_next().await {
        match prepared.unwrap() {
            Ok(prepared) => made.push(prepared),
            Err(LaunchError::Frozen) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 0, "the freeze came too late to tell");
    assert_eq!(spawner.forked(), forked, "forked after the freeze");
    assert_eq!(made.len() as u64, forked, "every process is somebody's");
    assert!(matches!(spawner.prepare(sh("true")).await, Err(LaunchError::Frozen)));
}
