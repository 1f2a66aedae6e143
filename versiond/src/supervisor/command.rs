//! An operator's order on its way to a slot: admin API → manager → the slot's actor, and its answer back.
//!
//! Must not live here: what a verb does (that is `versiond-core`), or how it is asked for (`admin`).

use supervisor_protocol::admin::{Verb, VerbRefused};
use supervisor_protocol::{Sha256, SlotId};
use tokio::sync::{mpsc, oneshot};

/// One order. The answer comes once it is in force, and on the disk where it must outlive a restart.
pub(crate) enum Command {
    /// To one slot.
    Verb { slot: SlotId, verb: Verb, answer: Answer },
    /// To the host: these bytes may not run here, or may again.
    Deny { sha256: Sha256, denied: bool, answer: Answer },
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

    /// Gives an order to a slot and waits for its answer.
    pub(crate) async fn give(&self, slot: SlotId, verb: Verb) -> Result<(), VerbRefused> {
        self.ask(|answer| Command::Verb { slot, verb, answer }).await
    }

    /// Lets these bytes run no more, wherever they do.
    pub(crate) async fn deny(&self, sha256: Sha256) -> Result<(), VerbRefused> {
        self.ask(|answer| Command::Deny { sha256, denied: true, answer }).await
    }

    /// Takes an operator's `deny` back. What the catalog denies stays denied.
    pub(crate) async fn allow(&self, sha256: Sha256) -> Result<(), VerbRefused> {
        self.ask(|answer| Command::Deny { sha256, denied: false, answer }).await
    }

    async fn ask(&self, command: impl FnOnce(Answer) -> Command) -> Result<(), VerbRefused> {
        let (answer, answered) = oneshot::channel();
        // The manager ends only with the host.
        self.0.send(command(answer)).await.map_err(|_| VerbRefused::HostLeaving)?;
        answered.await.unwrap_or(Err(VerbRefused::HostLeaving))
    }
}
