//! The wall clock steps under versiond: nothing that waits or drains may notice.

use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use supervisor_protocol::admin::DrainOutcome;

use crate::common::release;
use crate::http::EventStream;
use crate::node::{Node, serving};
use crate::releases::{Build, Document};

/// The library that shows a process another wall clock, and leaves the monotonic one alone.
const LIBRARY: &str = "faketime/libfaketime.so.1";

fn library() -> Utf8PathBuf {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found = folders.iter().map(|folder| Utf8Path::new(folder).join(LIBRARY)).find(|path| path.is_file());
    found.expect("this test needs faketime: apt-get install faketime")
}

/// A program that is versiond under a wall clock which is off by what `clock` says. Its children are not.
fn under(clock: &Utf8Path, folder: &Utf8Path) -> Utf8PathBuf {
    let program = folder.join("versiond-elsewhen");
    let (versiond, library) = (release("versiond").canonicalize().unwrap(), library());
    let script = format!(
        "#!/bin/sh\nexec env LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={clock} FAKETIME_NO_CACHE=1 \
         FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 {} \"$@\"\n",
        versiond.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// The year in which the last line of the log was written.
fn year(node: &Node) -> u32 {
    let words = node.supervisor.last_words(1);
    words.trim_start().get(..4).and_then(|year| year.parse().ok()).unwrap_or_else(|| panic!("no year in {words:?}"))
}

/// F46: deadlines, backoffs, polls and answers' ages are measured on a clock that never steps.
#[tokio::test]
async fn f46_a_wall_clock_that_steps_by_years_ends_no_stream_and_stops_no_swap() {
    let folder = tempfile::tempdir().unwrap();
    let place = Utf8Path::from_path(folder.path()).unwrap();
    let clock = place.join("clock");
    let set = |offset: &str| std::fs::write(&clock, offset).unwrap();
    set("+0");
    let node = Node::of(&under(&clock, place), "");
    let mut document = Document::of([("v0.3", Build::A.in_place())]);
    node.publish(&document);
    node.start();
    node.until_ready(|all| all.ready).await;
    let now = year(&node);

    for (step, build) in [("+1200d", Build::B), ("-1200d", Build::A), ("+0", Build::B)] {
        let before = node.status().await;
        let stream = EventStream::open(node.host, "/v0.3", 3_000).await;
        let old = stream.generation();
        set(step);
        document = document.with("v0.3", &build.in_place());
        node.publish(&document);
        let swapped = node.until(|status| serving(status, "v0.3").is_some_and(|new| new.generation.0 > old)).await;
        // What drains goes on past the step, to its own end.
        stream.finish().await.unwrap_or_else(|fault| panic!("{step}: {fault:?}\n{}", node.last_words()));
        node.until_settled("v0.3", &build.in_place().sha256).await;
        let status = node.status().await;
        let receipt = status.receipts.iter().find(|receipt| receipt.generation.0 == old).unwrap();
        assert_eq!((receipt.outcome, receipt.cut.total()), (DrainOutcome::Drained, 0), "{step}");
        assert!(receipt.took_ms < 60_000, "{step}: {receipt:?}");
        assert!(status.uptime_ms >= before.uptime_ms && status.uptime_ms < 600_000, "{step}: {}", status.uptime_ms);
        assert!(swapped.catalog.read_ms_ago.is_some_and(|ago| ago < 60_000), "{step}: {:?}", swapped.catalog);
        // It has really been shown another year.
        let off = year(&node).abs_diff(now);
        assert_eq!(off >= 2, step != "+0", "{step}: the log is {off} years off");
    }
    node.end().await;
}
