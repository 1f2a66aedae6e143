//! The output of all generations: those that live, and the last few of each slot that have ended.
//!
//! A [`Writer`] is one generation's way in, a [`Reader`] one client's way out. A reader holds nobody up:
//! what it does not take in time makes room, and its next line says how much. Must not live here: the
//! log's own sink (that is [`super::output`]), and wire formats.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use supervisor_protocol::admin::{LogLine, LogStream};
use supervisor_protocol::{Generation, SlotId};
use tokio::sync::watch;

use super::output::OutputLabel;
use super::ring::{Ring, USUAL_RING};

/// So many generations that have ended are remembered of each slot.
pub const KEPT_PER_SLOT: usize = 3;
/// And so many of all slots together.
pub const KEPT: usize = 64;
/// The most lines that a reader gets at once.
const BATCH: usize = 256;

/// Everything that is remembered of what children printed.
#[derive(Debug, Default)]
pub struct Logs {
    slots: Mutex<BTreeMap<SlotId, Arc<SlotLog>>>,
    /// Lines that the log did not take, of each slot that has been started.
    lost: Mutex<BTreeMap<SlotId, u64>>,
    /// What is remembered of each generation at most, in bytes.
    ring: OnceLock<usize>,
}

#[derive(Debug)]
struct SlotLog {
    rings: Mutex<BTreeMap<Generation, Arc<Ring>>>,
    /// Counts changes, for those who wait for one.
    changes: watch::Sender<u64>,
}

/// Why there is nothing to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLog {
    #[error("nothing of {slot} has been started here")]
    Slot { slot: SlotId },
    #[error("the output of {generation} is not remembered; known: {known}")]
    Generation { generation: Generation, known: String },
}

impl Logs {
    /// How much is remembered of each generation, in bytes. To be said before anything is started, and once.
    pub fn remember(&self, bytes: usize) {
        self.ring.get_or_init(|| bytes);
    }

    pub(super) fn count_lost(&self, label: &OutputLabel) {
        *self.lost.lock().entry(slot_of(label)).or_default() += 1;
    }

    /// Lines of each slot that the log did not take since the start. What is remembered may have them.
    #[must_use]
    pub fn lost(&self) -> BTreeMap<SlotId, u64> {
        self.lost.lock().clone()
    }

    /// The way in for a generation that is about to start.
    pub(super) fn open(&self, label: &OutputLabel) -> Writer {
        let id = slot_of(label);
        // From the first start on, so that the first loss is a growth and not a beginning.
        self.lost.lock().entry(id.clone()).or_default();
        let ring = Arc::new(Ring::new(label.generation, self.ring.get().copied().unwrap_or(USUAL_RING)));
        let mut slots = self.slots.lock();
        let new = || Arc::new(SlotLog { rings: Mutex::default(), changes: watch::Sender::new(0) });
        let slot = Arc::clone(slots.entry(id).or_insert_with(new));
        slot.rings.lock().insert(label.generation, Arc::clone(&ring));
        forget(&slots);
        Writer { ring, slot }
    }

    /// A way out: what is remembered of a slot, or of one generation; `tail` of the latest lines of it; with
    /// `follow` also what comes, until that generation's end or for ever.
    ///
    /// # Errors
    /// Nothing is remembered.
    pub fn read(
        &self,
        id: &SlotId,
        only: Option<Generation>,
        tail: Option<usize>,
        follow: bool,
    ) -> Result<Reader, NoLog> {
        let slot = self.slots.lock().get(id).cloned().ok_or_else(|| NoLog::Slot { slot: id.clone() })?;
        let changed = slot.changes.subscribe();
        let mut reader = Reader { slot, only, next: BTreeMap::new(), until: None, changed };
        let rings = reader.rings();
        if let (Some(generation), true) = (only, rings.is_empty()) {
            let known: Vec<String> = reader.slot.rings.lock().keys().map(ToString::to_string).collect();
            return Err(NoLog::Generation { generation, known: known.join(", ") });
        }
        if let Some(tail) = tail {
            reader.skip_to(tail, &rings);
        }
        if !follow {
            reader.until = Some(rings.iter().map(|(number, ring)| (*number, ring.extent().next)).collect());
        }
        Ok(reader)
    }
}

fn slot_of(label: &OutputLabel) -> SlotId {
    SlotId { service: label.service.clone(), name: label.version.clone() }
}

/// Lets go of the oldest generations that have ended.
fn forget(slots: &BTreeMap<SlotId, Arc<SlotLog>>) {
    let mut ended = Vec::new();
    for slot in slots.values() {
        let mut rings = slot.rings.lock();
        let of_slot: Vec<Generation> =
            rings.iter().filter(|(_, ring)| ring.extent().ended).map(|(number, _)| *number).collect();
        let surplus = of_slot.len().saturating_sub(KEPT_PER_SLOT);
        for number in &of_slot[..surplus] {
            rings.remove(number);
        }
        ended.extend(of_slot[surplus..].iter().map(|number| (*number, slot)));
    }
    ended.sort_by_key(|(number, _)| *number);
    let surplus = ended.len().saturating_sub(KEPT);
    for (number, slot) in &ended[..surplus] {
        slot.rings.lock().remove(number);
    }
}

/// One generation's way in.
#[derive(Debug)]
pub(super) struct Writer {
    ring: Arc<Ring>,
    slot: Arc<SlotLog>,
}

impl Writer {
    pub(super) fn push(&self, stream: LogStream, text: Arc<str>) {
        self.ring.push(now_ms(), stream, text);
        self.changed();
    }

    pub(super) fn end(&self) {
        self.ring.end();
        self.changed();
    }

    pub(super) fn tail(&self, count: usize) -> Vec<String> {
        self.ring.tail(count)
    }

    fn changed(&self) {
        self.slot.changes.send_modify(|changes| *changes += 1);
    }
}

/// For people, and for putting lines of several generations in order; never for a deadline.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// One client's way out.
#[derive(Debug)]
pub struct Reader {
    slot: Arc<SlotLog>,
    only: Option<Generation>,
    /// The number of the line that comes next, by generation; absent = its first.
    next: BTreeMap<Generation, u64>,
    /// Where a reader that does not follow stops.
    until: Option<BTreeMap<Generation, u64>>,
    changed: watch::Receiver<u64>,
}

impl Reader {
    /// The next lines, in the order in which they came; `None` after the last.
    pub async fn next(&mut self) -> Option<Vec<LogLine>> {
        loop {
            self.changed.borrow_and_update();
            let lines = self.batch();
            if !lines.is_empty() {
                return Some(lines);
            }
            if self.is_over() {
                return None;
            }
            // The sender lives as long as `self.slot`.
            self.changed.changed().await.ok()?;
        }
    }

    fn rings(&self) -> Vec<(Generation, Arc<Ring>)> {
        let rings = self.slot.rings.lock();
        let wanted = rings.iter().filter(|(number, _)| self.only.is_none_or(|only| only == **number));
        wanted.map(|(number, ring)| (*number, Arc::clone(ring))).collect()
    }

    fn batch(&mut self) -> Vec<LogLine> {
        let mut found = Vec::new();
        for (generation, ring) in self.rings() {
            let from = self.next.get(&generation).copied().unwrap_or(0);
            let until = self.until.as_ref().map(|until| until.get(&generation).copied().unwrap_or(0));
            let lines = ring.read(from, BATCH);
            found.extend(lines.into_iter().filter(|(number, _)| until.is_none_or(|until| *number < until)));
        }
        found.sort_by_key(|(number, line)| (line.at_ms, line.generation, *number));
        found.truncate(BATCH);
        for (number, line) in &found {
            self.next.insert(line.generation, number + 1);
        }
        found.into_iter().map(|(_, line)| line).collect()
    }

    /// Called when there is nothing to read.
    fn is_over(&self) -> bool {
        let ended = || self.rings().iter().all(|(_, ring)| ring.extent().ended);
        self.until.is_some() || self.only.is_some() && ended()
    }

    /// Skips all but the latest `count` lines.
    fn skip_to(&mut self, count: usize, rings: &[(Generation, Arc<Ring>)]) {
        let mut all: Vec<(u64, Generation, u64)> = Vec::new();
        for (generation, ring) in rings {
            let lines = ring.read(0, usize::MAX);
            all.extend(lines.iter().map(|(number, line)| (line.at_ms, *generation, *number)));
            // Of a generation none of whose lines are among them, only what comes.
            self.next.insert(*generation, lines.last().map_or(0, |(number, _)| number + 1));
        }
        all.sort_unstable();
        for (_, generation, number) in all.into_iter().rev().take(count) {
            self.next.insert(generation, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(version: &str, generation: u64) -> OutputLabel {
        OutputLabel {
            service: "demo".parse().unwrap(),
            version: version.parse().unwrap(),
            generation: Generation(generation),
        }
    }

    fn slot(version: &str) -> SlotId {
        SlotId { service: "demo".parse().unwrap(), name: version.parse().unwrap() }
    }

    fn print(writer: &Writer, lines: &[&str]) {
        for line in lines {
            writer.push(LogStream::Stdout, (*line).into());
        }
    }

    async fn texts(mut reader: Reader) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(lines) = reader.next().await {
            texts.extend(lines.into_iter().map(|line| format!("{} {}", line.generation, line.text)));
        }
        texts
    }

    #[tokio::test]
    async fn the_last_generations_of_a_slot_are_remembered_and_can_be_read_alone() {
        let logs = Logs::default();
        for generation in 1..=5 {
            let writer = logs.open(&label("v1", generation));
            print(&writer, &["a", "b"]);
            writer.end();
        }
        let live = logs.open(&label("v1", 6));
        print(&live, &["c"]);
        let all = texts(logs.read(&slot("v1"), None, None, false).unwrap()).await;
        assert_eq!(all, ["g3 a", "g3 b", "g4 a", "g4 b", "g5 a", "g5 b", "g6 c"]);
        let tail = texts(logs.read(&slot("v1"), None, Some(2), false).unwrap()).await;
        assert_eq!(tail, ["g5 b", "g6 c"]);
        let one = texts(logs.read(&slot("v1"), Some(Generation(4)), None, true).unwrap()).await;
        assert_eq!(one, ["g4 a", "g4 b"], "whoever follows a generation that has ended comes to an end");
        let gone = logs.read(&slot("v1"), Some(Generation(1)), None, false).unwrap_err();
        assert_eq!(gone.to_string(), "the output of g1 is not remembered; known: g3, g4, g5, g6");
        assert!(matches!(logs.read(&slot("v2"), None, None, false), Err(NoLog::Slot { .. })));
    }

    #[tokio::test]
    async fn a_follower_goes_on_with_the_next_generation() {
        let logs = Logs::default();
        let first = logs.open(&label("v1", 1));
        print(&first, &["a"]);
        let mut reader = logs.read(&slot("v1"), None, Some(0), true).unwrap();
        print(&first, &["b"]);
        first.end();
        assert_eq!(reader.next().await.unwrap()[0].text, "b");
        print(&logs.open(&label("v1", 2)), &["c"]);
        assert_eq!(reader.next().await.unwrap()[0].text, "c");
    }

    #[tokio::test]
    async fn f64_so_much_is_remembered_as_was_said_and_what_the_log_lost_is_counted_by_slot() {
        let logs = Logs::default();
        logs.remember(1_000);
        let writer = logs.open(&label("v1", 1));
        for _ in 0..100 {
            print(&writer, &["0123456789"]);
        }
        assert_eq!(texts(logs.read(&slot("v1"), None, None, false).unwrap()).await.len(), 1_000 / (128 + 10));
        drop(logs.open(&label("v2", 2)));
        logs.count_lost(&label("v1", 1));
        logs.count_lost(&label("v1", 3));
        assert_eq!(logs.lost(), BTreeMap::from([(slot("v1"), 2), (slot("v2"), 0)]));
    }

    #[tokio::test]
    async fn f64_a_follower_that_does_not_read_holds_nobody_up_and_learns_what_it_missed() {
        let logs = Logs::default();
        let writer = logs.open(&label("v1", 1));
        let mut reader = logs.read(&slot("v1"), None, None, true).unwrap();
        for _ in 0..100_000 {
            print(&writer, &["line"]);
        }
        writer.end();
        let (mut got, mut missed) = (0, 0);
        while got + missed < 100_000 {
            let lines = reader.next().await.unwrap();
            got += lines.len() as u64;
            missed += lines.iter().map(|line| line.dropped).sum::<u64>();
        }
        assert!(missed > 0 && got + missed == 100_000, "{got} and {missed}");
    }
}
