//! A complete worker: it has no traffic, and appends one line to a journal for each piece of work. Try it:
//! `cargo run --example worker -- --data-dir /tmp --admin /tmp/worker.sock`

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use supervisor_sdk::{Child, Context, DataFormats, StateKind, StreamClass, describe};

fn main() -> ExitCode {
    let mut about = describe("example-worker", env!("CARGO_PKG_VERSION"), StateKind::Local);
    about.streams = vec![StreamClass::Job];
    about.data = Some(DataFormats { reads: [1, 1], writes: 1 });
    Child::new(about).flag("--piece", "MS").work(work)
}

async fn work(context: Context) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let folder = context.data_dir().ok_or("`--data-dir` is missing")?;
    let piece = Duration::from_millis(context.flag("--piece").unwrap_or("10").parse()?);
    let mut journal = std::fs::File::options().create(true).append(true).open(folder.join("journal"))?;
    for n in 0u64.. {
        // Waits while paused or draining; the piece counts as in flight until the lease is dropped.
        let _lease = context.lease(StreamClass::Job).await;
        writeln!(journal, "begin {n}")?;
        tokio::time::sleep(piece).await;
        writeln!(journal, "end {n}")?;
    }
    Ok(())
}
