//! Acts and steps in the words of a transcript.

use supervisor_protocol::admin::Verb;
use supervisor_protocol::contract::StateKind;
use supervisor_protocol::time::millis;
use supervisor_protocol::{ByClass, Sha256, StreamClass, Tick};

use super::Act;
use crate::evacuate::{Evacuate, Word};
use crate::generation::{Exit, Facts, Probe};
use crate::policy::Mode;
use crate::slot::{Absent, Failed, Input, NotLaunched, Step, Want};
use crate::window::Opening;

/// What was done, with so many digits of every hash.
#[must_use]
pub fn act_line(act: &Act, digits: usize) -> String {
    match act {
        Act::Input { input, .. } => input_line(input, digits),
        Act::Order(verb) => format!("order {}", verb_line(verb, digits)),
        Act::Pinned(artifact) => format!("order pin {}, which the store has", short(&artifact.sha256, digits)),
        Act::Policy(policy) => {
            let mode = match policy.mode {
                Mode::Auto => "auto",
                Mode::Staged => "staged",
                Mode::Manual => "manual",
            };
            format!("policy {mode}")
        }
        Act::Rest { times: 1, .. } => "rest: told of something from which nothing follows".to_owned(),
        Act::Rest { times, .. } => format!("rest: told {times} times of something from which nothing follows"),
    }
}

/// What the shell does, with so many digits of every hash.
#[must_use]
pub fn step_line(step: &Step, digits: usize) -> String {
    match step {
        Step::Fetch(number, artifact) => format!("fetch {number} {}", short(&artifact.sha256, digits)),
        Step::Describe(number) => format!("describe {number}"),
        Step::Start(number) => format!("start {number}"),
        Step::Publish { new, old: Some(old) } => format!("publish {new}, then retire {old}"),
        Step::Publish { new, old: None } => format!("publish {new}"),
        Step::Restore { back, old: Some(old) } => format!("restore {back}, then retire {old}"),
        Step::Restore { back, old: None } => format!("restore {back}"),
        Step::Hold { old, new, until, empty_by } => {
            let empty = empty_by.map(|by| format!(", {old} empty by {}", seconds(by))).unwrap_or_default();
            format!("hold {old} for {new}, expected at {}{empty}", seconds(*until))
        }
        Step::Evacuate(new, Evacuate::Claim) => format!("evacuate for {new}: claim"),
        Step::Evacuate(new, Evacuate::Leave { until }) => {
            format!("evacuate for {new}: leave until {}", seconds(*until))
        }
        Step::Evacuate(new, Evacuate::StepBack) => format!("evacuate for {new}: step back"),
        Step::Park(number, end) => format!("park {number}: {:?} took {} ms, {:?}", end.cause, end.took_ms, end.outcome),
        Step::Withdraw(number, absent) => format!("withdraw {number}: {}", absent_line(*absent)),
        Step::Absent(absent) => format!("absent: {}", absent_line(*absent)),
        Step::Cut(number, class) => format!("cut {number} {class}"),
        Step::DrainChild(number) => format!("drain child {number}"),
        Step::Terminate(number) => format!("terminate {number}"),
        Step::Kill(number) => format!("kill {number}"),
        Step::Forget(number, None) => format!("forget {number}"),
        Step::Forget(number, Some(end)) => {
            let successor = end.successor.map(|successor| format!(" to {successor}")).unwrap_or_default();
            format!("forget {number}: {:?}{successor} took {} ms, {:?}", end.cause, end.took_ms, end.outcome)
        }
    }
}

/// A moment, in seconds.
#[must_use]
pub fn seconds(at: Tick) -> String {
    let ms = millis(at.since(Tick::ZERO));
    format!("{}.{:03}s", ms / 1_000, ms % 1_000)
}

pub(super) fn short(sha256: &Sha256, digits: usize) -> String {
    sha256.to_string().chars().take(digits).collect()
}

fn input_line(input: &Input, digits: usize) -> String {
    match input {
        Input::Want(want) => format!("want {}", want_line(want, digits)),
        Input::Fetched(number) => format!("fetched {number}"),
        Input::FetchFailed(number, failed) => match failed {
            Failed::Fetch(detail) => format!("fetch-failed {number}: {detail}"),
            Failed::Hash { found } => format!("wrong-hash {number}: {found}"),
            Failed::Artifact(detail) => format!("unusable {number}: {detail}"),
            Failed::Ledger(detail) => format!("fetch-failed {number}: the ledger: {detail}"),
        },
        Input::Described(number, facts) => format!("described {number} {}", facts_line(facts)),
        Input::PreflightFailed(number, detail) => format!("undescribed {number}: {detail}"),
        Input::NotIsolated(number, detail) => format!("not-isolated {number}: {detail}"),
        Input::Launched(number) => format!("launched {number}"),
        Input::LaunchFailed(number, failed) => match failed {
            NotLaunched::Ports { range } => format!("not-launched {number}: no port of {range} is free"),
            NotLaunched::Ledger(detail) => format!("not-launched {number}: the ledger: {detail}"),
            NotLaunched::Isolation(detail) | NotLaunched::Failed(detail) => format!("not-launched {number}: {detail}"),
        },
        Input::Probed(number, probe) => format!("probe {number} {}", probe_line(probe)),
        Input::Compared(number, probe) => format!("compared {number} {}", probe_line(probe)),
        Input::Leases(number, leases) => format!("leases {number}{}", leases_line(leases)),
        Input::ChildLoad(number, inflight) => format!("child {number} {inflight}"),
        Input::Forecast(number, ms) => format!("forecast {number} {ms}ms"),
        Input::Peer { host, asked, word: None } => format!("peer {host} at {}: silent", seconds(*asked)),
        Input::Peer { host, asked, word: Some(Word::Absent) } => format!("peer {host} at {}: absent", seconds(*asked)),
        Input::Peer { host, asked, word: Some(Word::Slot { ready, sha256, failed, evacuating }) } => {
            let hash = |sha256: &Option<Sha256>| sha256.map_or_else(|| "nothing".to_owned(), |one| short(&one, digits));
            let failed = failed.map(|one| format!(" failed {}", short(&one, digits))).unwrap_or_default();
            let (ready, evacuating) =
                (if *ready { "ready" } else { "unready" }, if *evacuating { " evacuating" } else { "" });
            format!("peer {host} at {}: {ready} {}{failed}{evacuating}", seconds(*asked), hash(sha256))
        }
        Input::Claimed(number) => format!("claimed {number}"),
        Input::Answers(number, answers) => format!("answers {number} {answers} wrong"),
        Input::Exited(number, Exit::Code(code)) => format!("exit {number} code={code}"),
        Input::Exited(number, Exit::Signal(signal)) => format!("exit {number} signal={signal}"),
        Input::Denied(denied) if denied.is_empty() => "deny nothing".to_owned(),
        Input::Denied(denied) => {
            denied.iter().fold("deny".to_owned(), |line, sha256| format!("{line} {}", short(sha256, digits)))
        }
        Input::Opening(Opening::Open { closes: None }) => "window open".to_owned(),
        Input::Opening(Opening::Open { closes: Some(closes) }) => format!("window open until {}", seconds(*closes)),
        Input::Opening(Opening::Closed { opens }) => format!("window closed {}", seconds(*opens)),
        Input::Tick => "tick".to_owned(),
    }
}

fn want_line(want: &Want, digits: usize) -> String {
    match want {
        Want::Serve(artifact) => {
            let irreversible = if artifact.irreversible { " irreversible" } else { "" };
            format!("{}{irreversible}", short(&artifact.sha256, digits))
        }
        Want::Keep(reason) => format!("keep: {reason}"),
        Want::Nothing => "nothing".to_owned(),
        Want::Stop { deadline } => format!("stop {}", seconds(*deadline)),
        Want::Force => "force".to_owned(),
    }
}

fn verb_line(verb: &Verb, digits: usize) -> String {
    let mut line = verb.as_str().to_owned();
    match verb {
        Verb::Approve { accept_downtime, force_order } => {
            line.push_str(if *accept_downtime { " downtime" } else { "" });
            line.push_str(if *force_order { " force-order" } else { "" });
        }
        Verb::Rollback { force } => line.push_str(if *force { " force" } else { "" }),
        Verb::Pin { sha256: Some(sha256) } => {
            line.push(' ');
            line.push_str(&short(sha256, digits));
        }
        Verb::Pin { sha256: None }
        | Verb::Hold
        | Verb::Release
        | Verb::Unpin
        | Verb::Retry
        | Verb::Restart
        | Verb::Supersede => {}
    }
    line
}

fn facts_line(facts: &Facts) -> String {
    let state = match facts.state {
        StateKind::None => "none",
        StateKind::Local => "local",
        StateKind::Shared => "shared",
    };
    let mut words = vec![state.to_owned()];
    words.extend(facts.undrain.then(|| "undrain".to_owned()));
    words.extend(facts.exclusive.then(|| "exclusive".to_owned()));
    if let Some(data) = &facts.data {
        words.push(format!("reads={}-{} writes={}", data.reads[0], data.reads[1], data.writes));
    }
    words.join(" ")
}

fn probe_line(probe: &Probe) -> String {
    match probe {
        Probe::Ready => "ready".to_owned(),
        Probe::Initializing { detail } => format!("initializing: {detail}"),
        Probe::NotReady { detail } => format!("unready: {detail}"),
    }
}

fn leases_line(leases: &ByClass<u64>) -> String {
    let counted = StreamClass::ALL.into_iter().filter(|class| *leases.get(*class) > 0);
    counted.map(|class| format!(" {class}={}", leases.get(class))).collect()
}

fn absent_line(absent: Absent) -> String {
    match absent {
        Absent::Hold { until: Some(until) } => format!("hold, expected at {}", seconds(until)),
        Absent::Hold { until: None } => "hold".to_owned(),
        Absent::NotFound => "not found".to_owned(),
        Absent::Stopping => "stopping".to_owned(),
        Absent::NotServing => "not serving".to_owned(),
    }
}
