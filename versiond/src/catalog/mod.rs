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

mod follower;
pub(crate) mod http;
mod keep;
mod source;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use router_dataplane::Clock;
use supervisor_protocol::Tick;
use supervisor_protocol::admin::CatalogStatus;
use tokio::sync::watch;
use versiond_core::catalog::Desired;

use crate::catalog::follower::Follower;
use crate::catalog::source::Reader;
use crate::config::Config;

pub use source::SourceError;

/// This machine, as catalogs name it.
pub const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

/// The first pause after a failure while nothing is known at all.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

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
}

/// Makes TLS available to the whole process. Harmless when called again.
pub fn install_tls() {
    // An error says that a provider is installed already, which is what is wanted.
    rustls::crypto::ring::default_provider().install_default().ok();
}

/// Follows the configured source until every receiver is gone. The first view holds what was kept from
/// before. Needs a runtime.
pub fn start(config: &Config, clock: Clock) -> Result<watch::Receiver<CatalogView>, SourceError> {
    let reader = Reader::new(&config.catalog)?;
    let follower = Follower::open(config);
    let (publish, view) = watch::channel(follower.view(clock.now()));
    tokio::spawn(follow(reader, follower, config.catalog.poll, clock, publish));
    Ok(view)
}

async fn follow(
    reader: Reader,
    mut follower: Follower,
    poll: Duration,
    clock: Clock,
    publish: watch::Sender<CatalogView>,
) {
    let mut failures = 0u32;
    loop {
        let reading = tokio::select! {
            () = publish.closed() => return,
            reading = reader.read() => reading,
        };
        // Keeping a document waits for the disk.
        let taken = tokio::task::spawn_blocking(move || {
            follower.take(reading, clock.now());
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
        publish.send_replace(view);
        let pause = if failures == 0 { poll } else { poll.min(FIRST_PAUSE * (1 << failures.min(6))) };
        tokio::select! {
            () = publish.closed() => return,
            () = tokio::time::sleep(spread(pause)) => {}
        }
    }
}

/// Up to a tenth later, so that hosts that were started together do not ask together.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + rand::rng().random_range(0.0..0.1))
}
