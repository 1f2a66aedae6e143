//! `versionctl replay`: plays a recording again, without a daemon, and prints what was told and what followed.

use camino::Utf8PathBuf;
use serde_json::{Value, json};
use versiond_core::replay::{Played, Replay, replay};
use versiond_core::slot::Slot;

use crate::failure::Failure;
use crate::text::{out, out_json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What `versionctl record` gave, or a file of the daemon's `flight` folder.
    file: Utf8PathBuf,
    /// Print what was told and what followed as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Args { file: path, json } = self;
        let text = std::fs::read_to_string(&path).map_err(|source| Failure::Document { path: path.clone(), source })?;
        let replay = replay(&text).map_err(|source| Failure::Recording { path: path.clone(), source })?;
        if json {
            out_json(&shown(&replay));
        } else {
            out(&replay.transcript());
        }
        if replay.is_same { Ok(()) } else { Err(Failure::EndsOtherwise { path, version: replay.version }) }
    }
}

fn shown(replay: &Replay) -> Value {
    json!({
        "slot": replay.slot,
        "version": replay.version,
        "same": replay.is_same,
        "played": replay.played.iter().map(played).collect::<Vec<_>>(),
    })
}

fn played(Played { at, act, steps, refused, slot }: &Played) -> Value {
    json!({
        "at": at,
        "act": act,
        "steps": steps,
        "refused": refused,
        "generations": generations(slot),
        "reasons": slot.reasons(*at),
        "wake": slot.wake().map(|(at, why)| json!({"at": at, "for": why})),
    })
}

fn generations(slot: &Slot) -> Vec<Value> {
    let generation = |it: &versiond_core::generation::Gen| json!({"generation": it.number, "sha256": it.sha256(), "phase": it.phase()});
    slot.generations().map(generation).collect()
}

#[cfg(test)]
mod tests {
    use supervisor_protocol::{Generation, ServiceName, SlotId, Tick, VersionName};
    use versiond_core::memory::Memory;
    use versiond_core::policy::Policy;
    use versiond_core::replay::{Act, Recording};
    use versiond_core::slot::{Input, Want};
    use versiond_core::timings::Timings;

    use super::*;

    fn recorded() -> String {
        let id = SlotId { service: ServiceName::new("demo").unwrap(), name: VersionName::new("v1").unwrap() };
        let mut slot = Slot::new(Timings::default(), Policy::default(), Memory::default());
        let mut recording = Recording::begin(id, &slot);
        let (input, next) = (Input::Want(Want::Force), Generation(1));
        let steps = slot.handle(input.clone(), next, Tick(5));
        recording.note(Act::Input { next, input }, Tick(5), &steps, &slot);
        recording.text()
    }

    #[test]
    fn as_json_every_act_has_its_steps_and_where_the_slot_then_stands() {
        let json = shown(&replay(&recorded()).unwrap());
        assert_eq!((&json["slot"]["service"], &json["same"]), (&json!("demo"), &json!(true)));
        let [act] = &json["played"].as_array().unwrap()[..] else { panic!("{json:#}") };
        assert_eq!(act["at"], json!(5));
        assert_eq!((&act["act"]["input"]["input"], &act["generations"]), (&json!({"Want": "Force"}), &json!([])));
        assert_eq!(act["steps"], json!([{"Absent": "Stopping"}]));
    }

    #[test]
    fn a_recording_of_another_end_fails_after_it_was_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("f.jsonl")).unwrap();
        let play = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Args { file: path.clone(), json: false }.run()
        };
        let text = recorded();
        play(&text).unwrap();
        let failure = play(&text.replace("Force", "Nothing")).unwrap_err();
        assert!(failure.to_string().contains("ends otherwise"), "{failure}");
        let failure = play(&text[..text.len() - 9]).unwrap_err();
        assert!(
            supervisor_protocol::error::chain(&failure).contains("f.jsonl cannot be replayed: line 4"),
            "{failure}"
        );
    }
}
