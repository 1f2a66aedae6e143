//! What people read of an act: its line, the steps, where every generation then stands, why nothing more is done,
//! and when the slot wants to be asked again.

use std::fmt::Write as _;

use supervisor_protocol::Tick;
use supervisor_protocol::admin::VerbRefused;

use super::words::{act_line, seconds, short, step_line};
use super::{Played, Replay};
use crate::slot::{Slot, Step};

/// Of a hash, so many digits are shown.
const DIGITS: usize = 8;

/// One paragraph of a transcript.
#[derive(Debug, Clone, Copy)]
pub struct Told<'p> {
    pub line: &'p str,
    pub at: Tick,
    pub steps: &'p [Step],
    /// Why an order was not taken.
    pub refused: Option<&'p VerbRefused>,
    /// The slot as it was left.
    pub slot: &'p Slot,
}

impl Told<'_> {
    /// The paragraph, with so many digits of every hash.
    #[must_use]
    pub fn text(&self, digits: usize) -> String {
        let Told { line, at, steps, refused, slot } = *self;
        let mut text = format!("{line}\n");
        // Writing to a string does not fail.
        if let Some(refused) = refused {
            writeln!(text, "    no, {}: {refused}", refused.code()).ok();
        }
        for step in steps {
            writeln!(text, "    -> {}", step_line(step, digits)).ok();
        }
        let phases: Vec<String> = slot
            .generations()
            .map(|generation| {
                let sha256 = short(&generation.sha256(), digits);
                format!("{}({sha256})={}", generation.number, generation.phase().as_str())
            })
            .collect();
        writeln!(text, "    is  {}", if phases.is_empty() { "empty".to_owned() } else { phases.join(" ") }).ok();
        for reason in slot.reasons(at) {
            writeln!(text, "    why {}: {reason}", reason.code()).ok();
        }
        if let Some((at, why)) = slot.wake() {
            writeln!(text, "    wake {} for {why}", seconds(at)).ok();
        }
        text
    }
}

impl Replay {
    /// The whole recording for people.
    #[must_use]
    pub fn transcript(&self) -> String {
        let head = format!("t={} recording of {}, by version {}", seconds(self.start.seen), self.slot, self.version);
        let start = Told { line: &head, at: self.start.seen, steps: &[], refused: None, slot: &self.start };
        self.played.iter().fold(start.text(DIGITS), |text, played| text + &played.paragraph())
    }
}

impl Played {
    /// What was done, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        act_line(&self.act, DIGITS)
    }

    fn paragraph(&self) -> String {
        let Played { at, steps, refused, slot, .. } = self;
        let line = format!("t={} {}", seconds(*at), self.line());
        Told { line: &line, at: *at, steps, refused: refused.as_ref(), slot }.text(DIGITS)
    }
}
