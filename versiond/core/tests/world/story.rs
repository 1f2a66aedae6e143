//! What a random world is made of: builds that behave well or badly, and what happens to them.

use std::time::Duration;

use proptest::prelude::*;
use supervisor_protocol::admin::Verb;
use supervisor_protocol::contract::{DataFormats, Role, StateKind};
use supervisor_protocol::{ByClass, Sha256, StreamClass};
use versiond_core::catalog::Artifact;
use versiond_core::errors::ErrorRule;
use versiond_core::generation::Facts;
use versiond_core::timings::Timings;

use crate::world::errors::Traffic;

/// One world, from beginning to end.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) builds: Vec<Build>,
    /// The build that served before the supervisor was started again.
    pub(crate) last_good: Option<usize>,
    /// What happens, each so many milliseconds after the one before.
    pub(crate) ops: Vec<(u64, Op)>,
    /// How long answers take, in milliseconds, one after the other and again from the start.
    pub(crate) latencies: Vec<u64>,
    /// Classes that could outlast the whole drain.
    pub(crate) short_drain: bool,
    /// What clients ask, where a build is held to its answers.
    pub(crate) traffic: Option<Traffic>,
}

/// How the bytes of one hash behave.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Build {
    pub(crate) state: StateKind,
    /// It needs something of the host for itself.
    pub(crate) exclusive: bool,
    /// It can take a drain back.
    pub(crate) undrain: bool,
    /// The format it writes; it reads this one and the one before. Unknown without one.
    pub(crate) format: Option<u32>,
    pub(crate) fetch: Fetch,
    pub(crate) describes: bool,
    pub(crate) launches: bool,
    pub(crate) warm: Warm,
    /// Exits so long after it was published, as often as it says.
    pub(crate) crash: Option<(u64, u8)>,
    pub(crate) drain: ChildDrain,
    /// Exits so long after its stop signal; `None` hangs until it is killed.
    pub(crate) stops: Option<u64>,
    /// How many of a thousand answers are errors while it is well.
    pub(crate) errors: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fetch {
    Good,
    GoodAfterFailures(u8),
    WrongHash,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Warm {
    /// Silent, then ready.
    ReadyAfter(u64),
    /// Says that it initializes, then is ready.
    InitializesFor(u64),
    InitializesForever,
    Silent,
    ExitsAfter(u64),
}

/// What becomes of `POST /drain`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ChildDrain {
    EmptyAfter(u64),
    NoAnswer,
    ExitsAfter(u64, i32),
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Serve(usize),
    Keep,
    Nothing,
    /// The host stops, with so much time left.
    Stop(u64),
    Force,
    /// This build, and it alone, may not run.
    Deny(usize),
    /// A lease of whatever serves, that lasts so long.
    Lease(StreamClass, u64),
    /// A request that lasts so long, and whose response head, so long after the start, makes it another.
    Turns(u64, u64, StreamClass),
    /// The serving process ends by itself.
    Crash,
    /// One round of probes of the serving process goes wrong.
    LoseProbe,
    /// The serving process says for so long that it is not ready; with a common cause all others do too.
    Unready(u64, bool),
    /// An operator's order.
    Order(Verb),
    /// The rollout window closes for so long.
    Close(u64),
    /// An answer comes again although the generation has moved on.
    Stale(u8),
    Tick,
}

impl Build {
    /// A good build beside which others run, but for its errors.
    fn making(errors: u64) -> Build {
        Build {
            state: StateKind::Shared,
            exclusive: false,
            undrain: true,
            format: None,
            fetch: Fetch::Good,
            describes: true,
            launches: true,
            warm: Warm::ReadyAfter(0),
            crash: None,
            drain: ChildDrain::EmptyAfter(0),
            stops: Some(0),
            errors,
        }
    }

    /// Whether it will serve, given enough tries.
    pub(crate) fn is_good(&self, timings: &Timings) -> bool {
        let fetches = match self.fetch {
            Fetch::Good | Fetch::GoodAfterFailures(_) => true,
            Fetch::WrongHash => false,
        };
        // Two rounds of probes take up to 2.4 s: a build on the edge is neither good nor bad.
        let becomes_ready = match self.warm {
            Warm::ReadyAfter(ms) => Duration::from_millis(ms + 2_400) < timings.ready_window,
            Warm::InitializesFor(ms) => Duration::from_millis(ms + 2_400) < timings.ready_max,
            Warm::InitializesForever | Warm::Silent | Warm::ExitsAfter(_) => false,
        };
        fetches && self.describes && self.launches && becomes_ready
    }

    /// Whether it can never serve.
    pub(crate) fn is_bad(&self, timings: &Timings) -> bool {
        let never = match self.warm {
            Warm::InitializesForever | Warm::Silent | Warm::ExitsAfter(_) => true,
            Warm::ReadyAfter(ms) => Duration::from_millis(ms) > timings.ready_window,
            Warm::InitializesFor(ms) => Duration::from_millis(ms) > timings.ready_max,
        };
        never || self.fetch == Fetch::WrongHash || !self.describes || !self.launches
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            binary_version: "1".to_owned(),
            role: Role::Server,
            state: self.state,
            undrain: self.undrain,
            data: self.format.map(|format| DataFormats { reads: [format.saturating_sub(1), format], writes: format }),
            exclusive: self.exclusive,
        }
    }

    /// Whether it may never run beside another.
    pub(crate) fn is_alone(&self) -> bool {
        self.state == StateKind::Local || self.exclusive
    }
}

/// The build that a height has brought, whenever it is wanted.
pub(crate) const ACTIVATED: usize = 3;

/// The artifact of the build with this index.
pub(crate) fn artifact(build: usize) -> Artifact {
    let byte = u8::try_from(build).unwrap();
    Artifact { sha256: Sha256([byte; 32]), urls: vec![], size: None, entry: None, irreversible: build == ACTIVATED }
}

/// Durations small enough for a whole life, several times over.
pub(crate) fn timings(short_drain: bool) -> Timings {
    let seconds = Duration::from_secs;
    Timings {
        ready_window: seconds(5),
        ready_max: seconds(20),
        live_expiry: seconds(3),
        drain: seconds(if short_drain { 8 } else { 30 }),
        drain_class: ByClass { request: seconds(3), stream: seconds(30), upgrade: seconds(20), job: seconds(10) },
        stop_grace: seconds(12),
        backoff_min: seconds(1),
        backoff_max: seconds(8),
        backoff_reset: seconds(6),
        bake: seconds(5),
        hold: seconds(8),
    }
}

pub(crate) fn story() -> impl Strategy<Value = Story> {
    (
        prop::collection::vec(build(), 4),
        prop::option::weighted(0.3, 0..4usize),
        prop::collection::vec((gap(), op()), 1..30),
        prop::collection::vec(prop_oneof![4 => 0..50u64, 1 => 50..3_000u64], 1..12),
        any::<bool>(),
        prop::option::of(traffic()),
    )
        .prop_map(|(builds, last_good, ops, latencies, short_drain, traffic)| Story {
            builds,
            last_good,
            ops,
            latencies,
            short_drain,
            traffic,
        })
}

/// One after another serves in turn, beside the one before, for long enough to pass its trial or not, while clients
/// ask; causes come that are its own or that all share.
pub(crate) fn trials() -> impl Strategy<Value = Story> {
    let rates = prop::collection::vec(errors(), 4);
    let turn = (4_000..25_000u64, 0..4usize).prop_map(|(gap, build)| (gap, Op::Serve(build)));
    let cause =
        (0..4_000u64, 0..9_000u64, any::<bool>()).prop_map(|(gap, lasts, common)| (gap, Op::Unready(lasts, common)));
    let other =
        prop_oneof![Just(Op::Crash), Just(Op::LoseProbe), (0..4usize).prop_map(Op::Deny), verb().prop_map(Op::Order)];
    let other = (gap(), other);
    let ops = prop::collection::vec(prop_oneof![6 => turn, 2 => cause, 1 => other], 3..16);
    let latencies = prop::collection::vec(0..50u64, 1..6);
    (rates, ops, latencies, traffic()).prop_map(|(rates, ops, latencies, traffic)| Story {
        builds: rates.into_iter().map(Build::making).collect(),
        last_good: None,
        ops,
        latencies,
        short_drain: false,
        traffic: Some(traffic),
    })
}

fn traffic() -> impl Strategy<Value = Traffic> {
    (0..300u32, 1..60u64, 0..60u64)
        .prop_map(|(permille, least, per_second)| Traffic { rule: ErrorRule { permille, least }, per_second })
}

fn errors() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 2 => 0..200u64, 2 => 200..=1_000u64]
}

fn gap() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0..300u64, 3 => 300..6_000u64, 1 => 6_000..40_000u64]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0..4usize).prop_map(Op::Serve),
        10 => (class(), lifetime()).prop_map(|(class, lasts)| Op::Lease(class, lasts)),
        3 => (lifetime(), 0..3_000u64, class()).prop_map(|(lasts, after, class)| Op::Turns(lasts, after, class)),
        2 => Just(Op::Nothing),
        1 => Just(Op::Keep),
        1 => (0..40_000u64).prop_map(Op::Stop),
        1 => Just(Op::Force),
        1 => (0..4usize).prop_map(Op::Deny),
        3 => Just(Op::Crash),
        1 => Just(Op::LoseProbe),
        2 => (0..20_000u64, any::<bool>()).prop_map(|(lasts, common)| Op::Unready(lasts, common)),
        4 => verb().prop_map(Op::Order),
        1 => (0..20_000u64).prop_map(Op::Close),
        3 => any::<u8>().prop_map(Op::Stale),
        1 => Just(Op::Tick),
    ]
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        any::<bool>().prop_map(|accept_downtime| Verb::Approve { accept_downtime, force_order: false }),
        Just(Verb::Hold),
        Just(Verb::Release),
        any::<bool>().prop_map(|force| Verb::Rollback { force }),
        prop::option::of(0..4usize).prop_map(|build| Verb::Pin { sha256: build.map(|build| artifact(build).sha256) }),
        Just(Verb::Unpin),
        Just(Verb::Retry),
        Just(Verb::Restart),
        Just(Verb::Supersede),
    ]
}

fn class() -> impl Strategy<Value = StreamClass> {
    prop::sample::select(&StreamClass::ALL[..])
}

fn lifetime() -> impl Strategy<Value = u64> {
    prop_oneof![2 => 0..2_000u64, 2 => 2_000..20_000u64, 1 => 20_000..90_000u64]
}

fn build() -> impl Strategy<Value = Build> {
    let state = prop_oneof![3 => Just(StateKind::None), 3 => Just(StateKind::Shared), 2 => Just(StateKind::Local)];
    let fetch = prop_oneof![
        6 => Just(Fetch::Good),
        1 => (1..4u8).prop_map(Fetch::GoodAfterFailures),
        1 => Just(Fetch::WrongHash),
    ];
    let warm = prop_oneof![
        8 => (0..2_500u64).prop_map(Warm::ReadyAfter),
        2 => (0..17_000u64).prop_map(Warm::InitializesFor),
        1 => Just(Warm::InitializesForever),
        1 => Just(Warm::Silent),
        1 => (0..7_000u64).prop_map(Warm::ExitsAfter),
    ];
    let crash = prop::option::weighted(0.2, (0..9_000u64, 1..4u8));
    let drain = prop_oneof![
        5 => (0..5_000u64).prop_map(ChildDrain::EmptyAfter),
        1 => Just(ChildDrain::NoAnswer),
        1 => (0..5_000u64, 0..2i32).prop_map(|(after, code)| ChildDrain::ExitsAfter(after, code)),
    ];
    let stops = prop::option::weighted(0.85, 0..9_000u64);
    let shape = (state, prop::bool::weighted(0.1), any::<bool>(), prop::option::of(1..4u32));
    (shape, fetch, prop::bool::weighted(0.93), prop::bool::weighted(0.93), warm, crash, drain, stops, errors())
        .prop_map(
            |((state, exclusive, undrain, format), fetch, describes, launches, warm, crash, drain, stops, errors)| {
                Build {
                    state,
                    exclusive,
                    undrain,
                    format,
                    fetch,
                    describes,
                    launches,
                    warm,
                    crash,
                    drain,
                    stops,
                    errors,
                }
            },
        )
}
