//! An operator's order on its way to a slot: admin API → manager → the slot's actor, and its answer back.
//!
//! Must not live here: what a verb does (that is `versiond-core`), or how it is asked for (`admin`).

use supervisor_protocol::SlotId;
use supervisor_protocol::admin::{Verb, VerbRefused};
use tokio::sync::{mpsc, oneshot};

/// One order. The answer comes once it is in force, and on the disk where it must outlive a restart.
pub(crate) struct Command {
    pub(crate) slot: SlotId,
    pub(crate) verb: Verb,
    pub(crate) answer: Answer,
}

/// Where the answer to an order goes.
pub(crate) type Answer = oneshot::Sender<Result<(), VerbRefused>>;

/// The way to every slot.
#[derive(Debug, Clone)]
pub(crate) struct Commands(mpsc::Sender<Command>);

impl Commands {
    /// A way, and its end for the manager.
    pub(crate) fn new() -> (Commands, mpsc::Receiver<Command>) {
        let (tell, orders) = mpsc::channel(16);
        (Commands(tell), orders)
    }

    /// Gives an order and waits for its answer.
    pub(crate) async fn give(&self, slot: SlotId, verb: Verb) -> Result<(), VerbRefused> {
        let (answer, answered) = oneshot::channel();
        // The manager ends only with the host.
        self.0.send(Command { slot, verb, answer }).await.map_err(|_| VerbRefused::HostLeaving)?;
        answered.await.unwrap_or(Err(VerbRefused::HostLeaving))
    }
}
