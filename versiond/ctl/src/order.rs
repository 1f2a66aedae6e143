//! The orders to one slot: `approve`, `hold`, `rollback` and the rest. Each is one verb of the admin API,
//! and shows what became of the slot.

use clap::{Args, Subcommand};
use supervisor_protocol::admin::{Status, Verb};
use supervisor_protocol::{Sha256, SlotId};

use crate::args::{Output, slot};
use crate::client::Client;
use crate::failure::Failure;
use crate::status;
use crate::text::{out, out_json};

/// The slot that an order is for.
#[derive(Debug, Args)]
pub(crate) struct On {
    #[arg(value_name = "SERVICE/VERSION", value_parser = slot)]
    slot: SlotId,
    #[command(flatten)]
    output: Output,
}

/// An order as the command line has it.
#[derive(Debug, Subcommand)]
pub(crate) enum Order {
    /// Say yes to what waits for it: a staged release, a first start, an interruption.
    Approve {
        #[command(flatten)]
        on: On,
        /// Agree to the slot being away for as long as the plan says.
        #[arg(long)]
        accept_downtime: bool,
        /// Go before the hosts whose turn comes earlier.
        #[arg(long)]
        force_order: bool,
    },
    /// Keep the slot as it is, until `release`.
    Hold(On),
    /// Take a `hold` back.
    Release(On),
    /// Go back to what served before.
    Rollback {
        #[command(flatten)]
        on: On,
        /// Go back although the slot's data may not allow it.
        #[arg(long)]
        force: bool,
    },
    /// Run these bytes, or those that serve now, whatever the catalog says, until `unpin`.
    Pin {
        #[command(flatten)]
        on: On,
        /// Without it: what serves now.
        #[arg(value_name = "SHA256")]
        sha256: Option<Sha256>,
    },
    /// Follow the catalog again.
    Unpin(On),
    /// Try at once what waits for its pause, or was taken back.
    Retry(On),
    /// Replace what serves by another life of the same bytes.
    Restart(On),
    /// Shorten the deadlines of what drains, so that the next change comes sooner.
    Supersede(On),
}

impl Order {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (on, verb) = self.verb();
        let told = client.order(&on.slot, &verb).await?;
        if on.output.json {
            out_json(&told.json);
        } else {
            out(&render(&on.slot, &verb, &told.body));
        }
        Ok(())
    }

    fn verb(self) -> (On, Verb) {
        match self {
            Order::Approve { on, accept_downtime, force_order } => (on, Verb::Approve { accept_downtime, force_order }),
            Order::Hold(on) => (on, Verb::Hold),
            Order::Release(on) => (on, Verb::Release),
            Order::Rollback { on, force } => (on, Verb::Rollback { force }),
            Order::Pin { on, sha256 } => (on, Verb::Pin { sha256 }),
            Order::Unpin(on) => (on, Verb::Unpin),
            Order::Retry(on) => (on, Verb::Retry),
            Order::Restart(on) => (on, Verb::Restart),
            Order::Supersede(on) => (on, Verb::Supersede),
        }
    }
}

fn render(slot: &SlotId, verb: &Verb, now: &Status) -> String {
    let mut text = format!("{slot}: {} is in force\n", verb.as_str());
    if let Some(slot) = now.slots.iter().find(|status| status.slot == *slot) {
        text.push_str(&status::slots(std::slice::from_ref(slot)));
    }
    text
}
