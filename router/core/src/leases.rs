//! The book of leases of one target: which work it has admitted, of which class, since when, and when
//! it is expected to be empty.
//!
//! A lease begins at admission and ends exactly once. Lives here: counting and forecasting. Must not
//! live here: waking whoever waits for the end (the data plane does), or deadlines (the supervisor's).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use supervisor_protocol::{ByClass, StreamClass, Tick, time::millis};

/// How many recent durations of a class are remembered.
pub const REMEMBERED: usize = 1_000;
/// How many durations a class needs before its forecast rests on them.
pub const ENOUGH: usize = 20;
/// What a forecast says at least for a lease that has outlived the 95th percentile.
pub const LEAST_FORECAST: Duration = Duration::from_secs(1);

/// The class deadlines of the contract, which stand in for a forecast until enough is known.
pub const CLASS_DEADLINES: ByClass<Duration> = ByClass {
    request: Duration::from_secs(2 * 60),
    stream: Duration::from_secs(15 * 60),
    upgrade: Duration::from_secs(15 * 60),
    job: Duration::from_secs(10 * 60),
};

/// One admitted piece of work, numbered within its target in the order of admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(u64);

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// To the last byte of the response, or to the agreed close of an upgraded connection.
    Finished,
    /// The client hung up first.
    ClientGone,
    /// The child ended the exchange early.
    UpstreamBroke,
    /// Ended by the supervisor at a deadline.
    Cut,
}

/// Everything that has ended, by class and by how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    pub finished: ByClass<u64>,
    pub client_gone: ByClass<u64>,
    pub upstream_broke: ByClass<u64>,
    pub cut: ByClass<u64>,
}

impl Ended {
    /// The counts of one way to end.
    #[must_use]
    pub const fn of(&self, how: How) -> &ByClass<u64> {
        match how {
            How::Finished => &self.finished,
            How::ClientGone => &self.client_gone,
            How::UpstreamBroke => &self.upstream_broke,
            How::Cut => &self.cut,
        }
    }

    /// The sum over every way to end.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.finished.total() + self.client_gone.total() + self.upstream_broke.total() + self.cut.total()
    }

    fn count(&mut self, class: StreamClass, how: How) {
        let counts = match how {
            How::Finished => &mut self.finished,
            How::ClientGone => &mut self.client_gone,
            How::UpstreamBroke => &mut self.upstream_broke,
            How::Cut => &mut self.cut,
        };
        *counts.get_mut(class) += 1;
    }
}

/// Recent durations per class, in milliseconds. Shared by the generations of a slot, so that a new
/// one does not start without a forecast.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History(ByClass<VecDeque<u64>>);

impl History {
    /// Remembers one duration, forgetting the oldest beyond [`REMEMBERED`].
    pub fn record(&mut self, class: StreamClass, duration: Duration) {
        let durations = self.0.get_mut(class);
        if durations.len() == REMEMBERED {
            durations.pop_front();
        }
        durations.push_back(millis(duration));
    }

    /// The 95th percentile of a class (nearest rank), once [`ENOUGH`] durations are known.
    #[must_use]
    pub fn p95(&self, class: StreamClass) -> Option<Duration> {
        let durations = self.0.get(class);
        if durations.len() < ENOUGH {
            return None;
        }
        let mut sorted: Vec<u64> = durations.iter().copied().collect();
        let rank = (sorted.len() * 95).div_ceil(100) - 1;
        let (_, value, _) = sorted.select_nth_unstable(rank);
        Some(Duration::from_millis(*value))
    }
}

/// When work of these ages is expected to be done, as time from now: per class the 95th percentile (or
/// its deadline while too little is known) minus the age, at least [`LEAST_FORECAST`]; the maximum over
/// all. Zero when there is no work.
#[must_use]
pub fn forecast(
    ages: impl IntoIterator<Item = (StreamClass, Duration)>,
    history: &History,
    deadlines: &ByClass<Duration>,
) -> Duration {
    let mut expected = ByClass::<Option<Duration>>::default();
    let mut longest = Duration::ZERO;
    for (class, age) in ages {
        let whole = *expected.get_mut(class).get_or_insert_with(|| history.p95(class).unwrap_or(*deadlines.get(class)));
        longest = longest.max(whole.saturating_sub(age).max(LEAST_FORECAST));
    }
    longest
}

/// The leases of one target. `P` is what the shell attaches to each of them.
#[derive(Debug)]
pub struct LeaseBook<P = ()> {
    next: u64,
    live: BTreeMap<LeaseId, Live<P>>,
    counts: ByClass<u64>,
    admitted: u64,
    ended: Ended,
    history: History,
    state: State,
}

#[derive(Debug)]
struct Live<P> {
    class: StreamClass,
    since: Tick,
    attached: P,
}

#[derive(Debug)]
enum State {
    Admitting,
    Retired { longest: Duration },
}

impl<P> Default for LeaseBook<P> {
    fn default() -> Self {
        Self::new(History::default())
    }
}

impl<P> LeaseBook<P> {
    /// An empty book that forecasts from `history`.
    #[must_use]
    pub fn new(history: History) -> Self {
        Self {
            next: 0,
            live: BTreeMap::new(),
            counts: ByClass::default(),
            admitted: 0,
            ended: Ended::default(),
            history,
            state: State::Admitting,
        }
    }

    /// Admits one piece of work; gives `attached` back when the target is retired.
    pub fn admit(&mut self, class: StreamClass, now: Tick, attached: P) -> Result<LeaseId, P> {
        match self.state {
            State::Retired { .. } => Err(attached),
            State::Admitting => {
                let id = LeaseId(self.next);
                self.next += 1;
                self.admitted += 1;
                *self.counts.get_mut(class) += 1;
                self.live.insert(id, Live { class, since: now, attached });
                Ok(id)
            }
        }
    }

    /// Changes the class of a live lease. False when it has ended.
    pub fn reclass(&mut self, id: LeaseId, class: StreamClass) -> bool {
        let Some(lease) = self.live.get_mut(&id) else { return false };
        *self.counts.get_mut(lease.class) -= 1;
        *self.counts.get_mut(class) += 1;
        lease.class = class;
        true
    }

    /// Ends a lease and gives back what was attached. `None` when it has ended before: the first end
    /// counts.
    pub fn finish(&mut self, id: LeaseId, now: Tick, how: How) -> Option<P> {
        let lease = self.live.remove(&id)?;
        *self.counts.get_mut(lease.class) -= 1;
        self.ended.count(lease.class, how);
        let duration = now.since(lease.since);
        if let State::Retired { longest } = &mut self.state {
            *longest = duration.max(*longest);
        }
        match how {
            How::Finished | How::ClientGone => self.history.record(lease.class, duration),
            // Cut short, it says nothing about how long such work takes.
            How::UpstreamBroke | How::Cut => {}
        }
        Some(lease.attached)
    }

    /// Ends every lease of a class as [`How::Cut`] and gives back what was attached to each.
    pub fn cut(&mut self, class: StreamClass, now: Tick) -> Vec<P> {
        let ids: Vec<LeaseId> = self.live.iter().filter(|(_, lease)| lease.class == class).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.finish(id, now, How::Cut)).collect()
    }

    /// Nothing is admitted from now on, until [`LeaseBook::restore`]. What is live goes on.
    pub fn retire(&mut self) {
        match self.state {
            State::Admitting => self.state = State::Retired { longest: Duration::ZERO },
            State::Retired { .. } => {}
        }
    }

    /// Takes [`LeaseBook::retire`] back. What is live goes on, as it did all the time.
    pub fn restore(&mut self) {
        self.state = State::Admitting;
    }

    /// Whether the target admits nothing now.
    #[must_use]
    pub const fn is_retired(&self) -> bool {
        match self.state {
            State::Admitting => false,
            State::Retired { .. } => true,
        }
    }

    /// Whether nothing is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Live leases by class.
    #[must_use]
    pub const fn counts(&self) -> &ByClass<u64> {
        &self.counts
    }

    /// The age of the oldest live lease; zero when there is none.
    #[must_use]
    pub fn oldest(&self, now: Tick) -> Duration {
        self.live.values().map(|lease| now.since(lease.since)).max().unwrap_or_default()
    }

    /// How many have ever been admitted.
    #[must_use]
    pub const fn admitted(&self) -> u64 {
        self.admitted
    }

    /// What has ended, and how.
    #[must_use]
    pub const fn ended(&self) -> &Ended {
        &self.ended
    }

    /// The longest life among the leases that ended since the last [`LeaseBook::retire`].
    #[must_use]
    pub const fn longest_since_retired(&self) -> Option<Duration> {
        match self.state {
            State::Admitting => None,
            State::Retired { longest } => Some(longest),
        }
    }

    /// The durations seen so far.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Takes over the durations of a predecessor, unless this book has some of its own.
    pub fn inherit(&mut self, history: &History) {
        if self.history == History::default() {
            self.history = history.clone();
        }
    }

    /// When this target is expected to be empty, as time from now. See [`forecast`].
    #[must_use]
    pub fn forecast(&self, now: Tick, deadlines: &ByClass<Duration>) -> Duration {
        let ages = self.live.values().map(|lease| (lease.class, now.since(lease.since)));
        forecast(ages, &self.history, deadlines)
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
