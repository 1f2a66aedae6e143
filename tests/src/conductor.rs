//! Runs one demo: starts everything, carries the plan out step by step, waits for each step to be *seen*,
//! winds down, stops everything, and adds up.
//!
//! Tasks beside it: the catalog server, the clients, the watcher of `/v1/status`, the view, the killer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use camino::Utf8Path;
use parking_lot::Mutex;
use supervisor_protocol::admin::WhyReason;
use tokio_util::sync::CancellationToken;

use crate::catalog::Catalog;
use crate::clients;
use crate::killer::{self, Kill};
use crate::options::Options;
use crate::processes;
use crate::report::{Facts, Report, Trial};
use crate::scenario::{self, Change, Plan, Revision, Slot};
use crate::stand::Stand;
use crate::supervisor::Supervisor;
use crate::view::{self, Output};
use crate::watcher::{self, Observed};
use crate::world::World;

/// From a new revision until clients see it: a poll, a download, a start, all slots at once on few cores.
const SEEN_WITHIN: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const WARM_UP: Duration = Duration::from_secs(3);

/// Runs a whole demo in `folder` with these programs.
pub async fn run(
    options: &Options,
    programs: (&Utf8Path, &Utf8Path),
    folder: &Utf8Path,
    version: String,
    output: Output,
) -> anyhow::Result<Report> {
    let plan = scenario::plan(&options.plan());
    let longest = options.load().lengths.max_ms.div_ceil(1_000);
    let stand = Stand::raise(folder, programs, &plan.first, options.sabotage, longest).await?;
    let interrupted = watch_signals(&stand.world);
    let stage = Stage {
        longest: Duration::from_secs(longest),
        world: Arc::clone(&stand.world),
        catalog: Arc::clone(&stand.catalog),
        supervisor: Arc::clone(&stand.supervisor),
        observed: Arc::default(),
        missed: Mutex::default(),
        trials: Mutex::default(),
    };
    let played = stage.play(options, &plan, &stand, output).await;
    stage.clear_away(options).await;
    let kills = played?;
    let facts = Facts {
        versiond: version,
        sabotage: options.sabotage,
        swaps_planned: plan.swaps() as u64,
        alive_floor: options.alive_floor(),
        seconds: stand.world.now().0 as f64 / 1_000.0,
        trials: stage.trials.into_inner(),
        kills,
        interrupted: interrupted.is_cancelled(),
        missed: stage.missed.into_inner(),
        receipts: stage.observed.receipts(),
    };
    let report = Report::new(&stand.world.book.lock(), facts);
    Ok(report)
}

struct Stage {
    longest: Duration,
    world: Arc<World>,
    catalog: Arc<Catalog>,
    supervisor: Arc<Supervisor>,
    observed: Arc<Observed>,
    missed: Mutex<Vec<String>>,
    trials: Mutex<Vec<Trial>>,
}

impl Stage {
    /// From the first answer to the end of the last stream.
    async fn play(&self, options: &Options, plan: &Plan, stand: &Stand, output: Output) -> anyhow::Result<Vec<Kill>> {
        let Self { world, catalog, supervisor, observed, .. } = self;
        tokio::spawn(watcher::run(Arc::clone(world), Arc::clone(supervisor), Arc::clone(observed)));
        stand.first_answers(plan.first.len()).await?;
        let show = view::run(Arc::clone(world), Arc::clone(catalog), Arc::clone(observed), plan.swaps(), output);
        tokio::spawn(show);
        let load = options.load();
        let tracker = clients::start(world, &load);
        let streams = load.streams as u64;
        self.until(SEEN_WITHIN, "the streams at the start", async || world.book.lock().open() >= streams).await;
        world.pause(WARM_UP).await;

        let hurry = CancellationToken::new();
        let span = (self.longest + Duration::from_secs(3)) * u32::try_from(plan.revisions.len()).unwrap_or(u32::MAX);
        let (shared, times, seed) = (Arc::clone(world), options.kill, options.seed);
        let killer = killer::run(shared, Arc::clone(supervisor), Arc::clone(catalog), times, span, hurry.clone(), seed);
        let killer = tokio::spawn(killer);
        for revision in &plan.revisions {
            self.enact(revision).await;
        }
        hurry.cancel();
        let kills = killer.await.context("the killer broke down")?;
        world.wind_down.cancel();
        let ended = self.longest + Duration::from_secs(30);
        let all_ended = async { tokio::time::timeout(ended, tracker.wait()).await };
        tokio::select! {
            ended = all_ended => if ended.is_err() { self.miss("some clients did not come to an end") },
            () = world.stop.cancelled() => {}
        }
        self.comes_to_rest().await;
        kills
    }

    /// Puts a revision out once its slots are free for it, and waits until all of it is seen.
    async fn enact(&self, revision: &Revision) {
        let slots: Vec<String> = revision.changes.iter().map(|(slot, _)| slot.name()).collect();
        let (before, names) = (format!("the drains of {}", slots.join(", ")), revision);
        self.until(self.longest + SEEN_WITHIN, &before, async || self.are_free(names)).await;
        self.until(SEEN_WITHIN * 4, "the host at rest", async || !self.world.is_settling()).await;
        if self.world.stop.is_cancelled() {
            return;
        }
        self.catalog.publish(revision);
        for (slot, change) in &revision.changes {
            self.see(*slot, *change).await;
        }
    }

    /// At most one generation of a slot drains at a time: with another still leaving, a change would wait.
    fn are_free(&self, revision: &Revision) -> bool {
        let Some(status) = self.observed.status() else { return false };
        revision.changes.iter().all(|(slot, _)| {
            watcher::slot_of(&status, *slot)
                .is_some_and(|one| watcher::serving(one).is_some() && watcher::leaving(one).next().is_none())
        })
    }

    async fn see(&self, slot: Slot, change: Change) {
        let book = &self.world.book;
        match change {
            Change::Swap(build) => {
                let what = format!("the swap of {slot} to build {build}");
                self.until(SEEN_WITHIN, &what, async || book.lock().line(slot).is_current()).await;
            }
            Change::WrongHash { .. } => self.refusal(slot, "wrong hash", &["hash_mismatch"]).await,
            Change::NeverReady => self.refusal(slot, "never ready", &["never_ready"]).await,
            Change::Remove => {
                let what = format!("the removal of {slot}");
                self.until(SEEN_WITHIN, &what, async || book.lock().line(slot).is_gone()).await;
            }
        }
    }

    /// Waits until versiond says why it does not take a change. Clients who see it taken end the wait.
    async fn refusal(&self, slot: Slot, what: &'static str, codes: &[&str]) {
        let found = Mutex::new(None);
        let said = format!("the refusal of a {what} by {slot}");
        self.until(SEEN_WITHIN, &said, async || {
            *found.lock() = self.reason(slot, codes).await;
            found.lock().is_some() || self.world.book.lock().tally.sum(|counts| counts.wrong_binary) > 0
        })
        .await;
        if let Some(WhyReason { reason, text }) = found.into_inner() {
            let reason = reason.code().to_owned();
            self.trials.lock().push(Trial { what, slot: slot.name(), reason, text });
        }
    }

    async fn reason(&self, slot: Slot, codes: &[&str]) -> Option<WhyReason> {
        let why = self.supervisor.why().await.ok()?;
        let slot = why.slots.into_iter().find(|one| one.slot.name.as_str() == slot.name())?;
        slot.reasons.into_iter().find(|one| codes.contains(&one.reason.code()))
    }

    /// Every slot of the last catalog serves what it names, and nothing else is left.
    async fn comes_to_rest(&self) {
        let last = Mutex::new(Vec::new());
        let settled = async || {
            let Ok(status) = self.supervisor.status().await else { return false };
            let mut wrong = killer::unsettled(&status, &self.supervisor, &self.catalog);
            for slot in &status.slots {
                let serves = watcher::serving(slot).map(|one| one.sha256);
                if serves != slot.desired {
                    wrong.push(format!("{} serves {serves:?}, the catalog names {:?}", slot.slot, slot.desired));
                }
            }
            self.observed.take(status);
            *last.lock() = wrong;
            last.lock().is_empty()
        };
        if !self.until(self.longest + SEEN_WITHIN, "the host at rest in the end", settled).await {
            self.missed.lock().append(&mut last.lock());
        }
    }

    /// Waits for a condition; `false` and a note when it did not come in time. Time in which versiond is away
    /// because we killed it does not count.
    async fn until(&self, within: Duration, what: &str, condition: impl AsyncFn() -> bool) -> bool {
        let mut since = Instant::now();
        loop {
            if self.world.stop.is_cancelled() {
                return false;
            }
            if condition().await {
                return true;
            }
            if self.world.is_settling() {
                since = Instant::now();
            } else if let Some(status) = self.supervisor.exited() {
                self.miss(&format!("versiond ended by itself ({status}):\n{}", self.supervisor.last_words(10)));
                self.world.stop.cancel();
                return false;
            }
            if since.elapsed() > within {
                self.miss(&format!("{what}: not within {within:?}"));
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn miss(&self, what: &str) {
        self.missed.lock().push(what.to_owned());
    }

    /// Stops versiond and everything that it may have left.
    async fn clear_away(&self, options: &Options) {
        match self.supervisor.stop(self.longest + Duration::from_secs(60)).await {
            Ok(status) if !status.success() && options.sabotage.is_none() => {
                self.miss(&format!("versiond ended with {status} when it was told to stop"));
            }
            Ok(_) => {}
            Err(error) => self.miss(&format!("{error:#}")),
        }
        for process in processes::of_run(self.supervisor.folder()) {
            if options.sabotage.is_none() {
                self.miss(&format!("process {} of g{} was left over", process.pid, process.generation));
            }
            let pid = i32::try_from(process.pid).map(nix::unistd::Pid::from_raw);
            let _gone_meanwhile = pid.map(|pid| nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL));
        }
        self.world.stop.cancel();
    }
}

/// The first Ctrl-C or SIGTERM ends the run in order; what it cancels is returned.
pub(crate) fn watch_signals(world: &Arc<World>) -> CancellationToken {
    let interrupted = CancellationToken::new();
    let (world, token) = (Arc::clone(world), interrupted.clone());
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = world.stop.cancelled() => return,
        }
        token.cancel();
        world.stop.cancel();
    });
    interrupted
}
