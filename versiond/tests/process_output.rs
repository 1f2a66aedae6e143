//! Output in bulk: a child that prints without end, a log and a reader that do not keep up.
#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod process_support;

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use process_support::*;
use supervisor_protocol::SlotId;
use versiond::process::output::{LogItem, MAX_QUEUED};
use versiond::process::ring::USUAL_RING;
use versiond::process::{ExitInfo, LogQueue, Reader, Spawner};

/// A thousand lines each tenth of a second, for three seconds.
const BURSTS: u64 = 30;
const LINES: u64 = BURSTS * 1_000;

fn slot() -> SlotId {
    SlotId { service: "demo".parse().unwrap(), name: "v1".parse().unwrap() }
}

/// F64: 10,000 lines a second with a log that takes none of them and a follower that reads none: the child is not
/// held up, what is kept is bounded, and what is lost is counted and marked.
#[tokio::test]
async fn f64_ten_thousand_lines_a_second_hold_nothing_up_and_are_bounded_counted_and_marked() {
    #[derive(Default)]
    struct Sink {
        open: Mutex<bool>,
        opened: Condvar,
        items: Mutex<Vec<LogItem>>,
    }
    let sink = Arc::new(Sink::default());
    let inner = Arc::clone(&sink);
    let log = LogQueue::to(move |item| {
        let mut open = inner.open.lock();
        while !*open {
            inner.opened.wait(&mut open);
        }
        inner.items.lock().push(item);
    });
    let spawner = Spawner::with_log(launcher(), log.unwrap()).unwrap();
    // Lines of 100 bytes: the ring is much too small for all of them.
    let burst = "seq -f '%0100.0f' 1000; sleep 0.1";
    let child = run(&spawner, sh(&format!("i=0; while [ $i -lt {BURSTS} ]; do {burst}; i=$((i+1)); done"))).await;
    let mut idle: Reader = spawner.logs().read(&slot(), None, None, true).unwrap();
    let begun = Instant::now();
    assert_eq!(child.exited().await, ExitInfo::Code(0));
    child.output().ended().await;
    assert!(begun.elapsed() < SOON * 3, "it was held up: {:?}", begun.elapsed());

    let mut kept = Vec::new();
    let mut all = spawner.logs().read(&slot(), None, None, false).unwrap();
    while let Some(lines) = all.next().await {
        kept.extend(lines);
    }
    assert!(kept.iter().map(|line| line.text.len()).sum::<usize>() <= USUAL_RING);
    assert_eq!(kept[0].dropped + kept.len() as u64, LINES);
    assert!(kept[0].dropped > 0 && kept[0].at_ms > 0 && kept[0].at_ms <= kept[kept.len() - 1].at_ms);
    let first = idle.next().await.unwrap();
    assert_eq!(first[0], kept[0], "the follower goes on where what it missed ends, and is told how much");

    // The log's own loss is another: it is marked in the log itself.
    *sink.open.lock() = true;
    sink.opened.notify_all();
    let lost = child.output().dropped();
    let marked = || {
        let lost = |item: &LogItem| match item {
            LogItem::Dropped { lines, .. } => *lines,
            LogItem::Line { .. } => 0,
        };
        sink.items.lock().iter().map(lost).sum::<u64>()
    };
    let delivered = || sink.items.lock().iter().filter(|item| matches!(item, LogItem::Line { .. })).count() as u64;
    until("what the log lost is marked", || marked() == lost && delivered() + lost == LINES).await;
    assert!(delivered() * 100 <= MAX_QUEUED as u64 * 2);
}
