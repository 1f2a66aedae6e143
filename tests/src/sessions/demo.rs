//! Builds of devshardd are rolled under sessions that ask for one inference after the other. Their state is a file of
//! the host, so that old and new take turns and requests wait meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use serde_json::{Value, json};
use supervisor_protocol::admin::Phase;
use tokio::task::JoinSet;

use super::client::{End, Session};
use crate::artifacts::sha256;
use crate::catalog::SERVICE;
use crate::supervisor::Supervisor;
use crate::supervisor::config::{Config, pick_ports};

const VERSION: &str = "v0.3";
const TOKENS: u32 = 20;
const TOKEN_EVERY: &str = "50ms";
/// No change takes longer.
const WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// As catalogs name this machine.
const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub rolls: u32,
    pub sessions: usize,
    pub inferences: u64,
    /// Those that were heard from the receipt to the meta event.
    pub whole: u64,
    /// The first few of the others, in words.
    pub wrong: Vec<String>,
    /// How often the engine has run.
    pub runs: u64,
    /// Inferences that it has run more than once.
    pub doubled: u64,
    /// The longest time from a request to its first event: it holds the wait of a change.
    pub longest_wait_ms: u64,
}

impl Report {
    /// Whether nothing was cut, and everything was run once.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.whole == self.inferences && self.runs == self.inferences && self.doubled == 0
    }
}

/// Runs it in `folder`, with `versiond` and `devshardd` of `programs`; `say` is told what goes on.
pub async fn run(
    programs: &Utf8Path,
    folder: &Utf8Path,
    sessions: usize,
    rolls: u32,
    say: impl Fn(&str),
) -> anyhow::Result<Report> {
    let (listen, child_ports) = pick_ports()?;
    let journal = folder.join("journal");
    let catalog = folder.join("catalog.json");
    let config = Config::new((listen, child_ports), format!("file:{catalog}"), 60);
    let supervisor = Supervisor::new(&programs.join("versiond"), folder, &config, None)?;
    tell(folder, &journal)?;
    let builds = [build(programs, folder, "a")?, build(programs, folder, "b")?];
    publish(&catalog, 1, &builds[0])?;
    supervisor.start()?;
    settled(&supervisor, &builds[0].1).await?;
    say(&format!(
        "devshardd serves at http://{listen}/{VERSION}; {sessions} sessions ask for one inference after the other"
    ));

    let stop = Arc::new(AtomicBool::new(false));
    let mut asking = JoinSet::new();
    for number in 0..sessions {
        asking.spawn(ask(listen, Session::new(&format!("session-{number}")), Arc::clone(&stop)));
    }
    let mut report = Report { rolls, sessions, ..Report::default() };
    for roll in 1..=rolls {
        let next = &builds[usize::try_from(roll % 2)?];
        let begun = Instant::now();
        publish(&catalog, u64::from(roll) + 1, next)?;
        settled(&supervisor, &next.1).await?;
        say(&format!("roll {roll}: the next build serves after {:.1} s", begun.elapsed().as_secs_f64()));
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(asked) = asking.join_next().await {
        let asked = asked?;
        report.inferences += asked.inferences;
        report.whole += asked.whole;
        report.longest_wait_ms = report.longest_wait_ms.max(asked.longest_wait_ms);
        report.wrong.extend(asked.wrong);
    }
    report.wrong.truncate(10);
    supervisor.stop(WITHIN).await?;
    let runs = std::fs::read_to_string(&journal)?.lines().fold(BTreeMap::new(), |mut runs, line| {
        *runs.entry(line.to_owned()).or_insert(0_u64) += 1;
        runs
    });
    report.runs = runs.values().sum();
    report.doubled = runs.values().filter(|times| **times > 1).count() as u64;
    Ok(report)
}

/// What one session has seen.
#[derive(Debug, Default)]
struct Asked {
    inferences: u64,
    whole: u64,
    wrong: Vec<String>,
    longest_wait_ms: u64,
}

async fn ask(host: std::net::SocketAddr, session: Session, stop: Arc<AtomicBool>) -> Asked {
    let (mut asked, mut owed) = (Asked::default(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        asked.inferences += 1;
        let (begun, mut first) = (Instant::now(), None);
        // What the host has said of one inference is in the step that asks for the next.
        let request = session.asks_with(&format!("/{VERSION}"), asked.inferences, TOKENS, &owed, 0);
        let heard = request.resume(host, None, |_| first = first.or_else(|| Some(begun.elapsed()))).await;
        owed = heard.owed();
        let waited = first.unwrap_or_else(|| begun.elapsed());
        asked.longest_wait_ms = asked.longest_wait_ms.max(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
        match (&heard.end, heard.is_whole(TOKENS)) {
            (End::Whole, Ok(())) => asked.whole += 1,
            (_, wrong) => {
                let why = wrong.err().unwrap_or_default();
                asked.wrong.push(format!("{}, inference {}: {why}", session.escrow, asked.inferences));
                // What follows would only miss its predecessor.
                return asked;
            }
        }
    }
    asked
}

/// The settings of the child, in the configuration that the demo has written.
fn tell(folder: &Utf8Path, journal: &Utf8Path) -> anyhow::Result<()> {
    let path = folder.join("versiond.toml");
    let text = std::fs::read_to_string(&path)?;
    let told = "env = { DEMO_HOST = \"demo\" }";
    ensure!(text.contains(told), "the configuration has changed: {text}");
    let env = format!("env = {{ DEVSHARD_ECHO_EVERY = \"{TOKEN_EVERY}\", DEVSHARD_ECHO_JOURNAL = \"{journal}\" }}");
    Ok(std::fs::write(path, text.replace(told, &env))?)
}

/// A build: the same program, with a mark behind its last section.
fn build(programs: &Utf8Path, folder: &Utf8Path, mark: &str) -> anyhow::Result<(Utf8PathBuf, String)> {
    let from = programs.join("devshardd");
    let mut program = std::fs::read(&from).with_context(|| format!("cannot read {from}"))?;
    program.extend(mark.as_bytes());
    let path = folder.join(format!("devshardd-{mark}"));
    std::fs::write(&path, &program)?;
    Ok((path, sha256(&program).to_string()))
}

fn publish(catalog: &Utf8Path, revision: u64, (path, hash): &(Utf8PathBuf, String)) -> anyhow::Result<()> {
    let artifacts = json!({ PLATFORM: {"urls": [format!("file:{path}")], "sha256": hash} });
    let versions: Value = json!([{"name": VERSION, "releases": [{"artifacts": artifacts}]}]);
    let document =
        json!({"schema": 1, "revision": revision, "services": {SERVICE: {"versions": versions}}, "deny": []});
    let beside = catalog.with_extension("next");
    std::fs::write(&beside, document.to_string())?;
    Ok(std::fs::rename(beside, catalog)?)
}

/// Waits until nothing but this build is left of the slot, and it serves.
async fn settled(supervisor: &Supervisor, hash: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        if let Ok(status) = supervisor.status().await
            && let Some(slot) = status.slots.first()
            && let [only] = &slot.generations[..]
            && only.phase == Phase::Serving
            && only.sha256.to_string() == hash
        {
            return Ok(());
        }
        ensure!(supervisor.exited().is_none(), "versiond has ended:\n{}", supervisor.last_words(10));
        ensure!(begun.elapsed() < WITHIN, "not within {WITHIN:?}:\n{}", supervisor.last_words(10));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
