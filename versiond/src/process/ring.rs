//! The latest output of one generation, in a bounded number of bytes: the oldest lines make room.
//!
//! Every line has a number, so that a reader who was too slow learns how many it missed. Must not live
//! here: clocks, and anything that waits.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use supervisor_protocol::Generation;
use supervisor_protocol::admin::{LogLine, LogStream};

/// What a ring holds at most unless somebody says otherwise, in bytes.
pub const USUAL_RING: usize = 1 << 20;
/// What a line costs besides its text, in bytes.
pub(super) const OVERHEAD: usize = 128;

/// The latest lines of a generation.
#[derive(Debug)]
pub struct Ring {
    generation: Generation,
    /// What it holds at most, in bytes.
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    bytes: usize,
    /// The number of the oldest line that is kept, which is how many have made room.
    first: u64,
    ended: bool,
}

#[derive(Debug)]
struct Line {
    at_ms: u64,
    stream: LogStream,
    text: Arc<str>,
}

/// Where a ring begins and ends, by the numbers of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// The number that the next line will get.
    pub(super) next: u64,
    /// No further line will come.
    pub(super) ended: bool,
}

impl Ring {
    pub(super) fn new(generation: Generation, most: usize) -> Self {
        Self { generation, most, kept: Mutex::default() }
    }

    pub(super) fn push(&self, at_ms: u64, stream: LogStream, text: Arc<str>) {
        let mut kept = self.kept.lock();
        kept.bytes += text.len() + OVERHEAD;
        kept.lines.push_back(Line { at_ms, stream, text });
        while kept.bytes > self.most {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.text.len() + OVERHEAD;
            kept.first += 1;
        }
    }

    pub(super) fn end(&self) {
        self.kept.lock().ended = true;
    }

    pub(super) fn extent(&self) -> Extent {
        let kept = self.kept.lock();
        Extent { next: kept.next(), ended: kept.ended }
    }

    /// At most `most` lines from number `from` on, each with its number. The first says how many between
    /// `from` and itself are gone.
    pub(super) fn read(&self, from: u64, most: usize) -> Vec<(u64, LogLine)> {
        let kept = self.kept.lock();
        let mut dropped = kept.first.saturating_sub(from);
        let skipped = usize::try_from(from.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        let lines = (kept.first..).zip(&kept.lines).skip(skipped).take(most);
        lines
            .map(|(number, line)| {
                let line = LogLine {
                    at_ms: line.at_ms,
                    generation: self.generation,
                    stream: line.stream,
                    text: line.text.to_string(),
                    dropped: std::mem::take(&mut dropped),
                };
                (number, line)
            })
            .collect()
    }

    /// The latest lines' text, oldest first, at most `count`.
    pub(super) fn tail(&self, count: usize) -> Vec<String> {
        let kept = self.kept.lock();
        let skipped = kept.lines.len().saturating_sub(count);
        kept.lines.iter().skip(skipped).map(|line| line.text.to_string()).collect()
    }
}

impl Kept {
    fn next(&self) -> u64 {
        self.first + self.lines.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f64_a_ring_is_bounded_and_says_how_much_made_room() {
        let most = 100_000;
        let ring = Ring::new(Generation(4), most);
        let text: Arc<str> = "x".repeat(1_000).into();
        for at_ms in 0..3_000 {
            ring.push(at_ms, LogStream::Stdout, Arc::clone(&text));
        }
        let all = ring.read(0, usize::MAX);
        assert!((all.len() * 1_000) < most && (all.len() + 1) * 1_128 > most, "{}", all.len());
        let dropped: Vec<u64> = all.iter().map(|(_, line)| line.dropped).collect();
        assert_eq!(dropped[0] + all.len() as u64, 3_000);
        assert!(dropped[1..].iter().all(|dropped| *dropped == 0));
        assert_eq!((all[0].0, all[0].1.at_ms), (dropped[0], dropped[0]));

        // Who has read to the end misses nothing; who stopped earlier is told how much.
        assert_eq!(ring.read(3_000, 9), []);
        let [(number, line)] = &ring.read(dropped[0] - 5, 1)[..] else { panic!("one line") };
        assert_eq!((*number, line.dropped), (dropped[0], 5));
        assert_eq!(ring.extent(), Extent { next: 3_000, ended: false });
    }
}
