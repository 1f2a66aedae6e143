//! A story, and questions to what it has led to.

use supervisor_protocol::admin::Phase;
use supervisor_protocol::{Generation, Reason, Tick};
use versiond_core::policy::Policy;
use versiond_core::slot::{Slot, Step};

use crate::script::{Played, Script};

/// What a story has led to.
pub(crate) struct Told {
    pub(crate) script: Script,
    pub(crate) played: Vec<Played>,
}

impl Told {
    pub(crate) fn story(text: &str) -> Told {
        let mut script = Script::new();
        let played = script.play(text);
        Told { script, played }
    }

    /// The same for a slot under this policy.
    pub(crate) fn under(policy: Policy, text: &str) -> Told {
        let mut script = Script::under(policy);
        let played = script.play(text);
        Told { script, played }
    }

    /// Goes on; only what happens from here counts as new.
    pub(crate) fn then(&mut self, text: &str) -> &mut Told {
        self.played = self.script.play(text);
        self
    }

    pub(crate) fn end(&self) -> &Played {
        self.played.last().unwrap()
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.end().slot
    }

    pub(crate) fn serving(&self) -> Option<u64> {
        self.slot().serving().map(|serving| serving.number.0)
    }

    /// Where a generation stands; `None` when it is gone.
    pub(crate) fn phase(&self, number: u64) -> Option<Phase> {
        self.slot().generations().find(|generation| generation.number.0 == number).map(|found| found.phase())
    }

    pub(crate) fn why(&self) -> Vec<&'static str> {
        self.slot().reasons(self.end().now).iter().map(Reason::code).collect()
    }

    pub(crate) fn wake(&self) -> Option<Tick> {
        self.slot().wake().map(|(at, _)| at)
    }

    /// Every new step.
    pub(crate) fn steps(&self) -> Vec<&Step> {
        self.played.iter().flat_map(|played| &played.steps).collect()
    }

    /// What this generation was begun of, by one of the new lines.
    pub(crate) fn began(&self, number: u64) -> Option<char> {
        self.steps().into_iter().find_map(|step| {
            let Step::Fetch(begun, of) = step else { return None };
            if *begun == Generation(number) { of.sha256.to_string().chars().next() } else { None }
        })
    }

    pub(crate) fn did(&self, step: &Step) -> bool {
        self.steps().contains(&step)
    }
}
