//! The live view: a frame of text, redrawn in place on a terminal, one line a second elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use supervisor_protocol::admin::SlotStatus;

use crate::catalog::Catalog;
use crate::scenario::Slot;
use crate::tally::Kind;
use crate::watcher::{self, Observed};
use crate::world::World;

/// Where people read what is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Stdout,
    Stderr,
}

impl Output {
    /// Writes text. A reader that has gone away is no reason to stop a measurement.
    pub fn say(self, text: &str) {
        let _ = match self {
            Output::Stdout => writeln!(std::io::stdout(), "{text}"),
            Output::Stderr => writeln!(std::io::stderr(), "{text}"),
        };
    }

    fn is_terminal(self) -> bool {
        match self {
            Output::Stdout => std::io::stdout().is_terminal(),
            Output::Stderr => std::io::stderr().is_terminal(),
        }
    }
}

/// Shows the run until the world stops.
pub async fn run(world: Arc<World>, catalog: Arc<Catalog>, observed: Arc<Observed>, planned: usize, output: Output) {
    let in_place = output.is_terminal();
    let mut ticks = tokio::time::interval(Duration::from_millis(if in_place { 250 } else { 1_000 }));
    let mut drawn = 0;
    loop {
        tokio::select! {
            () = world.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let summary = summary(&world, &catalog, planned);
        if in_place {
            let mut lines = vec![summary];
            lines.extend(table(&world, &observed));
            // Up to where the last frame began, then each line over the old one.
            let up = if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
            output.say(&format!("{up}\x1b[2K{}\x1b[0J", lines.join("\x1b[K\n\x1b[2K")));
            drawn = lines.len();
        } else {
            output.say(&format!("{summary}{}", in_short(&observed)));
        }
    }
}

fn summary(world: &World, catalog: &Catalog, planned: usize) -> String {
    let book = world.book.lock();
    let swaps = book.lines.iter().flat_map(|line| line.swaps()).filter(|epoch| epoch.first_answer.is_some()).count();
    let tally = &book.tally;
    let short = tally.of(Kind::Short);
    let streams = tally.of(Kind::Stream);
    let wrong = tally.sum(|counts| counts.wrong_binary);
    let killed = tally.sum(|counts| counts.killed);
    let aside = |count: u64, what: &str| if count > 0 { format!(", {what} {count}") } else { String::new() };
    format!(
        "{:>4} s  revision {:<3} swaps {swaps:>2}/{planned}  short {:<6} streams {} open, {} whole  uploads {}  \
         websockets {}  failed {}, cut {}{}{}{}",
        world.now().0 / 1_000,
        catalog.revision(),
        short.whole,
        book.open(),
        streams.whole,
        tally.of(Kind::Upload).whole,
        tally.of(Kind::WebSocket).whole,
        tally.sum(|counts| counts.failed),
        tally.sum(|counts| counts.cut),
        aside(wrong, "wrong binary"),
        aside(killed, "killed"),
        if book.is_out() { "  (versiond killed)" } else { "" },
    )
}

fn table(world: &World, observed: &Observed) -> Vec<String> {
    let Some(status) = observed.status() else { return Vec::new() };
    let slots = world.book.lock().lines.len();
    let mut lines = vec![format!("  {:<8} {:<18} {:>7}  {}", "slot", "serves", "streams", "beside it")];
    for at in 0..slots {
        let Some(slot) = watcher::slot_of(&status, Slot(at)) else {
            lines.push(format!("  {:<8} removed", Slot(at).name()));
            continue;
        };
        let serving = watcher::serving(slot);
        let serves = serving.map_or_else(|| "-".to_owned(), |one| format!("{} {}", one.generation, one.sha256.short()));
        let streams = serving.map_or(0, |one| one.by_class.stream);
        lines.push(format!("  {:<8} {serves:<18} {streams:>7}  {}", Slot(at).name(), beside(slot)));
    }
    lines
}

fn beside(slot: &SlotStatus) -> String {
    let serving = watcher::serving(slot).map(|one| one.generation);
    let others = slot.generations.iter().filter(|one| Some(one.generation) != serving);
    let mut parts: Vec<String> =
        others.map(|one| format!("{} {} ({})", one.generation, one.phase.as_str(), one.inflight)).collect();
    parts.extend(slot.reasons.iter().map(|reason| reason.to_string()));
    parts.join("; ")
}

fn in_short(observed: &Observed) -> String {
    let Some(status) = observed.status() else { return String::new() };
    let draining: usize = status.slots.iter().map(|slot| watcher::leaving(slot).count()).sum();
    let inflight: u64 = status.slots.iter().flat_map(watcher::leaving).map(|one| one.inflight).sum();
    if draining == 0 { String::new() } else { format!("  draining {draining} ({inflight} in flight)") }
}
