//! Which build may answer a request, as the clients can know it: what the catalog approved, in order, and
//! what they have already seen. Pure.
//!
//! The rule: an operation that *starts* after the first answer of a new build was seen may not be answered
//! by an older one; and nothing but what has been approved may answer at all.

use std::collections::BTreeMap;

use supervisor_protocol::Tick;

use crate::checks::{Fault, Origin};
use crate::scenario::{Build, Slot};

/// One approval of a build for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    pub build: Build,
    /// When the catalog document that names it was put out.
    pub approved: Tick,
    /// When that document was first handed to versiond.
    pub served: Option<Tick>,
    /// When the first client was answered by it.
    pub first_answer: Option<Tick>,
    /// Streams that clients had open on older generations at that moment.
    pub alive: u64,
}

/// Whether the name is still in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Approved,
    /// It has left the catalog; both answers are right until the first client is told so.
    Leaving,
    Gone,
}

/// What a client knows when an operation starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub slot: Slot,
    pub started: Tick,
    floor: usize,
    gone: bool,
}

/// The history of one slot.
#[derive(Debug, Clone)]
pub struct Line {
    slot: Slot,
    epochs: Vec<Epoch>,
    /// The oldest epoch that may answer what starts now.
    floor: usize,
    presence: Presence,
    /// The epoch to which each generation belongs.
    generations: BTreeMap<u64, usize>,
}

impl Line {
    /// A slot whose first approved build is this.
    #[must_use]
    pub fn new(slot: Slot, build: Build, now: Tick) -> Self {
        let first = Epoch { build, approved: now, served: None, first_answer: None, alive: 0 };
        Self { slot, epochs: vec![first], floor: 0, presence: Presence::Approved, generations: BTreeMap::new() }
    }

    /// The catalog names another build from now on.
    pub fn approve(&mut self, build: Build, now: Tick) {
        self.epochs.push(Epoch { build, approved: now, served: None, first_answer: None, alive: 0 });
    }

    /// The name leaves the catalog.
    pub fn remove(&mut self) {
        self.presence = Presence::Leaving;
    }

    /// The newest document was handed out.
    pub fn served(&mut self, now: Tick) {
        if let Some(epoch) = self.epochs.last_mut() {
            epoch.served.get_or_insert(now);
        }
    }

    /// An operation starts.
    #[must_use]
    pub fn start(&self, now: Tick) -> Ticket {
        Ticket { slot: self.slot, started: now, floor: self.floor, gone: self.presence == Presence::Gone }
    }

    /// Judges who answered. `Ok(true)`: it is the first answer of a newly approved build.
    pub fn answer(&mut self, ticket: &Ticket, origin: &Origin, now: Tick) -> Result<bool, Fault> {
        let refuse = |why: String| Err(Fault::NotApproved(origin.clone(), why));
        if ticket.gone {
            return refuse("the name was removed, and clients had been told so".to_owned());
        }
        let known = self.generations.get(&origin.generation).copied();
        let newest = || self.epochs.iter().rposition(|epoch| epoch.build.tag() == origin.build);
        let Some(epoch) = known.or_else(newest) else {
            return refuse(format!("approved were {}", self.approved_tags(0)));
        };
        if self.epochs[epoch].build.tag() != origin.build || epoch < ticket.floor {
            return refuse(format!("approved is {}", self.approved_tags(ticket.floor)));
        }
        self.generations.insert(origin.generation, epoch);
        self.floor = self.floor.max(epoch);
        let first = self.epochs[epoch].first_answer.is_none();
        self.epochs[epoch].first_answer.get_or_insert(now);
        Ok(first && epoch > 0)
    }

    /// A client was told that there is no such name. Whether that may be.
    pub fn not_found(&mut self) -> bool {
        match self.presence {
            Presence::Approved => false,
            Presence::Leaving | Presence::Gone => {
                self.presence = Presence::Gone;
                true
            }
        }
    }

    /// Notes how many streams were open on older generations when the newest build first answered.
    pub fn note_alive(&mut self, alive: u64) {
        let floor = self.floor;
        self.epochs[floor].alive = alive;
    }

    /// The supervisor was killed: after its return the state before an unfinished change is as good as the
    /// one after it, so the predecessor may answer again until the newest is seen once more.
    pub fn forget_order(&mut self) {
        self.floor = self.floor.saturating_sub(1);
    }

    /// Whether the newest approved build has answered.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.epochs.last().is_some_and(|epoch| epoch.first_answer.is_some())
    }

    /// Whether clients have been told that the name is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.presence == Presence::Gone
    }

    /// Whether the name is still in the catalog.
    #[must_use]
    pub fn is_approved(&self) -> bool {
        self.presence == Presence::Approved
    }

    /// Whether a change of the build is under way, or was within `after` milliseconds of `now`.
    #[must_use]
    pub fn is_swapping(&self, now: Tick, after: u64) -> bool {
        let Some(last) = self.epochs.last().filter(|_| self.epochs.len() > 1) else { return false };
        last.first_answer.is_none_or(|answered| now.0 < answered.0 + after)
    }

    /// Every approval after the first: the swaps.
    #[must_use]
    pub fn swaps(&self) -> &[Epoch] {
        &self.epochs[1..]
    }

    fn approved_tags(&self, floor: usize) -> String {
        let tags: Vec<&str> = self.epochs[floor..].iter().map(|epoch| epoch.build.tag()).collect();
        tags.join(" or ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(build: &str, generation: u64) -> Origin {
        Origin { build: build.to_owned(), generation, host: None }
    }

    fn line() -> Line {
        Line::new(Slot(0), Build::A, Tick(0))
    }

    #[test]
    fn old_or_new_may_answer_while_a_swap_is_under_way_and_only_the_new_afterwards() {
        let mut line = line();
        let early = line.start(Tick(1));
        assert_eq!(line.answer(&early, &by("a", 1), Tick(2)), Ok(false));
        line.approve(Build::B, Tick(10));
        let during = line.start(Tick(11));
        assert_eq!(line.answer(&during, &by("a", 1), Tick(12)), Ok(false));
        assert!(!line.is_current());
        assert_eq!(line.answer(&during, &by("b", 2), Tick(13)), Ok(true));
        assert!(line.is_current());
        assert_eq!(line.answer(&during, &by("a", 1), Tick(14)), Ok(false), "it started before the new one was seen");
        let after = line.start(Tick(15));
        assert!(matches!(line.answer(&after, &by("a", 1), Tick(16)), Err(Fault::NotApproved(..))));
        assert_eq!(line.answer(&after, &by("b", 2), Tick(16)), Ok(false));
    }

    #[test]
    fn a_build_that_was_never_approved_is_found() {
        let mut line = line();
        let ticket = line.start(Tick(1));
        assert!(matches!(line.answer(&ticket, &by("b", 2), Tick(2)), Err(Fault::NotApproved(..))));
        assert!(matches!(line.answer(&ticket, &by("stuck", 2), Tick(2)), Err(Fault::NotApproved(..))));
    }

    #[test]
    fn an_old_generation_of_the_same_build_is_not_taken_for_the_new_one() {
        let mut line = line();
        let ticket = line.start(Tick(1));
        line.answer(&ticket, &by("a", 1), Tick(2)).unwrap();
        line.approve(Build::B, Tick(3));
        line.answer(&ticket, &by("b", 2), Tick(4)).unwrap();
        line.approve(Build::A, Tick(5));
        let ticket = line.start(Tick(6));
        assert!(line.answer(&ticket, &by("a", 1), Tick(7)).is_err(), "g1 is retired, whatever its build");
        assert_eq!(line.answer(&ticket, &by("a", 3), Tick(8)), Ok(true));
    }

    #[test]
    fn a_removed_name_may_say_404_only_once_it_is_removed_and_not_answer_again() {
        let mut line = line();
        assert!(!line.not_found());
        line.remove();
        let during = line.start(Tick(1));
        assert_eq!(line.answer(&during, &by("a", 1), Tick(2)), Ok(false));
        assert!(line.not_found());
        let after = line.start(Tick(3));
        assert!(line.answer(&after, &by("a", 1), Tick(4)).is_err());
        assert_eq!(line.answer(&during, &by("a", 1), Tick(4)), Ok(false));
    }

    #[test]
    fn after_a_kill_the_predecessor_may_answer_until_the_newest_is_seen_again() {
        let mut line = line();
        line.approve(Build::B, Tick(1));
        let ticket = line.start(Tick(1));
        line.answer(&ticket, &by("b", 2), Tick(2)).unwrap();
        line.forget_order();
        let ticket = line.start(Tick(3));
        assert_eq!(line.answer(&ticket, &by("a", 3), Tick(4)), Ok(false));
        assert_eq!(line.answer(&ticket, &by("b", 4), Tick(5)), Ok(false));
        let ticket = line.start(Tick(6));
        assert!(line.answer(&ticket, &by("a", 3), Tick(7)).is_err());
    }

    #[test]
    fn a_swap_lasts_from_its_approval_until_a_while_after_the_first_answer() {
        let mut line = line();
        assert!(!line.is_swapping(Tick(5), 2_000));
        line.approve(Build::B, Tick(10));
        assert!(line.is_swapping(Tick(9_000), 2_000));
        let ticket = line.start(Tick(9_000));
        line.answer(&ticket, &by("b", 2), Tick(9_000)).unwrap();
        assert!(line.is_swapping(Tick(10_999), 2_000));
        assert!(!line.is_swapping(Tick(11_000), 2_000));
    }
}
