//! The checks, in the order in which a supervisor would meet what they ask about.

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use supervisor_protocol::CONTRACT;
use supervisor_protocol::contract::{Describe, DrainState, Ready, Role};
use supervisor_protocol::headers::{LAST_RESORT, NOT_ADMITTED, NotAdmitted};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::process::LOOK;
use super::program::{ANSWER, GRACE, Output, Program, probe};
use super::{Options, Report, Requirement};
use crate::wire::{Answer, WireError, ask};

/// A flag that no program has.
const NO_SUCH_FLAG: &str = "--no-such-flag-of-any-program";
/// The held request ends by itself within this.
const HOLD: Duration = Duration::from_secs(60);

pub(super) async fn all(options: &Options) -> io::Result<Report> {
    let mut report = Report::new(options.program.clone());
    let described = probe(options, "--describe").await?.and_then(|output| describe(&output));
    match described {
        Ok(describe) => {
            let spoken = describe.contract;
            let known = spoken == CONTRACT;
            report.put(Requirement::Describe, Ok(()));
            report.put(Requirement::Contract, known.then_some(()).ok_or(format!("it says {spoken}")));
            report.describe = Some(describe);
        }
        Err(detail) => report.put(Requirement::Describe, Err(detail)),
    }
    let unknown = probe(options, NO_SUCH_FLAG).await?.and_then(|output| usage_error(&output));
    report.put(Requirement::UnknownFlag, unknown);
    let mut program = match Program::start(options)? {
        Ok(program) => program,
        Err(detail) => {
            report.put(Requirement::Ready, Err(detail));
            return Ok(report);
        }
    };
    let role = report.describe.as_ref().map_or(Role::Server, |describe| describe.role);
    let became_ready = becomes_ready(&mut program, role, options.ready_within).await;
    let alive = became_ready.is_ok();
    report.put(Requirement::Ready, became_ready);
    if !alive {
        return Ok(report);
    }
    match role {
        Role::Server => server(&mut report, &mut program, options).await,
        Role::Worker => worker(&mut report, &mut program).await,
    }
    Ok(report)
}

fn describe(output: &Output) -> Result<Describe, String> {
    if !output.status.success() {
        return Err(format!("--describe ended with {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let text = String::from_utf8_lossy(&output.stdout);
        format!("standard output is not the object ({error}): {}", text.trim().chars().take(120).collect::<String>())
    })
}

fn usage_error(output: &Output) -> Result<(), String> {
    match output.status.code() {
        None => return Err(format!("it ended by a signal: {}", output.status)),
        Some(0) => return Err("it exits 0, as if it knew the flag".to_owned()),
        Some(_) => {}
    }
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    if String::from_utf8_lossy(&said).contains(NO_SUCH_FLAG.trim_start_matches('-')) {
        Ok(())
    } else {
        Err("its output does not name the flag".to_owned())
    }
}

async fn becomes_ready(program: &mut Program, role: Role, within: Duration) -> Result<(), String> {
    let began = Instant::now();
    loop {
        if let Some(status) = program.process.ended().await.map_err(|error| error.to_string())? {
            return Err(format!("it ended with {status}; {}", program.output()));
        }
        let seen = match program.ready().await {
            Ok((200, _)) => return Ok(()),
            Ok((_, body)) if body.ready && role == Role::Worker => return Ok(()),
            Ok((status, body)) => format!("/ready says {status} {}", body.reason),
            Err(detail) => detail,
        };
        if began.elapsed() > within {
            return Err(format!("not within {} s: {seen}; {}", within.as_secs(), program.output()));
        }
        sleep(LOOK).await;
    }
}

async fn server(report: &mut Report, program: &mut Program, options: &Options) {
    report.skip(Requirement::Paused, "it is a server");
    readiness(report, program, 200).await;
    let alive = healthz(program).await;
    report.put(Requirement::Private, private(program).await);

    let held = match &options.hold {
        Some(path) => Some(hold(program, path, &[]).await),
        None => None,
    };
    report.put(Requirement::Drain, drain(program).await);
    report.put(Requirement::NotAdmitted, not_admitted(program).await);
    report.put(Requirement::LastResort, admits(program, &[(LAST_RESORT, "1")]).await);
    report.put(Requirement::Liveness, and(alive, healthz(program)).await);
    let no_hold = "no --hold PATH was given";
    match held {
        None => report.skip(Requirement::Admitted, no_hold),
        Some(Err(detail)) => report.put(Requirement::Admitted, Err(detail)),
        Some(Ok(held)) => report.put(Requirement::Admitted, survives(program, held).await),
    }
    report.put(Requirement::Drained, drained(program).await);
    undrain(report, program, true).await;

    // Where the drain could not be taken back, this is how a request still gets in.
    let held = match &options.hold {
        Some(path) => Some(hold(program, path, &[(LAST_RESORT, "1")]).await),
        None => None,
    };
    let told = program.process.terminate();
    match held {
        None => report.skip(Requirement::StopFinishes, no_hold),
        Some(Err(detail)) => report.put(Requirement::StopFinishes, Err(detail)),
        Some(Ok(held)) => report.put(Requirement::StopFinishes, ends_whole(held).await),
    }
    report.put(Requirement::Stop, and(told, stops(program)).await);
}

async fn worker(report: &mut Report, program: &mut Program) {
    use Requirement::{Admitted, LastResort, Liveness, NotAdmitted, Private, StopFinishes};
    for requirement in [Liveness, Private, Admitted, NotAdmitted, LastResort, StopFinishes] {
        report.skip(requirement, "it is a worker");
    }
    readiness(report, program, 503).await;
    report.put(Requirement::Paused, published(program).await);
    report.put(Requirement::Drain, drain(program).await);
    report.put(Requirement::Drained, drained(program).await);
    undrain(report, program, false).await;
    let told = program.process.terminate();
    report.put(Requirement::Stop, and(told, stops(program)).await);
}

/// What `/ready`, `/metrics` and `/drain/status` say before anything has happened.
async fn readiness(report: &mut Report, program: &Program, expected: u16) {
    let ready = program.ready().await;
    let echoed = ready.as_ref().map_err(Clone::clone).and_then(|(_, body)| match &body.nonce {
        Some(nonce) if *nonce == program.nonce => Ok(()),
        Some(nonce) => Err(format!("it says {nonce}")),
        None => Err("no nonce".to_owned()),
    });
    report.put(Requirement::Nonce, echoed);
    report.put(Requirement::ReadyStatus, ready.and_then(|(status, body)| agrees(status, &body, expected)));
    let metrics = program.admin(Method::GET, "/metrics").await;
    report.put(Requirement::Metrics, metrics.and_then(|answer| expect_status(answer.status, StatusCode::OK)));
    report.put(Requirement::Counts, program.drain_status().await.map(drop));
}

fn agrees(status: u16, body: &Ready, expected: u16) -> Result<(), String> {
    if status != body.status() {
        return Err(format!("status {status}, body ready={} draining={}", body.ready, body.draining));
    }
    if status == expected { Ok(()) } else { Err(format!("status {status}, expected {expected}")) }
}

async fn healthz(program: &Program) -> Result<(), String> {
    expect_status(program.public(Method::GET, "/healthz", &[]).await?.status, StatusCode::OK)
}

/// F43: whoever can send a request must not be able to drain, nor to read what the admin socket tells.
async fn private(program: &Program) -> Result<(), String> {
    let ready = program.public(Method::GET, "/ready", &[]).await?;
    if serde_json::from_slice::<Ready>(&ready.body).is_ok_and(|body| body.nonce.is_some()) {
        return Err(format!("GET /ready on port {} tells the nonce", program.port));
    }
    program.public(Method::POST, "/drain", &[]).await?;
    let status = program.drain_status().await?;
    if status.draining { Err(format!("POST /drain on port {} drains", program.port)) } else { Ok(()) }
}

async fn drain(program: &Program) -> Result<(), String> {
    let answer = program.admin(Method::POST, "/drain").await?;
    if !answer.status.is_success() {
        return Err(format!("POST /drain answers {}", answer.status));
    }
    let (status, body) = program.ready().await?;
    agrees(status, &body, 503)?;
    if !body.draining {
        return Err("/ready says draining: false".to_owned());
    }
    if !body.ready {
        return Err("/ready says ready: false, but a drain is not unreadiness".to_owned());
    }
    if program.drain_status().await?.draining { Ok(()) } else { Err("/drain/status says draining: false".to_owned()) }
}

async fn not_admitted(program: &Program) -> Result<(), String> {
    let answer = program.public(Method::GET, "/", &[]).await?;
    expect_status(answer.status, StatusCode::SERVICE_UNAVAILABLE)?;
    let value = answer.headers.get(NOT_ADMITTED).ok_or("no Versiond-Not-Admitted header")?;
    let text = value.to_str().map_err(|_| "the header is not text")?;
    let refusal: NotAdmitted = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    if refusal.nonce == program.nonce { Ok(()) } else { Err(format!("{text:?}: another nonce")) }
}

async fn admits(program: &Program, headers: &[(&str, &str)]) -> Result<(), String> {
    let answer = program.public(Method::GET, "/", headers).await?;
    if answer.headers.contains_key(NOT_ADMITTED) { Err("refused as not admitted".to_owned()) } else { Ok(()) }
}

async fn drained(program: &Program) -> Result<(), String> {
    let status = eventually(ANSWER, || async {
        let status = program.drain_status().await?;
        Ok((status.state == DrainState::Drained).then_some(status))
    })
    .await?
    .ok_or("nothing is in flight, but the state is not drained")?;
    if status.inflight == 0 { Ok(()) } else { Err(format!("drained with {} in flight", status.inflight)) }
}

async fn undrain(report: &mut Report, program: &Program, serves: bool) {
    if !report.describe.as_ref().is_some_and(|describe| describe.undrain) {
        return report.skip(Requirement::Undrain, "it does not say undrain: true");
    }
    let taken_back = async {
        published(program).await?;
        if serves { admits(program, &[]).await } else { Ok(()) }
    };
    report.put(Requirement::Undrain, taken_back.await);
}

/// `DELETE /drain` of something that drains or is paused.
async fn published(program: &Program) -> Result<(), String> {
    let before = program.drain_status().await?;
    if before.state != DrainState::Drained {
        return Err(format!("it is not drained before it: {:?}", before.state));
    }
    let answer = program.admin(Method::DELETE, "/drain").await?;
    if !answer.status.is_success() {
        return Err(format!("DELETE /drain answers {}", answer.status));
    }
    let (status, body) = program.ready().await?;
    agrees(status, &body, 200)?;
    let state = program.drain_status().await?.state;
    if state == DrainState::Serving { Ok(()) } else { Err(format!("the state is {state:?}")) }
}

async fn stops(program: &mut Program) -> Result<(), String> {
    // A little beyond the grace, for the machine's sake.
    let limit = GRACE + Duration::from_secs(2);
    let ended = program.process.wait(limit).await.map_err(|error| error.to_string())?;
    let status = ended.ok_or_else(|| format!("still running {} s after SIGTERM", limit.as_secs()))?;
    if status.success() { Ok(()) } else { Err(format!("it ended with {status}; {}", program.output())) }
}

type Held = JoinHandle<Result<Answer, WireError>>;

/// Sends the request that is to be in flight, and waits until it is counted.
async fn hold(program: &Program, path: &str, headers: &[(&'static str, &'static str)]) -> Result<Held, String> {
    let (place, sent_path, headers) = (program.data.clone(), path.to_owned(), headers.to_vec());
    let held = tokio::spawn(async move { ask(&place, Method::GET, &sent_path, &headers, "", HOLD).await });
    let counted = eventually(ANSWER, || async {
        if held.is_finished() {
            return Err(format!("GET {path} ended before it was seen in flight: it should take a second or more"));
        }
        Ok((program.drain_status().await?.inflight > 0).then_some(()))
    });
    counted.await?.ok_or(format!("GET {path} is not counted in /drain/status"))?;
    Ok(held)
}

/// The held request is still counted while draining, and ends as if nothing had happened.
async fn survives(program: &Program, held: Held) -> Result<(), String> {
    let status = program.drain_status().await?;
    if held.is_finished() {
        return Err("the held request ended before the drain was looked at: it should take longer".to_owned());
    }
    if status.inflight == 0 || status.state != DrainState::Draining {
        return Err(format!("with a request in flight: state {:?}, inflight {}", status.state, status.inflight));
    }
    ends_whole(held).await
}

async fn ends_whole(held: Held) -> Result<(), String> {
    match held.await {
        Ok(Ok(answer)) if answer.status.is_success() => Ok(()),
        Ok(Ok(answer)) => Err(format!("the held request was answered {}", answer.status)),
        Ok(Err(error)) => Err(format!("the held request was cut: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

fn expect_status(found: StatusCode, expected: StatusCode) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("it answers {found}")) }
}

async fn and(first: Result<(), String>, second: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    first?;
    second.await
}

/// Looks until there is something to see; `None` after `limit`.
async fn eventually<T, F: Future<Output = Result<Option<T>, String>>>(
    limit: Duration,
    look: impl Fn() -> F,
) -> Result<Option<T>, String> {
    let began = Instant::now();
    loop {
        match look().await? {
            Some(seen) => return Ok(Some(seen)),
            None if began.elapsed() > limit => return Ok(None),
            None => sleep(LOOK).await,
        }
    }
}
