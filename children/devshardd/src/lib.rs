//! The session host: inference sessions as streams of events, each inference run at most once.
//!
//! `app` has the routes, `host` runs inferences, `flight` is one that runs, `engine` is what runs a model, `ledger` knows
//! where sessions are, `members` are the others of a group, `checks` checks what they have said, `escrows` says whose
//! sessions are served, `storage` is the place of record, `peers` proves that it is one, `config` is what it is told,
//! `refusal` what it says instead of a stream. What is decided without
//! doing anything is in `devshard-core`.

pub mod app;
pub mod checks;
pub mod config;
pub mod engine;
pub mod escrows;
pub mod flight;
pub mod held;
pub mod host;
pub mod ledger;
pub mod members;
pub mod metrics;
pub mod peers;
pub mod refusal;
pub mod storage;

use std::error::Error;
use std::sync::Arc;

use children_kit::backend::{self, Lost};
use children_kit::hysteresis::Health;
use children_kit::log::chain;
use children_kit::settings::Settings;
use devshard_core::ids::{Epoch, OwnerId};
use supervisor_sdk::Context;
use supervisor_sdk::axum::Router;

use app::App;
use checks::{Checks, Tools};
use config::{Config, Validation};
use held::Held;
use host::Host;
use ledger::Ledger;
use members::Members;
use metrics::Counters;
use peers::{MISMATCH, Peers};
use storage::Storage;

/// Why this host is not ready.
const UNAVAILABLE: &str = "storage_unavailable";

/// Everything that is served; ready once the place of record answers.
pub async fn serve(context: Context, counters: Counters) -> Result<Router, Box<dyn Error + Send + Sync>> {
    // Whoever comes first installs one; a second is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::of(&Settings::of_process(), context.data_dir())?;
    let readiness = context.readiness();
    readiness.initializing("the database is opened");
    let waiting = {
        let readiness = readiness.clone();
        move |error: &sqlx::Error| {
            tracing::warn!(%error, "the database is waited for");
            readiness.unready(format!("{UNAVAILABLE}: {error}"));
        }
    };
    let storage = Storage::open(&config.database, owner()?, config.fault, waiting).await?;
    // Without a lease nothing may be claimed.
    storage.renew().await?;
    let kept_from = kept_from(&config);
    if let Some(from) = kept_from {
        let gone = storage.prune(from).await?;
        tracing::info!(%from, gone, "epochs before are forgotten");
    }
    let database = storage.uuid().await?;
    tracing::info!(database, owner = %storage.me(), "the place of record is open");
    let life = tokio::spawn(host::stay_alive(storage.clone()));
    let peers = Peers::new(config.peers)?;
    readiness.initializing("other hosts are asked whether they read what is written here");
    peers.ask(&storage).await?;
    tokio::spawn(peers.clone().follow(storage.clone()));
    let health = match peers.mismatch() {
        Some(mismatch) => {
            readiness.unready(format!("{MISMATCH}: {mismatch}"));
            Health::UNSEEN
        }
        None => {
            readiness.ready();
            Health::UNSEEN.after(true)
        }
    };
    let (probed, known) = (storage.clone(), peers.clone());
    let probe = async move || match known.mismatch() {
        Some(mismatch) => Err(Lost { reason: MISMATCH, why: mismatch.to_string() }),
        None => probed.probe().await.map_err(|error| Lost { reason: UNAVAILABLE, why: chain(&error) }),
    };
    tokio::spawn(backend::follow("database", readiness, health, probe));

    let ledger = Ledger::new(storage.clone(), config.key).ok_or("the key of this host has no address")?;
    let escrows = Arc::new(config.escrows);
    let members = Members::new(ledger.clone(), Arc::clone(&escrows), storage.clone(), counters.clone())?;
    let checks = Checks::new(Tools {
        mode: config.validation,
        ttl: config.validation_ttl,
        within: config.within,
        storage: storage.clone(),
        ledger: ledger.clone(),
        members: members.clone(),
        escrows: Arc::clone(&escrows),
        engine: config.engine.clone(),
        counters: counters.clone(),
    });
    if config.validation != Validation::Off {
        tokio::spawn(checks.clone().follow(config.validation_every));
    }
    let host = Host::new(context.clone(), storage.clone(), ledger.clone(), config.engine, counters.clone());
    tokio::spawn(host.clone().leave(life));
    let version = context.identity().version.as_ref().map_or_else(|| "standalone".to_owned(), ToString::to_string);
    Ok(app::router(App {
        context,
        storage,
        ledger,
        host,
        escrows,
        members,
        checks,
        version,
        within: config.within,
        counters,
        held: Held::default(),
        peers,
        kept_from,
    }))
}

/// The first epoch that is kept, where a number of them is set and the escrows tell which runs.
fn kept_from(config: &Config) -> Option<Epoch> {
    let latest = config.escrows.latest_epoch()?;
    Some(Epoch((latest.0 + 1).saturating_sub(config.keep_epochs?)))
}

/// This process, and no other: what runs under a name that has been used before would be taken for what was.
fn owner() -> Result<OwnerId, Box<dyn Error + Send + Sync>> {
    Ok(format!("{}-{}", std::process::id(), uuid::Uuid::new_v4()).parse()?)
}
