//! A slot's life told line by line: `t=8s probe g1 ready`. Numbers are given out from 1, the artifacts
//! `a` to `f` have hashes of that digit, and the time stays where the last line put it.
//!
//! ```text
//! [t=DURATION] want a | want a elsewhere | want keep | want nothing | want stop DURATION | want force
//!              deny a
//!              fetched g1 | fetch-failed g1 | wrong-hash g1 | unusable g1
//!              want a irreversible
//!              described g1 none|local|shared [undrain] [exclusive] [worker] [reads=3-5 writes=5] | undescribed g1
//!              launched g1 | not-launched g1
//!              probe g1 ready | probe g1 initializing | probe g1 unready
//!              leases g1 [CLASS=COUNT…] | child g1 COUNT | exit g1 code=N|signal=N
//!              compared g1 ready|unready | forecast g1 DURATION
//!              errors PERMILLE LEAST | answers g1 ERRORS/ALL
//!              window open | window closed DURATION
//!              peer HOST silent | peer HOST absent | peer HOST ready|unready a [failed=b] [evacuating] | claimed g1
//!              order approve [downtime|first] | order rollback [force] | order pin [a] | order VERB
//!              tick | wake          (`wake` goes to the moment the slot asks for, and ticks)
//! ```

pub(crate) mod told;

use std::time::Duration;

use supervisor_protocol::admin::{Verb, VerbRefused};
use supervisor_protocol::contract::{DataFormats, Role, StateKind};
use supervisor_protocol::time::parse_duration;
use supervisor_protocol::{ByClass, Generation, Reason, Sha256, StreamClass, Tick};
use versiond_core::catalog::Artifact;
use versiond_core::errors::{Answers, ErrorRule};
use versiond_core::evacuate::Word;
use versiond_core::generation::{Exit, Facts, Probe};
use versiond_core::memory::Memory;
use versiond_core::policy::Policy;
use versiond_core::slot::{Failed, Input, NotLaunched, Slot, Step, Want};
use versiond_core::timings::Timings;
use versiond_core::window::Opening;

/// A slot, its clock, and the numbers it has been given.
#[derive(Clone)]
pub(crate) struct Script {
    slot: Slot,
    now: Tick,
    next: u64,
}

/// What one line did.
pub(crate) struct Played {
    pub(crate) line: String,
    pub(crate) now: Tick,
    pub(crate) steps: Vec<Step>,
    /// Why an order was not taken.
    pub(crate) refused: Option<VerbRefused>,
    /// The slot as the line left it.
    pub(crate) slot: Slot,
}

impl Script {
    /// What serves counts as live for a day after it was last heard of: a story need not probe it on and on.
    pub(crate) fn new() -> Script {
        Script::with(calm(), None)
    }

    /// A slot in which this artifact served before a restart.
    pub(crate) fn with(timings: Timings, last_good: Option<&str>) -> Script {
        Script::of(Slot::new(timings, Policy::default(), last_good.map(artifact).map(Memory::of).unwrap_or_default()))
    }

    /// A slot under this policy.
    pub(crate) fn under(policy: Policy) -> Script {
        Script::of(Slot::new(calm(), policy, Memory::default()))
    }

    /// What a restart leaves of a slot.
    pub(crate) fn restarted(slot: &Slot) -> Script {
        let memory = serde_json::from_str(&serde_json::to_string(slot.memory()).unwrap()).unwrap();
        Script::of(Slot::new(calm(), Policy::default(), memory))
    }

    fn of(slot: Slot) -> Script {
        Script { slot, now: Tick::ZERO, next: 1 }
    }

    /// Plays every line and returns what each did.
    pub(crate) fn play(&mut self, text: &str) -> Vec<Played> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| self.line(line)).collect()
    }

    fn line(&mut self, line: &str) -> Played {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if let Some(at) = words[0].strip_prefix("t=") {
            self.now = Tick::ZERO.after(duration(at));
            words.remove(0);
        }
        if words == ["wake"] {
            let (at, _) = self.slot.wake().unwrap_or_else(|| panic!("`{line}`: nothing to wake for"));
            self.now = self.now.max(at);
            words = vec!["tick"];
        }
        if let ["order", rest @ ..] = &words[..] {
            let taken = self.slot.command(&verb(rest).unwrap_or_else(|| panic!("no such order: `{line}`")), self.now);
            if let Err(refused) = taken {
                return Played { line: line.to_owned(), now: self.now, refused: Some(refused), ..self.nothing() };
            }
            words = vec!["tick"];
        }
        if let ["errors", permille, least] = words[..] {
            let (permille, least) = (permille.parse().unwrap(), least.parse().unwrap());
            self.slot.follow(&Policy { errors: Some(ErrorRule { permille, least }), ..Policy::default() });
            words = vec!["tick"];
        }
        let input =
            peer(&words, self.now).or_else(|| input(&words)).unwrap_or_else(|| panic!("no such line: `{line}`"));
        let steps = self.slot.handle(input, Generation(self.next), self.now);
        if steps.iter().any(|step| matches!(step, Step::Fetch(..))) {
            self.next += 1;
        }
        Played { line: line.to_owned(), steps, ..self.nothing() }
    }

    fn nothing(&self) -> Played {
        Played { line: String::new(), now: self.now, steps: Vec::new(), refused: None, slot: self.slot.clone() }
    }
}

fn calm() -> Timings {
    Timings { live_expiry: Duration::from_secs(86_400), ..Timings::default() }
}

/// The artifact whose hash is that digit, again and again.
fn artifact(name: &str) -> Artifact {
    let sha256: Sha256 = name.repeat(64).parse().unwrap();
    Artifact {
        sha256,
        urls: vec![format!("https://releases.example/{name}")],
        size: None,
        entry: None,
        irreversible: false,
    }
}

fn duration(text: &str) -> Duration {
    if text == "0" { Duration::ZERO } else { parse_duration(text).unwrap() }
}

fn input(words: &[&str]) -> Option<Input> {
    let generation = |word: &str| Some(Generation(word.strip_prefix('g')?.parse().ok()?));
    let said = |detail: &str| detail.to_owned();
    Some(match *words {
        ["tick"] => Input::Tick,
        ["want", "nothing"] => Input::Want(Want::Nothing),
        ["want", "force"] => Input::Want(Want::Force),
        ["want", "keep"] => Input::Want(Want::Keep(Reason::Unservable { detail: "no build for here".to_owned() })),
        ["want", "stop", at] => Input::Want(Want::Stop { deadline: Tick::ZERO.after(duration(at)) }),
        ["want", name, "elsewhere"] => {
            let urls = vec!["https://mirror.example/".to_owned()];
            Input::Want(Want::Serve(Artifact { urls, ..artifact(name) }))
        }
        ["deny", name] => Input::Denied([artifact(name).sha256].into()),
        ["want", name] => Input::Want(Want::Serve(artifact(name))),
        ["fetched", g] => Input::Fetched(generation(g)?),
        ["fetch-failed", g] => Input::FetchFailed(generation(g)?, Failed::Fetch(said("connection refused"))),
        ["wrong-hash", g] => Input::FetchFailed(generation(g)?, Failed::Hash { found: "0".repeat(64) }),
        ["unusable", g] => Input::FetchFailed(generation(g)?, Failed::Artifact(said("two entries"))),
        ["want", name, "irreversible"] => Input::Want(Want::Serve(Artifact { irreversible: true, ..artifact(name) })),
        ["described", g, state, ref more @ ..] => Input::Described(generation(g)?, facts(state, more)?),
        ["compared", g, "ready"] => Input::Compared(generation(g)?, Probe::Ready),
        ["compared", g, "unready"] => Input::Compared(generation(g)?, Probe::NotReady { detail: said("no answer") }),
        ["forecast", g, within] => Input::Forecast(generation(g)?, supervisor_protocol::time::millis(duration(within))),
        ["answers", g, counts] => {
            let (errors, all) = counts.split_once('/')?;
            let answers = Answers { all: all.parse().ok()?, errors: errors.parse().ok()? };
            Input::Answers(generation(g)?, answers)
        }
        ["window", "open"] => Input::Opening(Opening::Open { closes: None }),
        ["window", "closed", at] => Input::Opening(Opening::Closed { opens: Tick::ZERO.after(duration(at)) }),
        ["undescribed", g] => Input::PreflightFailed(generation(g)?, said("no answer within 10 s")),
        ["launched", g] => Input::Launched(generation(g)?),
        ["not-launched", g] => Input::LaunchFailed(generation(g)?, NotLaunched::Failed(said("no such program"))),
        ["probe", g, "ready"] => Input::Probed(generation(g)?, Probe::Ready),
        ["probe", g, "initializing"] => {
            Input::Probed(generation(g)?, Probe::Initializing { detail: said("initializing") })
        }
        ["probe", g, "unready"] => Input::Probed(generation(g)?, Probe::NotReady { detail: said("no answer") }),
        ["leases", g, ref counts @ ..] => Input::Leases(generation(g)?, leases(counts)?),
        ["child", g, count] => Input::ChildLoad(generation(g)?, count.parse().ok()?),
        ["claimed", g] => Input::Claimed(generation(g)?),
        ["exit", g, how] => Input::Exited(generation(g)?, exit(how)?),
        _ => return None,
    })
}

/// What a peer said, asked at this moment.
fn peer(words: &[&str], asked: Tick) -> Option<Input> {
    let ["peer", host, said, ref more @ ..] = *words else { return None };
    let word = match (said, more) {
        ("silent", []) => None,
        ("absent", []) => Some(Word::Absent),
        ("ready" | "unready", [serves, rest @ ..]) => Some(Word::Slot {
            ready: said == "ready",
            sha256: Some(artifact(serves).sha256),
            failed: rest.iter().find_map(|word| word.strip_prefix("failed=")).map(|name| artifact(name).sha256),
            evacuating: rest.contains(&"evacuating"),
        }),
        _ => return None,
    };
    Some(Input::Peer { host: host.parse().ok()?, asked, word })
}

fn verb(words: &[&str]) -> Option<Verb> {
    Some(match *words {
        ["approve"] => Verb::Approve { accept_downtime: false, force_order: false },
        ["approve", "first"] => Verb::Approve { accept_downtime: false, force_order: true },
        ["approve", "downtime"] => Verb::Approve { accept_downtime: true, force_order: false },
        ["hold"] => Verb::Hold,
        ["release"] => Verb::Release,
        ["rollback"] => Verb::Rollback { force: false },
        ["rollback", "force"] => Verb::Rollback { force: true },
        ["pin"] => Verb::Pin { sha256: None },
        ["pin", name] => Verb::Pin { sha256: Some(artifact(name).sha256) },
        ["unpin"] => Verb::Unpin,
        ["retry"] => Verb::Retry,
        ["restart"] => Verb::Restart,
        ["supersede"] => Verb::Supersede,
        _ => return None,
    })
}

fn facts(state: &str, more: &[&str]) -> Option<Facts> {
    let mut data = None;
    for word in more {
        if let Some((from, to)) = word.strip_prefix("reads=").and_then(|range| range.split_once('-')) {
            data = Some(DataFormats { reads: [from.parse().ok()?, to.parse().ok()?], writes: to.parse().ok()? });
        }
    }
    if let (Some(data), Some(writes)) = (&mut data, more.iter().find_map(|word| word.strip_prefix("writes="))) {
        data.writes = writes.parse().ok()?;
    }
    let state = match state {
        "none" => StateKind::None,
        "local" => StateKind::Local,
        "shared" => StateKind::Shared,
        _ => return None,
    };
    Some(Facts {
        binary_version: "1.0".to_owned(),
        role: if more.contains(&"worker") { Role::Worker } else { Role::Server },
        state,
        undrain: more.contains(&"undrain"),
        data,
        exclusive: more.contains(&"exclusive"),
    })
}

fn leases(counts: &[&str]) -> Option<ByClass<u64>> {
    let mut leases = ByClass::default();
    for count in counts {
        let (name, count) = count.split_once('=')?;
        let class = StreamClass::ALL.into_iter().find(|class| class.as_str() == name)?;
        *leases.get_mut(class) = count.parse().ok()?;
    }
    Some(leases)
}

fn exit(how: &str) -> Option<Exit> {
    match how.split_once('=')? {
        ("code", code) => Some(Exit::Code(code.parse().ok()?)),
        ("signal", signal) => Some(Exit::Signal(signal.parse().ok()?)),
        _ => None,
    }
}
