//! Kills versiond at random moments, starts it again, and looks whether everything is accounted for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use supervisor_protocol::admin::{Phase, Status};
use supervisor_protocol::time::millis;

use crate::catalog::Catalog;
use crate::clients::is_answered;
use crate::processes;
use crate::scenario::Slot;
use crate::supervisor::Supervisor;
use crate::world::World;

/// A supervisor that has not settled after a restart by then never will.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What came of one kill.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Kill {
    pub at_ms: u64,
    /// Until every slot answered again; absent = never.
    pub back_ms: Option<u64>,
    /// Until every process was accounted for and every slot had one generation; absent = never.
    pub settled_ms: Option<u64>,
    /// What was wrong when the time was up.
    pub wrong: Vec<String>,
}

/// Kills `times` times within about `span`. When `hurry` is cancelled the rest follow at once.
pub async fn run(
    world: Arc<World>,
    supervisor: Arc<Supervisor>,
    catalog: Arc<Catalog>,
    times: u32,
    span: Duration,
    hurry: tokio_util::sync::CancellationToken,
    seed: u64,
) -> anyhow::Result<Vec<Kill>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut kills = Vec::new();
    let share = span / times.max(1);
    for _ in 0..times {
        let pause = share.mul_f64(rng.random_range(0.05..1.0));
        let soon = Duration::from_millis(rng.random_range(200..2_000));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = async { hurry.cancelled().await; tokio::time::sleep(soon).await } => {}
            () = world.stop.cancelled() => return Ok(kills),
        }
        world.settle(true);
        let kill = kill(&world, &supervisor, &catalog).await;
        world.settle(false);
        kills.push(kill?);
    }
    Ok(kills)
}

async fn kill(world: &World, supervisor: &Supervisor, catalog: &Catalog) -> anyhow::Result<Kill> {
    let began = Instant::now();
    let at_ms = world.now().0;
    supervisor.kill_and_restart(|| world.book.lock().killed(world.now())).await?;
    let expired = || began.elapsed() > SETTLED_WITHIN || world.stop.is_cancelled() || supervisor.exited().is_some();
    let mut back_ms = None;
    let wrong = loop {
        let mut wrong = silent(world).await;
        if wrong.is_empty() {
            world.book.lock().recovered(world.now());
            back_ms.get_or_insert_with(|| millis(began.elapsed()));
            wrong = match supervisor.status().await {
                Ok(status) => unsettled(&status, supervisor, catalog),
                Err(error) => vec![format!("{error:#}")],
            };
        }
        if wrong.is_empty() || expired() {
            break wrong;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    // Whatever breaks from now on is counted, back or not.
    world.book.lock().recovered(world.now());
    let settled_ms = wrong.is_empty().then(|| millis(began.elapsed()));
    Ok(Kill { at_ms, back_ms, settled_ms, wrong })
}

/// The slots of the catalog that do not answer.
async fn silent(world: &World) -> Vec<String> {
    let slots: Vec<Slot> = {
        let book = world.book.lock();
        (0..book.lines.len()).map(Slot).filter(|slot| book.line(*slot).is_approved()).collect()
    };
    let mut silent = Vec::new();
    for slot in slots {
        if !is_answered(world.host, slot).await {
            silent.push(format!("{slot} does not answer"));
        }
    }
    silent
}

/// What is not as it should be once a host has come to rest: one serving generation for each slot of the
/// catalog, nothing on its way in or out, each process accounted for, no directory shared.
pub fn unsettled(status: &Status, supervisor: &Supervisor, catalog: &Catalog) -> Vec<String> {
    let mut wrong = Vec::new();
    for slot in &status.slots {
        let phases: Vec<Phase> = slot.generations.iter().map(|generation| generation.phase).collect();
        let live = phases.iter().filter(|phase| !matches!(phase, Phase::Exited | Phase::Failed)).count();
        let wanted = usize::from(slot.desired.is_some());
        if live != wanted {
            let phases: Vec<&str> = phases.iter().map(|phase| phase.as_str()).collect();
            wrong.push(format!("{} has {live} generations ({})", slot.slot, phases.join(", ")));
        }
    }
    if status.catalog.revision != Some(catalog.revision()) {
        wrong.push(format!("revision {:?} is in force, {} is out", status.catalog.revision, catalog.revision()));
    }
    wrong.extend(processes::unaccounted(&processes::of_run(supervisor.folder()), status));
    wrong
}
