//! From the exec to the last trace: exits, signals, groups, strays, output.
#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod process_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use process_support::*;
use versiond::process::output::{LogItem, MAX_LINE, MAX_QUEUED};
use versiond::process::{ExitInfo, Life, LogQueue, Signal, SignalError, Spawner};

#[tokio::test]
async fn f21_an_exit_is_noticed_at_once_and_told_as_it_was() {
    let spawner = quiet_spawner();
    let child = run(&spawner, sh("exit 7")).await;
    assert_eq!(child.exited().await, ExitInfo::Code(7));
    assert_eq!(child.gone().await, ExitInfo::Code(7));
    assert_eq!(child.exit(), Some(ExitInfo::Code(7)));
    assert!(matches!(child.signal(Signal::SIGTERM), Err(SignalError::Exited)));

    let child = run(&spawner, sh("exec sleep 1000")).await;
    let mut life = child.life();
    assert_eq!(*life.borrow_and_update(), Life::Alive);
    let killed = Instant::now();
    child.signal(Signal::SIGKILL).unwrap();
    life.changed().await.unwrap();
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    assert_eq!(life.borrow().exit(), Some(ExitInfo::Signal(9)));
    assert!(is_reaped(child.identity().pid));
}

#[tokio::test]
async fn a_signal_reaches_the_whole_group() {
    let child = run(&quiet_spawner(), sh("sleep 1000 & echo $!; trap '' TERM; wait; exit 3")).await;
    let other = printed_number(&child).await;
    until("the trap is set", || status_field(child.identity().pid, "SigIgn") != "0000000000000000").await;
    child.signal(Signal::SIGTERM).unwrap();
    assert_eq!(child.exited().await, ExitInfo::Code(3));
    assert!(!is_alive(other));
}

#[tokio::test]
async fn f41_what_a_leader_leaves_in_its_group_dies_with_it() {
    // It has forgotten its nonce: only the group tells that it is ours.
    let child = run(&quiet_spawner(), sh("env -i sleep 1000 & echo $!; exec sleep 1000")).await;
    let left = printed_number(&child).await;
    until("it has forgotten", || {
        let read = |name: &str| std::fs::read(format!("/proc/{left}/{name}")).unwrap();
        read("comm") == b"sleep\n" && !read("cmdline").is_empty() && read("environ").is_empty()
    })
    .await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.identity().pid), Signal::SIGKILL).unwrap();
    assert_eq!(child.exited().await, ExitInfo::Signal(9));
    until("it dies of the group's death", || !is_alive(left)).await;
    until("it is reaped", || is_reaped(left)).await;
}

#[tokio::test]
async fn f41_a_descendant_that_left_the_session_dies_too() {
    let child = run(&quiet_spawner(), sh("setsid sleep 1000 & echo $!; exec sleep 1000")).await;
    let escaped = printed_number(&child).await;
    let session = || nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(escaped))).map(nix::unistd::Pid::as_raw);
    until("it has left", || session() == Ok(escaped)).await;
    child.signal(Signal::SIGKILL).unwrap();
    child.gone().await;
    assert!(!is_alive(escaped));
    until("it is reaped", || is_reaped(escaped)).await;
}

#[tokio::test]
async fn f41_a_descendant_in_the_middle_of_an_exec_is_found_too() {
    let directory = tempfile::tempdir().unwrap();
    // Each executes itself for ever: at any moment some of them show no environment.
    std::fs::write(directory.path().join("again"), "exec sh again").unwrap();
    let mut spec = sh("PATH=/usr/bin:/bin; for i in 1 2 3 4 5 6; do setsid sh again & echo $!; done; exec sleep 1000");
    spec.cwd = directory.path().to_owned();
    let child = run(&quiet_spawner(), spec).await;
    until("they run", || child.output().tail(99).len() == 6).await;
    let escaped: Vec<i32> = child.output().tail(99).iter().map(|line| line.parse().unwrap()).collect();
    let session = |pid: i32| nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).map(nix::unistd::Pid::as_raw);
    until("they have left", || escaped.iter().all(|pid| session(*pid) == Ok(*pid))).await;
    child.signal(Signal::SIGKILL).unwrap();
    child.gone().await;
    assert!(!escaped.iter().any(|pid| is_alive(*pid)));
}

#[tokio::test]
async fn an_orphan_of_a_living_child_is_let_live_and_reaped_when_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut spec = sh("(sleep 1000 & echo $!); exec sleep 1000");
    spec.cwd = directory.path().to_owned();
    let child = run(&quiet_spawner(), spec).await;
    let orphan = printed_number(&child).await;
    let own = std::process::id().to_string();
    until("it is adopted", || status_field(orphan, "PPid") == own).await;
    assert!(is_alive(orphan));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(orphan), Signal::SIGKILL).unwrap();
    until("the orphan is reaped", || is_reaped(orphan)).await;
    assert_eq!(child.exit(), None);
}

#[tokio::test]
async fn letting_go_of_a_process_kills_nothing_and_leaves_no_zombie() {
    let spawner = quiet_spawner();
    let running = spawner.prepare(sh("exec sleep 1000")).await.unwrap().release().await.unwrap();
    let pid = running.identity().pid;
    drop(running);
    drop(spawner);
    // What would kill it happens when a handle is dropped, not later; a signal proves that it lives.
    assert!(is_alive(pid));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    until("it is reaped", || is_reaped(pid)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f66_children_outlive_the_thread_that_asked_for_them() {
    let spawner = quiet_spawner();
    let (asking, runtime) = (spawner.clone(), tokio::runtime::Handle::current());
    let thread = std::thread::spawn(move || runtime.block_on(async move { run(&asking, sh("exec sleep 1000")).await }));
    let child = thread.join().unwrap();
    drop(spawner);
    // A parent-death signal would have come by the end of the thread, before the join returned.
    assert_eq!(child.exit(), None);
    child.signal(Signal::SIGTERM).unwrap();
    assert_eq!(child.exited().await, ExitInfo::Signal(15));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f64_a_log_that_does_not_read_holds_up_no_child_and_says_what_it_lost() {
    struct Sink {
        open: Mutex<bool>,
        opened: Condvar,
        items: Mutex<Vec<LogItem>>,
    }
    let sink = Arc::new(Sink { open: Mutex::new(false), opened: Condvar::new(), items: Mutex::new(Vec::new()) });
    let inner = Arc::clone(&sink);
    let log = LogQueue::to(move |item| {
        let mut open = inner.open.lock();
        while !*open {
            inner.opened.wait(&mut open);
        }
        inner.items.lock().push(item);
    });
    let spawner = Spawner::with_log(launcher(), log.unwrap()).unwrap();

    let lines = 300_000u64;
    let child = run(&spawner, sh(&format!("exec seq 1000000 {}", 1_000_000 + lines - 1))).await;
    assert_eq!(child.exited().await, ExitInfo::Code(0), "it ends although nobody reads the log");
    child.output().ended().await;
    let dropped = child.output().dropped();
    assert!(dropped > 0 && dropped < lines, "{dropped} of {lines}");

    *sink.open.lock() = true;
    sink.opened.notify_all();
    let marked = || {
        let lost = |item: &LogItem| match item {
            LogItem::Dropped { lines, .. } => *lines,
            LogItem::Line { .. } => 0,
        };
        sink.items.lock().iter().map(lost).sum::<u64>()
    };
    until("the loss is marked", || marked() == dropped).await;
    let items = sink.items.lock();
    let delivered: usize = items.iter().filter(|item| matches!(item, LogItem::Line { .. })).count();
    assert_eq!(delivered as u64 + dropped, lines);
    assert!(delivered * 7 <= MAX_QUEUED * 2, "the queue is bounded");
}

#[tokio::test]
async fn output_is_cut_into_lines_of_bounded_length() {
    let long = MAX_LINE + 10;
    let command = format!("printf 'a\\r\\n\\nlast'; printf '%{long}s\\n' x >&2");
    let child = run(&quiet_spawner(), sh(&command)).await;
    child.output().ended().await;
    let lines = child.output().tail(99);
    let of = |text: &str| lines.iter().filter(|line| line.as_str() == text).count();
    assert_eq!((of("a"), of(""), of("last"), of("         x")), (1, 1, 1, 1), "{lines:?}");
    assert!(lines.iter().any(|line| line.len() == MAX_LINE));
}
