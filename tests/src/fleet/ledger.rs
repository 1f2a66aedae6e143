//! What the clients of several hosts counted: which host answered which session, and what broke. Pure.
//!
//! Time is cut at each [`Change`]: a host comes or goes, a router is restarted, a build is rolled. A session moves only
//! from or to a host that a change was about since it asked before, and between two cuts it moves once.

use std::collections::{BTreeMap, BTreeSet};

use supervisor_protocol::Tick;

use crate::checks::{Fault, Origin, Verdict};
use crate::scenario::{Build, Slot};
use crate::tally::{Kind, Tally};

/// Something was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub at: Tick,
    pub what: String,
    pub moves: Moves,
}

/// Which sessions a change may move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moves {
    Nothing,
    /// Those from or to the host that comes or goes.
    Of(String),
    Any,
}

/// What a client holds while it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    kind: Kind,
    pub session: usize,
    started: Tick,
    /// The id of what is executed; absent where nothing is.
    pub execution: Option<u64>,
}

/// A host that was killed: from just before until the kernel had taken all that it held.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Killed {
    host: String,
    from: Tick,
    until: Option<Tick>,
}

/// A build that the catalog approved.
#[derive(Debug, Clone, Copy)]
struct Approved {
    build: Build,
    from: Tick,
    /// Since then every host serves it.
    everywhere: Option<Tick>,
}

/// One answer of a host to a session.
#[derive(Debug, Clone)]
struct Answer {
    started: Tick,
    answered: Tick,
    host: String,
}

/// Everything that was counted.
#[derive(Debug)]
pub struct Ledger {
    pub tally: Tally,
    changes: Vec<Change>,
    killed: Vec<Killed>,
    approved: Vec<Approved>,
    answers: BTreeMap<usize, Vec<Answer>>,
    executions: u64,
    /// The executions of which a client has the whole answer.
    whole: BTreeSet<u64>,
}

/// What came of one change, as the sessions saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Sessions that another host answered than before, because of it.
    pub sessions: u64,
    /// Moves during it that nothing explains.
    pub wrongly: u64,
    /// The longest time in which a session had two owners, in milliseconds: from the first request that its last owner
    /// took to the last one that another took.
    pub two_owners_ms: u64,
}

/// What the hosts executed, beside what the clients have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Executed {
    pub once: u64,
    pub twice: Vec<u64>,
    /// A client has the whole answer, and no host knows of the execution.
    pub unknown: Vec<u64>,
}

impl Ledger {
    /// Nothing counted; this build is the first.
    #[must_use]
    pub fn new(first: Build, now: Tick) -> Self {
        Self {
            tally: Tally::new(),
            changes: vec![Change { at: now, what: "the start".to_owned(), moves: Moves::Nothing }],
            killed: Vec::new(),
            approved: vec![Approved { build: first, from: now, everywhere: Some(now) }],
            answers: BTreeMap::new(),
            executions: 0,
            whole: BTreeSet::new(),
        }
    }

    /// A client asks.
    pub fn begin(&mut self, kind: Kind, session: usize, executes: bool, now: Tick) -> Ticket {
        self.tally.start(kind);
        self.executions += u64::from(executes);
        Ticket { kind, session, started: now, execution: executes.then_some(self.executions) }
    }

    /// A host answers: the first that is seen of the answer.
    pub fn answered(&mut self, ticket: &Ticket, origin: &Origin, now: Tick) -> Result<(), Fault> {
        let not_approved = |why: &str| Err(Fault::NotApproved(origin.clone(), why.to_owned()));
        let Some(host) = &origin.host else { return not_approved("it does not say on which host") };
        let Some(at) = self.approved.iter().rposition(|one| one.build.tag() == origin.build && one.from <= now) else {
            return not_approved("nobody has approved it");
        };
        let later = &self.approved[at + 1..];
        if later.iter().any(|one| one.everywhere.is_some_and(|since| since <= ticket.started)) {
            return not_approved("every host had its successor");
        }
        let answer = Answer { started: ticket.started, answered: now, host: host.clone() };
        self.answers.entry(ticket.session).or_default().push(answer);
        Ok(())
    }

    /// It is over. `host`: who answered, if anybody did.
    pub fn end(&mut self, ticket: &Ticket, host: Option<&str>, outcome: &Result<(), Fault>, now: Tick) {
        match outcome {
            Ok(()) => {
                self.tally.whole(ticket.kind);
                self.whole.extend(ticket.execution);
            }
            Err(fault) => {
                let killed = self.killed.iter().any(|killed| killed.explains(ticket, host, fault));
                let verdict = if killed { Verdict::Killed } else { fault.verdict() };
                self.tally.fault(ticket.kind, Slot(0), fault, verdict, now);
            }
        }
    }

    /// Something is changed now.
    pub fn change(&mut self, what: impl Into<String>, moves: Moves, now: Tick) {
        self.changes.push(Change { at: now, what: what.into(), moves });
    }

    /// A host is killed now.
    pub fn killed(&mut self, host: &str, now: Tick) {
        self.killed.push(Killed { host: host.to_owned(), from: now, until: None });
    }

    /// The kernel has taken what the killed one held.
    pub fn dead(&mut self, now: Tick) {
        if let Some(killed) = self.killed.last_mut() {
            killed.until.get_or_insert(now);
        }
    }

    /// The catalog approves this build now.
    pub fn approve(&mut self, build: Build, now: Tick) {
        self.approved.push(Approved { build, from: now, everywhere: None });
    }

    /// Every host serves what was approved last.
    pub fn everywhere(&mut self, now: Tick) {
        if let Some(last) = self.approved.last_mut() {
            last.everywhere.get_or_insert(now);
        }
    }

    /// Sessions that have been answered at all.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.answers.len()
    }

    /// The changes, each with what it moved.
    #[must_use]
    pub fn moved(&self) -> Vec<(&Change, Moved)> {
        let mut moved = vec![Moved::default(); self.changes.len()];
        for answers in self.answers.values() {
            let mut answers: Vec<&Answer> = answers.iter().collect();
            answers.sort_by_key(|answer| answer.started);
            let mut causes = BTreeSet::new();
            for pair in answers.windows(2).filter(|pair| pair[0].host != pair[1].host) {
                match self.cause(pair[0], pair[1]) {
                    Ok(change) => causes.extend([change]),
                    Err(change) => moved[change].wrongly += 1,
                }
            }
            causes.into_iter().for_each(|change| moved[change].sessions += 1);
            for (at, moved) in moved.iter_mut().enumerate() {
                let within = answers.iter().copied().filter(|one| self.during(one.started) == at);
                moved.two_owners_ms = moved.two_owners_ms.max(two_owners(within, self.end_of(at)));
            }
        }
        self.changes.iter().zip(moved).collect()
    }

    /// The last change that explains a move between these two answers; else the one during which it was.
    fn cause(&self, before: &Answer, after: &Answer) -> Result<usize, usize> {
        let (first, last) = (self.during(before.started), self.during(after.answered));
        let explains = |at: &usize| match &self.changes[*at].moves {
            Moves::Nothing => false,
            Moves::Of(host) => [before, after].iter().any(|answer| answer.host == *host),
            Moves::Any => true,
        };
        (first..=last).rev().find(explains).ok_or(last)
    }

    /// The change that was made last at this time.
    fn during(&self, now: Tick) -> usize {
        self.changes.partition_point(|change| change.at <= now).saturating_sub(1)
    }

    fn end_of(&self, change: usize) -> Tick {
        self.changes.get(change + 1).map_or(Tick(u64::MAX), |next| next.at)
    }

    /// Compares what the clients have with the ids that the hosts have noted.
    #[must_use]
    pub fn executed(&self, noted: impl IntoIterator<Item = u64>) -> Executed {
        let mut times: BTreeMap<u64, u64> = BTreeMap::new();
        for id in noted {
            *times.entry(id).or_default() += 1;
        }
        let twice = times.iter().filter(|(_, times)| **times > 1).map(|(id, _)| *id).collect();
        let unknown = self.whole.iter().filter(|id| !times.contains_key(id)).copied().collect();
        Executed { once: times.values().filter(|times| **times == 1).count() as u64, twice, unknown }
    }
}

/// From the first request that the last owner took to the last one that another took, in milliseconds. What is answered
/// behind the next change may be of its owner, who is none of these.
fn two_owners<'a>(answers: impl Iterator<Item = &'a Answer>, end: Tick) -> u64 {
    let answers: Vec<&Answer> = answers.collect();
    let Some(last) = answers.iter().rfind(|answer| answer.answered < end) else { return 0 };
    let first_of_last = answers.iter().find(|answer| answer.host == last.host);
    let last_of_others = answers.iter().rfind(|answer| answer.host != last.host && answer.started <= last.started);
    first_of_last.zip(last_of_others).map_or(0, |(first, other)| other.started.0.saturating_sub(first.started.0))
}

impl Killed {
    /// Whether the end of what was asked can come of this: it had begun before the host was gone, was on that host as
    /// far as is known, and broke off or was told in the words for that.
    fn explains(&self, ticket: &Ticket, host: Option<&str>, fault: &Fault) -> bool {
        let in_time = self.until.is_none_or(|until| ticket.started <= until);
        let there = host.is_none_or(|host| host == self.host);
        let told = match fault {
            Fault::BrokenOff { .. } | Fault::NoAnswer(_) => true,
            Fault::Status { status, detail } => *status == 502 && detail.contains("child_broke"),
            Fault::Connect(_)
            | Fault::Malformed(_)
            | Fault::Gap { .. }
            | Fault::Count { .. }
            | Fault::TwoOrigins(..)
            | Fault::Upload(_)
            | Fault::NotApproved(..) => false,
        };
        in_time && there && told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(host: &str) -> Origin {
        Origin { build: "a".to_owned(), generation: 1, host: Some(host.to_owned()) }
    }

    fn ledger() -> Ledger {
        Ledger::new(Build::A, Tick(0))
    }

    /// A session is answered by this host.
    fn asks(ledger: &mut Ledger, session: usize, host: &str, (from, to): (u64, u64)) {
        let ticket = ledger.begin(Kind::Short, session, false, Tick(from));
        ledger.answered(&ticket, &on(host), Tick(to)).unwrap();
        ledger.end(&ticket, Some(host), &Ok(()), Tick(to));
    }

    fn cut() -> Result<(), Fault> {
        Err(Fault::BrokenOff { after: "1 event".to_owned(), how: "reset".to_owned() })
    }

    #[test]
    fn f49_two_owners_at_once_are_measured_and_one_move_is_none() {
        let mut ledger = ledger();
        asks(&mut ledger, 1, "x", (1, 2));
        asks(&mut ledger, 2, "x", (1, 2));
        ledger.change("x is cordoned", Moves::Of("x".to_owned()), Tick(10));
        for (session, host, at) in [(1, "x", 11), (1, "y", 20), (1, "x", 45), (1, "y", 50), (2, "x", 11), (2, "y", 30)]
        {
            asks(&mut ledger, session, host, (at, at + 1));
        }
        let moved = ledger.moved()[1].1;
        assert_eq!(moved, Moved { sessions: 2, wrongly: 0, two_owners_ms: 25 });
    }

    #[test]
    fn p8_a_move_between_hosts_that_did_not_change_is_wrong() {
        for (moves, wrongly) in [(Moves::Nothing, 1), (Moves::Of("x".to_owned()), 1), (Moves::Any, 0)] {
            let mut ledger = ledger();
            asks(&mut ledger, 1, "y", (1, 2));
            ledger.change("x comes", moves, Tick(10));
            asks(&mut ledger, 1, "z", (11, 12));
            assert_eq!(ledger.moved()[1].1, Moved { sessions: 1 - wrongly, wrongly, two_owners_ms: 0 });
        }
    }

    #[test]
    fn a_session_that_asks_rarely_may_have_moved_for_an_earlier_change() {
        let moved = |first: (u64, u64), second: (u64, u64)| {
            let mut ledger = ledger();
            asks(&mut ledger, 1, "x", first);
            ledger.change("x is killed", Moves::Of("x".to_owned()), Tick(10));
            ledger.change("a router is restarted", Moves::Nothing, Tick(20));
            asks(&mut ledger, 1, "y", second);
            ledger.moved().into_iter().map(|(_, moved)| (moved.sessions, moved.wrongly)).collect::<Vec<_>>()
        };
        assert_eq!(moved((1, 2), (21, 22)), [(0, 0), (1, 0), (0, 0)]);
        // Asked while nothing had happened yet to whoever answered, and still moved.
        assert_eq!(moved((21, 22), (23, 24)), [(0, 0), (0, 0), (0, 1)]);
    }

    #[test]
    fn an_owner_that_answers_late_is_one_of_two() {
        let mut ledger = ledger();
        asks(&mut ledger, 1, "x", (1, 2));
        ledger.change("x falls silent", Moves::Of("x".to_owned()), Tick(10));
        asks(&mut ledger, 1, "y", (20, 21));
        asks(&mut ledger, 1, "x", (25, 90));
        asks(&mut ledger, 1, "y", (30, 31));
        ledger.change("x answers again", Moves::Of("x".to_owned()), Tick(80));
        asks(&mut ledger, 1, "x", (81, 82));
        let two_owners: Vec<u64> = ledger.moved().iter().map(|(_, moved)| moved.two_owners_ms).collect();
        assert_eq!(two_owners, [0, 5, 0]);
    }

    #[test]
    fn f53_a_kill_explains_what_broke_there_and_nothing_else() {
        let ended = |started: u64, host: Option<&str>, outcome: Result<(), Fault>| {
            let mut ledger = ledger();
            ledger.killed("x", Tick(10));
            ledger.dead(Tick(12));
            let ticket = ledger.begin(Kind::Stream, 1, false, Tick(started));
            ledger.end(&ticket, host, &outcome, Tick(20));
            ledger.tally.of(Kind::Stream).killed == 1
        };
        let status = |status, code: &str| Err(Fault::Status { status, detail: code.to_owned() });
        assert!(ended(5, Some("x"), cut()));
        assert!(ended(12, None, cut()));
        assert!(ended(5, None, status(502, "child_broke")));
        assert!(!ended(5, Some("y"), cut()), "on another host");
        assert!(!ended(13, Some("x"), cut()), "begun when it was gone");
        assert!(!ended(5, None, status(503, "no_host")), "a refusal that nobody had to give");
        assert!(!ended(5, None, Err(Fault::Connect("refused".to_owned()))), "the routers did not die");
    }

    #[test]
    fn a_build_may_answer_from_its_approval_until_its_successor_is_everywhere() {
        let mut ledger = ledger();
        let answers = |ledger: &mut Ledger, build: &str, from: u64, to: u64| {
            let ticket = ledger.begin(Kind::Short, 1, false, Tick(from));
            ledger.answered(&ticket, &Origin { build: build.to_owned(), ..on("x") }, Tick(to)).is_ok()
        };
        assert!(!answers(&mut ledger, "b", 1, 2), "before it is approved");
        ledger.approve(Build::B, Tick(10));
        assert!(answers(&mut ledger, "a", 11, 12) && answers(&mut ledger, "b", 11, 12));
        ledger.everywhere(Tick(20));
        assert!(answers(&mut ledger, "a", 19, 30), "it was asked before");
        assert!(!answers(&mut ledger, "a", 20, 30) && answers(&mut ledger, "b", 20, 30));
        let nowhere = ledger.begin(Kind::Short, 1, false, Tick(21));
        assert!(ledger.answered(&nowhere, &Origin { host: None, ..on("x") }, Tick(22)).is_err());
    }

    #[test]
    fn f52_an_execution_that_two_hosts_have_noted_was_executed_twice() {
        let mut ledger = ledger();
        let tickets = [(); 3].map(|()| ledger.begin(Kind::Short, 1, true, Tick(1)));
        ledger.end(&tickets[0], Some("x"), &Ok(()), Tick(2));
        ledger.end(&tickets[1], Some("x"), &Ok(()), Tick(2));
        assert_eq!(ledger.executed([1, 3, 3]), Executed { once: 1, twice: vec![3], unknown: vec![2] });
        assert_eq!(ledger.executed([1, 2]), Executed { once: 2, twice: vec![], unknown: vec![] });
        assert_eq!(ledger.begin(Kind::Short, 1, false, Tick(3)).execution, None);
    }
}
