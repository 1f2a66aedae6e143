//! The clients: what a user of the services behind versiond would do, with every answer checked.
//!
//! Tasks: per slot some [`short`] clients on connections that stay open, [`stream`] clients that replace each
//! stream as it ends, [`upload`]s and [`websocket`]s. All write into the book and end when the world winds
//! down or their slot is gone.

pub mod connection;
pub mod short;
pub mod stream;
pub mod upload;
pub mod websocket;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::options::Load;
use crate::scenario::Slot;
use crate::world::World;

/// After an operation that failed: long enough not to spin, short enough to notice that it works again.
pub(crate) const AFTER_A_FAILURE: Duration = Duration::from_millis(100);
/// Longer than versiond holds a request, so that its own refusal is what clients see.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Starts all clients. They are done when the tracker is.
#[must_use]
pub fn start(world: &Arc<World>, load: &Load) -> TaskTracker {
    let tracker = TaskTracker::new();
    let mut seed = load.seed;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed
    };
    for slot in (0..load.slots).map(Slot) {
        let share = load.streams / load.slots + usize::from(slot.0 < load.streams % load.slots);
        for at in 0..share {
            let after = load.ramp.mul_f64(at as f64 / share as f64);
            tracker.spawn(stream::run(Arc::clone(world), slot, load.lengths, after, next()));
        }
        for _ in 0..load.short_per_slot {
            let every = Duration::from_secs_f64((load.slots * load.short_per_slot) as f64 / load.rps.max(0.1));
            tracker.spawn(short::run(Arc::clone(world), slot, every, next()));
        }
        for _ in 0..load.uploads_per_slot {
            tracker.spawn(upload::run(Arc::clone(world), slot, next()));
        }
        for _ in 0..load.websockets_per_slot {
            tracker.spawn(websocket::run(Arc::clone(world), slot, load.lengths, next()));
        }
    }
    tracker.close();
    tracker
}

/// Whether a slot answers a short request now. Not counted.
pub async fn is_answered(host: std::net::SocketAddr, slot: Slot) -> bool {
    let path = format!("/{slot}/hello");
    let asked = async {
        let request = connection::request(http::Method::GET, &path, connection::whole(bytes::Bytes::new()))?;
        connection::Connection::open(host, ANSWER_WITHIN).await?.exchange(request, ANSWER_WITHIN).await
    };
    asked.await.is_ok()
}
