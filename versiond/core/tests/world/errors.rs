//! Errors in answers: what is truly answered, and the reference for what follows. A build that makes more of them
//! than its predecessor must be taken back once that is well beside it, and no other may be.
//!
//! Kept as whole histories and compared range by range, so that nothing of the machine's windows is repeated here:
//! what must follow is asked for by the worst that the predecessor ever was, what may by the best.

use supervisor_protocol::{Generation, Tick};
use versiond_core::errors::{Answers, ErrorRule};
use versiond_core::generation::Live;
use versiond_core::memory::{Memory, RollbackCause};
use versiond_core::slot::{Input, Slot, Want};

use crate::world::story::{ACTIVATED, artifact};
use crate::world::truth::Truth;
use crate::world::{Event, World};

/// How often answers are counted, in milliseconds.
const EVERY: u64 = 1_000;

/// What clients ask, and what a build is held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Traffic {
    pub(crate) rule: ErrorRule,
    pub(crate) per_second: u64,
}

/// What one generation has answered.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    total: Answers,
    /// Thousandths of an error that are not a whole one yet.
    rest: u64,
    /// What the machine was told, and when.
    told: Vec<(Tick, Answers)>,
}

/// What is known of answers beside those of each generation.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    traffic: Option<Traffic>,
    /// When one that served before and could again was last known not to be well.
    unwell: Option<Tick>,
    /// The same, or it had only just become well again.
    unsound: Option<Tick>,
    /// The way back of which enough was told while it was that.
    usual: Option<usize>,
    /// Since when what serves makes too many, whatever the predecessor's rate is taken to be.
    risen: Option<(Generation, Tick)>,
}

/// One that has served and could again, as the machine knows it.
#[derive(Debug)]
struct Kept {
    number: Generation,
    is_well: bool,
    answered: Tick,
}

impl Errors {
    pub(crate) fn under(traffic: Option<Traffic>) -> Errors {
        Errors { traffic, ..Errors::default() }
    }
}

impl World {
    /// A second of answers by whatever serves, and the counts of all that have served.
    pub(super) fn traffic(&mut self) {
        let Some(Traffic { per_second, .. }) = self.truth.errors.traffic else { return };
        if let Some(target) = self.truth.target {
            let sick = self.is_sick(target);
            let permille = if sick { 1_000 } else { self.truth.builds[self.truth.lives[&target].build].errors };
            self.life(target).answered.answer(per_second, permille);
        }
        let counted: Vec<Generation> = self.slot.wants_answers().collect();
        for number in counted {
            self.deliver(Input::Answers(number, self.truth.lives[&number].answered.total));
        }
        if self.truth.now < self.traffic_until {
            self.schedule(EVERY, Event::Traffic);
        }
    }

    /// After an input, before its steps are carried out. `before` is what the slot remembered until then.
    pub(super) fn check_errors(&mut self, before: &Memory) {
        let way = self.truth.way(before);
        self.truth.look_at_kept(&self.slot, way);
        let after = &self.slot.memory().rolled_back;
        let taken_back = after.as_ref().filter(|after| before.rolled_back.as_ref() != Some(after));
        match taken_back.filter(|taken_back| taken_back.cause == RollbackCause::Errors) {
            Some(taken_back) => {
                let build = (0..self.truth.builds.len()).find(|build| artifact(*build).sha256 == taken_back.sha256);
                self.truth.may_be_taken_back(build.expect("a build"), way);
                self.truth.errors.risen = None;
            }
            None => self.truth.must_not_stay(&self.slot, before, way),
        }
    }
}

impl Truth {
    fn way(&self, memory: &Memory) -> Option<usize> {
        let way = memory.baked.as_ref()?;
        (0..self.builds.len()).find(|build| artifact(*build).is_same(&way.artifact))
    }

    /// The generations of this build that have served and could again, as the machine knows them to be there.
    fn kept(&self, slot: &Slot, way: usize) -> Vec<Kept> {
        let kept = slot.generations().filter(|one| one.can_return() && self.lives[&one.number].build == way);
        let health = |one: &versiond_core::generation::Gen| {
            let health = one.health()?;
            let is_well = health.live == Live::Ready { misses: 0 };
            Some(Kept { number: one.number, is_well, answered: health.answered })
        };
        kept.filter_map(health).collect()
    }

    /// Notes what an answer to `Input::Answers` rests on.
    pub(crate) fn told_answers(&mut self, number: Generation, answers: Answers, memory: &Memory) {
        let (now, bake, way) = (self.now, self.timings.bake, self.way(memory));
        let Some(rule) = self.errors.traffic.map(|traffic| traffic.rule) else { return };
        let life = self.lives.get_mut(&number).expect("only what began is counted");
        life.answered.told.push((now, answers));
        // What it answered while its own predecessor was not well says nothing of what it usually does.
        let sound = self.errors.unsound.filter(|unsound| *unsound >= life.since);
        let counts = |at: &Tick| sound.is_none_or(|unsound| *at > unsound);
        // All of one window is told of, whenever that began.
        let mut told = life.answered.told.iter().filter(|(at, _)| counts(at));
        let recent = told.find(|(at, _)| at.after(bake) >= now).map(|(_, begun)| *begun);
        let enough = recent.is_some_and(|begun| tells(rule, between(begun, answers)));
        if Some(life.build) == way && enough {
            self.errors.usual = way;
        }
    }

    fn look_at_kept(&mut self, slot: &Slot, way: Option<usize>) {
        let Some(way) = way else { return };
        if self.errors.usual != Some(way) {
            self.errors.usual = None;
        }
        let unwell = |number: &Generation| self.lives[number].misses > 0;
        if self.kept(slot, way).iter().any(|kept| unwell(&kept.number)) {
            self.errors.unwell = Some(self.now);
        }
        if self.kept(slot, way).iter().any(|kept| !kept.is_well) {
            self.errors.unsound = Some(self.now);
        }
    }

    /// F15: it made more errors than its predecessor ever did at best, while no cause was known that they share.
    fn may_be_taken_back(&self, build: usize, way: Option<usize>) {
        let rule = self.errors.traffic.expect("F15: nobody has asked for it").rule;
        let tried = &self.lives[&self.target.expect("F15: nothing serves")];
        let way = way.expect("F15: there is nothing to go back to");
        assert_eq!(tried.build, build, "F15: something else serves");
        assert!(build != way && build != ACTIVATED && self.denied != Some(way), "F15: {build} goes back to {way}");
        let anew = self.errors.unwell.filter(|unwell| *unwell >= tried.since);
        let counted = tried.answered.ranges(anew);
        let usual: Vec<Answers> =
            self.lives.values().filter(|life| life.build == way).flat_map(|life| life.answered.ranges(None)).collect();
        let best = usual
            .into_iter()
            .filter(|usual| tells(rule, *usual))
            .min_by(|one, other| rate(*one).total_cmp(&rate(*other)));
        let best = best.expect("F15: nobody knows what its predecessor answers");
        let breaks = counted.into_iter().any(|tried| exceeds(rule, tried, best));
        assert!(breaks, "F15: {build} is taken back, and answered no worse than {way} at its best ({best})");
        let first = tried.answered.first_error(anew).expect("F15: it has made no error");
        for life in self.lives.values().filter(|life| life.build == way && life.is_standby() && life.has_process()) {
            let could = life.stopped.is_none() && (life.parked || self.builds[way].undrain || life.drains == 0);
            let well = life.misses == 0 && life.heard.is_some_and(|heard| heard > first);
            let cut = supervisor_protocol::StreamClass::ALL.into_iter().any(|class| *life.cut.get(class));
            assert!(!could || cut || well, "F22: a cause that {build} and {way} share was not ruled out");
        }
    }

    /// F15: it makes more errors than its predecessor ever did at worst, which is well beside it since it does.
    fn must_not_stay(&mut self, slot: &Slot, before: &Memory, way: Option<usize>) {
        let Some((number, kept)) = self.exceeds_for_certain(slot, before, way) else {
            self.errors.risen = None;
            return;
        };
        let risen = match self.errors.risen {
            Some((risen, at)) if risen == number => at,
            Some(_) | None => self.now,
        };
        self.errors.risen = Some((number, risen));
        assert!(
            !kept.iter().all(|kept| kept.answered > risen),
            "F15: {number} makes errors since {risen:?}, {kept:?} is well, and it is not taken back"
        );
    }

    /// What serves and makes too many errors, and those that could serve in its place, when nothing else speaks
    /// against taking it back.
    fn exceeds_for_certain(&self, slot: &Slot, before: &Memory, way: Option<usize>) -> Option<(Generation, Vec<Kept>)> {
        let (rule, way, number) = (self.errors.traffic?.rule, way?, self.target?);
        let tried = &self.lives[&number];
        let ordered = matches!(&self.want, Want::Serve(wanted) if wanted.is_same(&artifact(tried.build)));
        let on_trial = tried.comebacks == 0 && self.now < tried.since.after(self.timings.bake);
        let alike = tried.build == way || tried.build == ACTIVATED || self.denied == Some(way);
        let before = before.rolled_back.as_ref().is_some_and(|back| back.sha256 == artifact(tried.build).sha256);
        let disturbed = self.errors.unsound.is_some_and(|unsound| unsound >= tried.since);
        let serves = slot.serving().is_some_and(|serving| serving.number == number);
        if !ordered || !on_trial || alike || before || disturbed || self.operated || !serves {
            return None;
        }
        let known = self.errors.usual == Some(way);
        let (_, counted) = *tried.answered.told.last().filter(|_| known)?;
        let mut usual =
            self.lives.values().filter(|life| life.build == way).flat_map(|life| life.answered.ranges(None));
        let worse = usual.all(|usual| !tells(rule, usual) || exceeds(rule, counted, usual));
        let kept = self.kept(slot, way);
        let well = !kept.is_empty() && kept.iter().all(|kept| kept.is_well);
        (tells(rule, counted) && worse && well).then_some((number, kept))
    }
}

impl Answered {
    fn answer(&mut self, count: u64, permille: u64) {
        self.rest += count * permille;
        self.total = Answers { all: self.total.all + count, errors: self.total.errors + self.rest / 1_000 };
        self.rest %= 1_000;
    }

    /// What was answered between any two counts, none of them from before this moment.
    fn ranges(&self, since: Option<Tick>) -> Vec<Answers> {
        let begin = since.is_none().then_some(Answers::default());
        let told = || {
            self.told.iter().filter(move |(at, _)| since.is_none_or(|since| *at >= since)).map(|(_, counts)| *counts)
        };
        let mut ranges = Vec::new();
        for (index, end) in told().enumerate() {
            ranges.extend(begin.into_iter().chain(told().take(index)).map(|begun| between(begun, end)));
        }
        ranges
    }

    /// When it was first told of an error that counts.
    fn first_error(&self, since: Option<Tick>) -> Option<Tick> {
        let mut told = self.told.iter().filter(|(at, _)| since.is_none_or(|since| *at >= since));
        let begun = if since.is_some() { told.next()?.1 } else { Answers::default() };
        told.find(|(_, counts)| counts.errors > begun.errors).map(|(at, _)| *at)
    }
}

fn between(begun: Answers, end: Answers) -> Answers {
    Answers { all: end.all - begun.all, errors: end.errors - begun.errors }
}

fn tells(rule: ErrorRule, answers: Answers) -> bool {
    answers.all >= rule.least.max(1)
}

#[allow(clippy::cast_precision_loss, reason = "a test counts no further than a float is exact")]
fn rate(answers: Answers) -> f64 {
    answers.errors as f64 / answers.all as f64
}

fn exceeds(rule: ErrorRule, tried: Answers, usual: Answers) -> bool {
    let margin = u64::from(rule.permille) * tried.all * usual.all;
    tells(rule, tried) && tried.errors * usual.all * 1_000 > usual.errors * tried.all * 1_000 + margin
}
