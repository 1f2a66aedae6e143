//! A world that is recorded as it lives, and its recording played again: it tells the same.

use supervisor_protocol::{ServiceName, SlotId, Tick, VersionName};
use versiond_core::replay::{Act, Recording, replay};
use versiond_core::slot::{Slot, Step};

use crate::world::World;

/// A recording, and what truly happened.
pub(crate) struct Flight {
    recording: Recording,
    kept: usize,
    every: usize,
    acts: usize,
    /// Every step so far.
    steps: Vec<(Tick, Step)>,
}

impl World {
    pub(super) fn record(&mut self, act: Act, steps: &[Step]) {
        let (now, slot) = (self.truth.now, &self.slot);
        let Some(flight) = &mut self.flight else { return };
        flight.recording.note(act, now, steps, slot);
        flight.steps.extend(steps.iter().map(|step| (now, step.clone())));
        flight.acts += 1;
        if flight.acts.is_multiple_of(flight.every) {
            flight.check(slot);
        }
    }
}

impl Flight {
    pub(super) fn new(kept: usize, every: usize, slot: &Slot) -> Flight {
        let id = SlotId { service: ServiceName::new("world").unwrap(), name: VersionName::new("v1").unwrap() };
        Flight { recording: Recording::keeping(kept, id, slot), kept, every, acts: 0, steps: Vec::new() }
    }

    pub(super) fn check(&self, slot: &Slot) {
        let replay = replay(&self.recording.text()).unwrap();
        assert!(replay.is_same, "the recording ends otherwise");
        assert_eq!(replay.end(), slot);
        assert!(replay.played.len() <= self.kept, "{} acts are kept", replay.played.len());
        let played = replay.played.iter();
        let again: Vec<(Tick, Step)> =
            played.flat_map(|played| played.steps.iter().map(|step| (played.at, step.clone()))).collect();
        assert!(self.steps.ends_with(&again), "other steps follow: {again:?}");
        if self.acts <= self.kept {
            assert_eq!(again.len(), self.steps.len(), "nothing was pushed out");
        }
    }
}
