//! The book that all clients write into: approvals, counts, open streams and the outages that the demo
//! itself made. Pure: time is a parameter.

use std::collections::BTreeMap;

use supervisor_protocol::Tick;

use crate::approvals::{Line, Ticket};
use crate::checks::{Fault, Origin, Verdict};
use crate::scenario::{Build, Slot};
use crate::tally::{Kind, Tally};

/// How long after its first answer a swap still counts as under way for latencies, in milliseconds.
pub const SWAP_TAIL_MS: u64 = 2_000;

/// How long after a successor serves every slot a kill still explains what ends, in milliseconds: whoever
/// was refused before that may notice it only now.
pub const KILL_TAIL_MS: u64 = 1_000;

/// From a kill of the supervisor until its successor serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    pub from: Tick,
    pub to: Option<Tick>,
}

impl Outage {
    /// Whether it can be the cause of what ends now, however long ago that began.
    #[must_use]
    pub fn explains_an_end(&self, now: Tick) -> bool {
        self.from <= now && self.to.is_none_or(|recovered| now.0 <= recovered.0.saturating_add(KILL_TAIL_MS))
    }
}

/// Everything that is known from the clients' side.
#[derive(Debug, Clone)]
pub struct Book {
    pub lines: Vec<Line>,
    pub tally: Tally,
    open: BTreeMap<(Slot, u64), u64>,
    pub outages: Vec<Outage>,
}

impl Book {
    /// An empty book.
    #[must_use]
    pub fn new(first: &[Build], now: Tick) -> Self {
        let lines = first.iter().enumerate().map(|(at, build)| Line::new(Slot(at), *build, now)).collect();
        Self { lines, tally: Tally::new(), open: BTreeMap::new(), outages: Vec::new() }
    }

    /// The history of one slot.
    #[must_use]
    pub fn line(&self, slot: Slot) -> &Line {
        &self.lines[slot.0]
    }

    /// The history of one slot, to change.
    pub fn line_mut(&mut self, slot: Slot) -> &mut Line {
        &mut self.lines[slot.0]
    }

    /// An operation starts.
    pub fn start(&mut self, kind: Kind, slot: Slot, now: Tick) -> Ticket {
        self.tally.start(kind);
        self.line(slot).start(now)
    }

    /// An operation was answered by `origin`.
    pub fn answer(&mut self, ticket: &Ticket, origin: &Origin, now: Tick) -> Result<(), Fault> {
        let line = &mut self.lines[ticket.slot.0];
        if line.answer(ticket, origin, now)? {
            let older = |(slot, generation): &(Slot, u64)| *slot == ticket.slot && *generation != origin.generation;
            line.note_alive(self.open.iter().filter(|(key, _)| older(key)).map(|(_, count)| count).sum());
        }
        Ok(())
    }

    /// An operation ended. Returns whether its slot is gone for good.
    pub fn end(&mut self, kind: Kind, ticket: &Ticket, outcome: &Result<(), Fault>, now: Tick) -> bool {
        match outcome {
            Ok(()) => self.tally.whole(kind),
            Err(fault) if fault.is_not_found() && self.line_mut(ticket.slot).not_found() => self.tally.not_found(kind),
            Err(fault) => {
                let out = self.outages.iter().any(|outage| outage.explains_an_end(now));
                let verdict = if out && fault.may_come_of_a_kill() { Verdict::Killed } else { fault.verdict() };
                self.tally.fault(kind, ticket.slot, fault, verdict, now);
            }
        }
        self.line(ticket.slot).is_gone()
    }

    /// The latency of a short request that ran from `from` to `to`.
    pub fn latency(&mut self, micros: u64, from: Tick, to: Tick) {
        let swapping = |now| self.lines.iter().any(|line| line.is_swapping(now, SWAP_TAIL_MS));
        let during = swapping(from) || swapping(to);
        self.tally.latency(micros, during);
    }

    /// A stream has had its first event.
    pub fn stream_opened(&mut self, slot: Slot, generation: u64) {
        *self.open.entry((slot, generation)).or_default() += 1;
    }

    /// A stream that had its first event has ended.
    pub fn stream_closed(&mut self, slot: Slot, generation: u64) {
        if let Some(count) = self.open.get_mut(&(slot, generation)) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&(slot, generation));
            }
        }
    }

    /// Streams that are open now, over all slots.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.values().sum()
    }

    /// Streams that are open now, by slot and generation.
    #[must_use]
    pub fn open_by_generation(&self) -> &BTreeMap<(Slot, u64), u64> {
        &self.open
    }

    /// The newest document was handed to versiond.
    pub fn served(&mut self, now: Tick) {
        self.lines.iter_mut().for_each(|line| line.served(now));
    }

    /// The demo kills the supervisor.
    pub fn killed(&mut self, now: Tick) {
        self.outages.push(Outage { from: now, to: None });
        self.lines.iter_mut().for_each(Line::forget_order);
    }

    /// Its successor serves every slot.
    pub fn recovered(&mut self, now: Tick) {
        if let Some(outage) = self.outages.last_mut() {
            outage.to.get_or_insert(now);
        }
    }

    /// Whether an outage of our own making lasts.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.outages.last().is_some_and(|outage| outage.to.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(build: &str, generation: u64) -> Origin {
        Origin { build: build.to_owned(), generation, host: None }
    }

    fn cut() -> Result<(), Fault> {
        Err(Fault::BrokenOff { after: "1 event".to_owned(), how: "reset".to_owned() })
    }

    fn not_found() -> Result<(), Fault> {
        Err(Fault::Status { status: 404, detail: String::new() })
    }

    #[test]
    fn streams_open_on_the_old_generation_are_counted_when_the_new_one_first_answers() {
        let mut book = Book::new(&[Build::A, Build::A], Tick(0));
        let ticket = book.start(Kind::Short, Slot(0), Tick(0));
        book.answer(&ticket, &by("a", 1), Tick(1)).unwrap();
        for _ in 0..3 {
            book.stream_opened(Slot(0), 1);
            book.stream_opened(Slot(1), 2);
        }
        book.stream_closed(Slot(0), 1);
        book.line_mut(Slot(0)).approve(Build::B, Tick(2));
        let ticket = book.start(Kind::Short, Slot(0), Tick(3));
        book.answer(&ticket, &by("b", 3), Tick(4)).unwrap();
        assert_eq!(book.line(Slot(0)).swaps()[0].alive, 2);
        assert_eq!(book.open(), 5);
    }

    #[test]
    fn only_what_ends_from_a_kill_until_a_second_after_the_return_is_excused() {
        let mut book = Book::new(&[Build::A], Tick(0));
        let cut_at = |book: &mut Book, ticket: &Ticket, now: u64| {
            let before = book.tally.of(Kind::Stream);
            book.end(Kind::Stream, ticket, &cut(), Tick(now));
            let after = book.tally.of(Kind::Stream);
            (after.cut - before.cut, after.killed - before.killed)
        };
        let early = book.start(Kind::Stream, Slot(0), Tick(0));
        assert_eq!(cut_at(&mut book, &early, 9), (1, 0), "before the kill");
        book.killed(Tick(10));
        assert_eq!(cut_at(&mut book, &early, 10), (0, 1), "at the kill");
        assert_eq!(cut_at(&mut book, &early, 90_000), (0, 1), "while it lasts");
        book.recovered(Tick(90_000));
        book.recovered(Tick(95_000));
        let late = book.start(Kind::Stream, Slot(0), Tick(90_500));
        assert_eq!(cut_at(&mut book, &late, 90_000 + KILL_TAIL_MS), (0, 1), "in the tail");
        assert_eq!(cut_at(&mut book, &late, 90_001 + KILL_TAIL_MS), (1, 0), "after the tail");
        assert_eq!(cut_at(&mut book, &early, 90_001 + KILL_TAIL_MS), (1, 0), "begun before the kill, cut long after");
    }

    #[test]
    fn a_kill_excuses_silence_and_nothing_that_was_answered_wrongly() {
        let text = String::new;
        let status = |status| Fault::Status { status, detail: text() };
        let excused = [
            Fault::Connect(text()),
            Fault::NoAnswer(text()),
            Fault::BrokenOff { after: text(), how: text() },
            status(500),
            status(503),
        ];
        let never = [
            status(404),
            status(429),
            status(600),
            Fault::Malformed(text()),
            Fault::Gap { expected: 1, got: 2 },
            Fault::Count { said: 1, seen: 2, asked: 2 },
            Fault::TwoOrigins(by("a", 1), by("a", 2)),
            Fault::Upload(text()),
            Fault::NotApproved(by("b", 2), text()),
        ];
        let mut book = Book::new(&[Build::A], Tick(0));
        book.killed(Tick(0));
        for (faults, killed) in [(&excused[..], 1), (&never[..], 0)] {
            for fault in faults {
                let ticket = book.start(Kind::Stream, Slot(0), Tick(1));
                let before = book.tally.of(Kind::Stream).killed;
                book.end(Kind::Stream, &ticket, &Err(fault.clone()), Tick(2));
                assert_eq!(book.tally.of(Kind::Stream).killed - before, killed, "{fault}");
            }
        }
        let counts = book.tally.of(Kind::Stream);
        assert_eq!((counts.failed, counts.wrong_binary, counts.ended()), (8, 1, counts.started));
    }

    #[test]
    fn a_404_of_an_approved_name_is_a_failure_and_of_a_removed_one_is_not() {
        let mut book = Book::new(&[Build::A], Tick(0));
        let ticket = book.start(Kind::Short, Slot(0), Tick(0));
        assert!(!book.end(Kind::Short, &ticket, &not_found(), Tick(1)));
        book.line_mut(Slot(0)).remove();
        let ticket = book.start(Kind::Short, Slot(0), Tick(2));
        assert!(book.end(Kind::Short, &ticket, &not_found(), Tick(3)));
        let counts = book.tally.of(Kind::Short);
        assert_eq!((counts.failed, counts.not_found), (1, 1));
    }
}
