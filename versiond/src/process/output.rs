//! What children print: read at once, always, whatever becomes of it.
//!
//! A reader task per pipe cuts the stream into lines and puts them into a bounded queue; one thread
//! takes them to the log; beside it each generation has a ring of its latest lines ([`super::logs`]).
//! When the log's sink stops reading, the queue fills, further lines are dropped and counted, and a mark
//! says how many; the child never waits. Must not live here: log formats.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::OFlag;
use parking_lot::{Condvar, Mutex};
use supervisor_protocol::admin::LogStream;
use supervisor_protocol::{Generation, ServiceName, VersionName};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::logs::{Logs, Writer};
use super::ring::OVERHEAD;

/// The longest line in bytes; a longer one is cut into pieces.
pub const MAX_LINE: usize = 16 << 10;
/// What waits for the log at most, in bytes, over all children.
pub const MAX_QUEUED: usize = 4 << 20;

/// Where a child's output goes.
#[derive(Debug, Clone)]
pub enum OutputSink {
    /// Line by line to the log.
    Log(OutputLabel),
    /// Kept, at most `limit` bytes of each stream.
    Capture { limit: usize },
}

/// Whose output it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLabel {
    pub service: ServiceName,
    pub version: VersionName,
    pub generation: Generation,
}

/// What the log gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    Line {
        label: Arc<OutputLabel>,
        stream: LogStream,
        text: Arc<str>,
    },
    /// So many lines of this child were lost here.
    Dropped {
        label: Arc<OutputLabel>,
        lines: u64,
    },
}

/// Lines on their way to the log.
#[derive(Debug)]
pub struct LogQueue {
    state: Mutex<Queued>,
    filled: Condvar,
    /// What is remembered beside it, whatever becomes of the log.
    logs: Arc<Logs>,
}

#[derive(Debug, Default)]
struct Queued {
    items: VecDeque<LogItem>,
    bytes: usize,
    /// Lines lost since the last item was queued, by generation.
    dropped: BTreeMap<Generation, (Arc<OutputLabel>, u64)>,
}

impl LogQueue {
    /// A queue whose thread writes to `tracing`, target `child`.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn to_tracing() -> io::Result<Arc<Self>> {
        Self::to(|item| match item {
            LogItem::Line { label, stream, text } => tracing::info!(
                target: "child",
                service = %label.service,
                version = %label.version,
                generation = label.generation.0,
                %stream,
                "{text}"
            ),
            LogItem::Dropped { label, lines } => tracing::warn!(
                target: "child",
                service = %label.service,
                version = %label.version,
                generation = label.generation.0,
                lines,
                "lines of output were dropped: the log does not keep up"
            ),
        })
    }

    /// A queue whose thread hands each item to `sink`, which may block.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn to(mut sink: impl FnMut(LogItem) + Send + 'static) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self { state: Mutex::default(), filled: Condvar::new(), logs: Arc::default() });
        let source = Arc::clone(&queue);
        let deliver = move || {
            loop {
                source.take().into_iter().for_each(&mut sink);
            }
        };
        std::thread::Builder::new().name("child-output".to_owned()).spawn(deliver)?;
        Ok(queue)
    }

    /// What is remembered of the children's output.
    #[must_use]
    pub fn logs(&self) -> Arc<Logs> {
        Arc::clone(&self.logs)
    }

    /// Queues a line or counts it as lost; never waits. Returns whether it was queued.
    fn push(&self, label: &Arc<OutputLabel>, stream: LogStream, text: Arc<str>) -> bool {
        let mut state = self.state.lock();
        let cost = text.len() + OVERHEAD;
        // Once something was lost everything is, until the thread comes by: the marks keep their places.
        let fits = state.dropped.is_empty() && state.bytes + cost <= MAX_QUEUED;
        if fits {
            state.bytes += cost;
            state.items.push_back(LogItem::Line { label: Arc::clone(label), stream, text });
        } else {
            self.logs.count_lost(label);
            state.dropped.entry(label.generation).or_insert_with(|| (Arc::clone(label), 0)).1 += 1;
        }
        self.filled.notify_one();
        fits
    }

    /// Waits for items and takes all, the marks of what was lost after them last.
    fn take(&self) -> VecDeque<LogItem> {
        let mut state = self.state.lock();
        while state.items.is_empty() && state.dropped.is_empty() {
            self.filled.wait(&mut state);
        }
        let Queued { mut items, dropped, .. } = std::mem::take(&mut *state);
        items.extend(dropped.into_values().map(|(label, lines)| LogItem::Dropped { label, lines }));
        items
    }
}

/// What one child has printed.
#[derive(Debug)]
pub struct Output {
    kept: Kept,
    dropped: AtomicU64,
    open: watch::Sender<usize>,
}

#[derive(Debug)]
enum Kept {
    Lines(Writer),
    Captured(Mutex<Captured>),
}

/// Output kept whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// A stream had more than the limit.
    pub truncated: bool,
}

impl Output {
    /// The latest lines of a logged child, oldest first, at most `count`.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        match &self.kept {
            Kept::Lines(lines) => lines.tail(count),
            Kept::Captured(_) => Vec::new(),
        }
    }

    /// Lines that the log did not take.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until both streams are at their end: nobody can write to them any more.
    pub async fn ended(&self) {
        let mut open = self.open.subscribe();
        // The sender lives as long as `self`.
        open.wait_for(|streams| *streams == 0).await.ok();
    }

    /// What has been captured so far; empty for a logged child.
    #[must_use]
    pub fn captured(&self) -> Captured {
        match &self.kept {
            Kept::Captured(captured) => captured.lock().clone(),
            Kept::Lines(_) => Captured::default(),
        }
    }

    fn remember(&self, stream: LogStream, line: &Arc<str>) {
        match &self.kept {
            Kept::Lines(lines) => lines.push(stream, Arc::clone(line)),
            Kept::Captured(_) => {}
        }
    }

    fn capture(&self, stream: LogStream, bytes: &[u8], limit: usize) {
        if let Kept::Captured(captured) = &self.kept {
            let captured = &mut *captured.lock();
            let into = match stream {
                LogStream::Stdout => &mut captured.stdout,
                LogStream::Stderr => &mut captured.stderr,
            };
            let room = limit.saturating_sub(into.len());
            into.extend_from_slice(&bytes[..room.min(bytes.len())]);
            captured.truncated |= bytes.len() > room;
        }
    }
}

/// The supervisor's ends of a child's two pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Pipes {
    /// Both pipes: the supervisor's ends, then the child's.
    pub(super) fn new() -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let (stdout, child_stdout) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, child_stderr) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        Ok((Self { stdout, stderr }, child_stdout, child_stderr))
    }
}

/// Starts the readers of a child's output.
pub(super) fn collect(pipes: Pipes, sink: &OutputSink, log: &Arc<LogQueue>, runtime: &Handle) -> Arc<Output> {
    let kept = match sink {
        OutputSink::Log(label) => Kept::Lines(log.logs.open(label)),
        OutputSink::Capture { .. } => Kept::Captured(Mutex::default()),
    };
    let output = Arc::new(Output { kept, dropped: AtomicU64::new(0), open: watch::Sender::new(2) });
    for (stream, fd) in [(LogStream::Stdout, pipes.stdout), (LogStream::Stderr, pipes.stderr)] {
        let output = Arc::clone(&output);
        match sink {
            OutputSink::Log(label) => {
                let (label, log) = (Arc::new(label.clone()), Arc::clone(log));
                runtime.spawn(async move {
                    let lines = Lines { label, stream, log, output: &output };
                    finish(
                        &output,
                        read(fd, Splitter::default(), |splitter, bytes| splitter.feed(bytes, &lines)).await,
                    );
                });
            }
            OutputSink::Capture { limit } => {
                let limit = *limit;
                runtime.spawn(async move {
                    finish(&output, read(fd, (), |(), bytes| output.capture(stream, bytes, limit)).await);
                });
            }
        }
    }
    output
}

fn finish(output: &Output, end: io::Result<()>) {
    if let Err(error) = end {
        tracing::warn!(%error, "a child's output can be read no further");
    }
    output.open.send_modify(|streams| *streams = streams.saturating_sub(1));
    if let (Kept::Lines(lines), 0) = (&output.kept, *output.open.borrow()) {
        lines.end();
    }
}

/// Reads to the end of the stream, which is told by an empty piece.
async fn read<S>(fd: OwnedFd, mut state: S, mut take: impl FnMut(&mut S, &[u8])) -> io::Result<()> {
    let mut pipe = pipe::Receiver::from_owned_fd(fd)?;
    let mut buffer = vec![0u8; 16 << 10];
    loop {
        let count = pipe.read(&mut buffer).await?;
        take(&mut state, &buffer[..count]);
        if count == 0 {
            return Ok(());
        }
    }
}

struct Lines<'a> {
    label: Arc<OutputLabel>,
    stream: LogStream,
    log: Arc<LogQueue>,
    output: &'a Output,
}

impl Lines<'_> {
    fn emit(&self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text: Arc<str> = String::from_utf8_lossy(line).into();
        self.output.remember(self.stream, &text);
        if !self.log.push(&self.label, self.stream, text) {
            self.output.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The part of a line that has come so far.
#[derive(Default)]
struct Splitter {
    partial: Vec<u8>,
}

impl Splitter {
    fn feed(&mut self, bytes: &[u8], lines: &Lines<'_>) {
        if bytes.is_empty() && !self.partial.is_empty() {
            lines.emit(&std::mem::take(&mut self.partial));
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            self.partial.extend_from_slice(text);
            while self.partial.len() > MAX_LINE {
                let rest = self.partial.split_off(MAX_LINE);
                lines.emit(&std::mem::replace(&mut self.partial, rest));
            }
            if ended {
                lines.emit(&std::mem::take(&mut self.partial));
            }
        }
    }
}
