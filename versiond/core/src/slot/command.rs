//! What an operator's verb does to a slot. The steps that follow are the plan's.
//!
//! Must not live here: who may ask, and keeping an order over a restart (both are the shell's).

use std::time::Duration;

use supervisor_protocol::Tick;
use supervisor_protocol::admin::{Verb, VerbRefused};

use super::Slot;
use crate::generation::State;

/// What a superseded drain still gets.
pub const SUPERSEDED: Duration = Duration::from_secs(30);

impl Slot {
    /// Takes an operator's order, or says why not. To be followed by `handle(Input::Tick)`.
    pub fn command(&mut self, verb: &Verb, now: Tick) -> Result<(), VerbRefused> {
        let nothing =
            |detail: &str| VerbRefused::NothingToDo { verb: verb.as_str().to_owned(), detail: detail.to_owned() };
        match verb {
            Verb::Supersede => {
                let drains = |state: &State| matches!(state, State::Retired { .. } | State::Draining { .. });
                if !self.generations.values().any(|generation| drains(&generation.state)) {
                    return Err(nothing("no generation of the slot drains"));
                }
                self.shorten_drains(now.after(SUPERSEDED));
                Ok(())
            }
            Verb::Retry => {
                if self.failures.is_empty() {
                    return Err(nothing("nothing has failed"));
                }
                self.failures.clear();
                Ok(())
            }
            Verb::Approve { .. }
            | Verb::Hold
            | Verb::Release
            | Verb::Rollback { .. }
            | Verb::Pin { .. }
            | Verb::Unpin
            | Verb::Restart => Err(nothing("this release does not have it")),
        }
    }
}
