//! The catalog as the daemon follows it: read the source, judge the document, keep it, publish it.
//!
//! ```text
//! source ──bytes──▶ follower ──state_dir/catalog.json──▶ watch<CatalogView> ──▶ the manager
//! (poll)            (parse, tracker)   kept first               published second
//! ```
//!
//! One task, [`start`], owns all of it and ends with the last receiver. A source that cannot be read
//! changes nothing but a reason: what was in force stays, also over a restart. Must not live here: the
//! rules of documents and removals, which are pure ([`versiond_core::catalog`]).

mod address;
mod cosmovisor;
mod files;
mod follower;
mod height;
pub(crate) mod http;
mod judge;
mod keep;
mod overrides;
mod source;
mod staging;
mod trust;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use router_dataplane::Clock;
use supervisor_protocol::admin::CatalogStatus;
use supervisor_protocol::catalog::{CatalogCheck, CatalogOrigin, CatalogReport, CheckRequest};
use supervisor_protocol::time::millis;
use supervisor_protocol::{Reason, SCHEMA, Tick};
use tokio::sync::{mpsc, oneshot, watch};
use versiond_core::catalog::{Desired, ParseContext, shown};

use crate::catalog::follower::Follower;
use crate::catalog::height::HeightReader;
use crate::catalog::judge::Judge;
use crate::catalog::source::{KnownHeights, Reader};
use crate::config::{CatalogConfig, CatalogSource, Config};

pub use cosmovisor::CosmovisorError;
pub(crate) use judge::CheckError;
pub use source::SourceError;
pub(crate) use staging::{StagingStates, stage};
pub use trust::Untrusted;

pub use versiond_core::catalog::PLATFORM;

/// The first pause after a failure while nothing is known at all.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Between two looks at a Cosmovisor's folder: a node that has stopped for its upgrade waits for it.
const FOLDER_PAUSE: Duration = Duration::from_secs(1);

/// What is in force, and what is known of the source.
#[derive(Debug, Clone)]
pub struct CatalogView {
    pub desired: Arc<Desired>,
    /// Whether `desired` comes from a document, read now or kept from before, and not from knowing none.
    pub is_known: bool,
    /// As of the last reading.
    pub status: CatalogStatus,
    /// When the source last gave a good document.
    pub read_at: Option<Tick>,
    pub origin: CatalogOrigin,
    /// The next document is taken as a first one.
    pub reset: bool,
    /// Why the height is not known now.
    pub height_unknown: Option<String>,
    /// As it was read and kept.
    pub document: Option<Arc<serde_json::Value>>,
    judge: Arc<Judge>,
}

/// The way to the catalog for whoever asks about it, or has it read again.
#[derive(Debug, Clone)]
pub(crate) struct CatalogHandle {
    view: watch::Receiver<CatalogView>,
    ask: mpsc::Sender<Accept>,
    staging: StagingStates,
    config: Arc<CatalogConfig>,
    clock: Clock,
}

/// An operator's word that the source is to be read now.
struct Accept {
    reset: bool,
    /// What this host takes, when that has changed.
    context: Option<ParseContext>,
    /// Why the reading was not used, if it was not.
    answer: oneshot::Sender<Option<Reason>>,
}

/// Why the source could not be read again.
#[derive(Debug, thiserror::Error)]
#[error("nobody follows the catalog any more")]
pub(crate) struct NotFollowed;

impl CatalogHandle {
    /// What is in force, with the document.
    pub(crate) fn report(&self) -> (CatalogReport, Option<Arc<serde_json::Value>>) {
        let view = self.view.borrow();
        let slots = &view.desired.slots;
        let report = CatalogReport {
            schema: SCHEMA,
            status: CatalogStatus {
                read_ms_ago: view.read_at.map(|read| millis(self.clock.now().since(read))),
                ..view.status.clone()
            },
            origin: view.origin,
            signed: self.config.trust_key.is_some(),
            reset: view.reset,
            height: view.desired.height,
            height_unknown: view.height_unknown.clone(),
            slots: slots.iter().map(|(slot, intent)| shown(slot, intent, |of| self.staging.of(of))).collect(),
            deny: view.desired.deny.iter().copied().collect(),
        };
        (report, view.document.clone())
    }

    /// Reads the source now; with `reset`, what it says is taken as a first document. Answers with why it was
    /// not used, if it was not.
    pub(crate) async fn accept(&self, reset: bool) -> Result<Option<Reason>, NotFollowed> {
        let (answer, answered) = oneshot::channel();
        self.ask.send(Accept { reset, context: None, answer }).await.map_err(|_| NotFollowed)?;
        answered.await.map_err(|_| NotFollowed)
    }

    /// Reads the source now, for a host that takes other services than before.
    pub(crate) async fn reconfigure(&self, context: ParseContext) -> Result<(), NotFollowed> {
        let (answer, answered) = oneshot::channel();
        let ask = Accept { reset: false, context: Some(context), answer };
        self.ask.send(ask).await.map_err(|_| NotFollowed)?;
        // The manager may start on the services at once: until the source is read, what was kept is in force.
        drop(answered);
        Ok(())
    }

    /// What a document would do here.
    pub(crate) async fn check(&self, request: CheckRequest) -> Result<CatalogCheck, CheckError> {
        let judge = self.view.borrow().judge.clone();
        judge.check(&self.config, request, self.clock.now()).await
    }

    pub(crate) fn staging(&self) -> StagingStates {
        self.staging.clone()
    }
}

/// Makes TLS available to the whole process. Harmless when called again.
pub fn install_tls() {
    // An error says that a provider is installed already, which is what is wanted.
    rustls::crypto::ring::default_provider().install_default().ok();
}

/// Follows the configured source until every receiver is gone. The first view holds what was kept from
/// before. Needs a runtime.
pub fn start(config: &Config, clock: Clock) -> Result<watch::Receiver<CatalogView>, SourceError> {
    follow_from(config, clock).map(|(view, _)| view)
}

/// The same, with the way to it.
pub(crate) fn open(
    config: &Config,
    clock: Clock,
) -> Result<(watch::Receiver<CatalogView>, CatalogHandle), SourceError> {
    let (view, ask) = follow_from(config, clock)?;
    let config = Arc::new(config.catalog.clone());
    let handle = CatalogHandle { view: view.clone(), ask, staging: StagingStates::default(), config, clock };
    Ok((view, handle))
}

fn follow_from(
    config: &Config,
    clock: Clock,
) -> Result<(watch::Receiver<CatalogView>, mpsc::Sender<Accept>), SourceError> {
    let follower = Follower::open(config);
    let is_folder = matches!(config.catalog.source, CatalogSource::Cosmovisor(_));
    let reader = Reader::new(&config.catalog, follower.kept_snapshot())?;
    let heights = HeightReader::new(&config.catalog, is_folder)
        .map_err(|source| SourceError::Http { place: "[catalog] height".to_owned(), source })?;
    let poll = if is_folder { config.catalog.poll.min(FOLDER_PAUSE) } else { config.catalog.poll };
    let (publish, view) = watch::channel(follower.view(clock.now()));
    let (ask, asked) = mpsc::channel(4);
    tokio::spawn(follow(Following { reader, heights, follower, poll, clock, publish, asked }));
    Ok((view, ask))
}

/// What the task of following owns.
struct Following {
    reader: Reader,
    heights: HeightReader,
    follower: Follower,
    poll: Duration,
    clock: Clock,
    publish: watch::Sender<CatalogView>,
    asked: mpsc::Receiver<Accept>,
}

async fn follow(following: Following) {
    let Following { mut reader, heights, mut follower, poll, clock, publish, mut asked } = following;
    let mut failures = 0u32;
    let mut accept: Option<Accept> = None;
    loop {
        if accept.as_ref().is_some_and(|accept| accept.reset) {
            follower.reset();
        }
        if let Some(context) = accept.as_mut().and_then(|accept| accept.context.take()) {
            follower.reconfigure(context);
            publish.send_replace(follower.view(clock.now()));
        }
        let reached = follower.height();
        let read = async {
            // The height first, so that a document is never judged by one that was read after it.
            let height = heights.read().await;
            let known = KnownHeights { now: height.as_ref().ok().copied(), reached };
            (reader.read(known).await, height)
        };
        let (reading, height) = tokio::select! {
            () = publish.closed() => return,
            read = read => read,
        };
        // Keeping a document waits for the disk.
        let taken = tokio::task::spawn_blocking(move || {
            follower.take(reading, height, clock.now());
            follower
        });
        follower = match taken.await {
            Ok(follower) => follower,
            Err(error) => {
                tracing::error!(%error, "the catalog's task failed; what is in force stays");
                return;
            }
        };
        let view = follower.view(clock.now());
        failures = if view.is_known { 0 } else { failures.saturating_add(1) };
        if let Some(Accept { answer, .. }) = accept.take() {
            // Who asked may be gone.
            answer.send(view.status.reason.clone()).ok();
        }
        publish.send_replace(view);
        let pause = if failures == 0 { poll } else { poll.min(FIRST_PAUSE * (1 << failures.min(6))) };
        tokio::select! {
            () = publish.closed() => return,
            () = tokio::time::sleep(spread(pause)) => {}
            // Without anybody who could ask, the pause is all.
            Some(asks) = asked.recv() => accept = Some(asks),
        }
    }
}

/// Up to a tenth later, so that hosts that were started together do not ask together.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + rand::rng().random_range(0.0..0.1))
}
