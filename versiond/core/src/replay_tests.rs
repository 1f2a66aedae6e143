use supervisor_protocol::{ServiceName, Sha256, VersionName};

use super::*;
use crate::catalog::Artifact;
use crate::generation::Probe;
use crate::memory::Memory;
use crate::slot::{Failed, Want};
use crate::timings::Timings;

const G1: Generation = Generation(1);

fn id() -> SlotId {
    SlotId { service: ServiceName::new("demo").unwrap(), name: VersionName::new("v1").unwrap() }
}

/// A slot that is recorded as the daemon does it.
struct Recorded {
    slot: Slot,
    recording: Recording,
    now: u64,
}

impl Recorded {
    fn new() -> Recorded {
        let slot = Slot::new(Timings::default(), Policy::default(), Memory::default());
        let recording = Recording::keeping(8, id(), &slot);
        Recorded { slot, recording, now: 0 }
    }

    /// One second later.
    fn tell(&mut self, next: u64, input: Input) -> bool {
        self.now += 1_000;
        let (next, now) = (Generation(next), Tick(self.now));
        let steps = self.slot.handle(input.clone(), next, now);
        self.recording.note(Act::Input { next, input }, now, &steps, &self.slot)
    }

    fn wanting() -> Recorded {
        let mut recorded = Recorded::new();
        let artifact =
            Artifact { sha256: Sha256([7; 32]), urls: Vec::new(), size: None, entry: None, irreversible: false };
        assert!(!recorded.tell(1, Input::Want(Want::Serve(artifact))));
        recorded
    }

    fn order(&mut self, verb: Verb) {
        let now = Tick(self.now);
        self.slot.command(&verb, now).unwrap();
        self.recording.note(Act::Order(verb), now, &[], &self.slot);
    }

    fn replay(&self) -> Replay {
        replay(&self.recording.text()).unwrap()
    }
}

#[test]
fn a_transcript_says_what_was_told_and_what_followed() {
    let mut recorded = Recorded::wanting();
    recorded.order(Verb::Hold);
    assert!(recorded.tell(2, Input::FetchFailed(G1, Failed::Fetch("connection refused".to_owned()))));
    let text = recorded.replay().transcript();
    for line in [
        "t=0.000s recording of demo/v1, by version ",
        "t=1.000s want 07070707\n    -> fetch g1 07070707\n    -> absent: hold\n    is  g1(07070707)=fetching\n",
        "t=1.000s order hold\n",
        "t=2.000s fetch-failed g1: connection refused\n    -> forget g1\n    -> absent: hold, expected at 3.000s\n    is  empty\n",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
}

#[test]
fn days_of_rest_are_one_line_and_push_nothing_out() {
    let mut recorded = Recorded::wanting();
    for _ in 0..10_000 {
        recorded.tell(2, Input::Tick);
    }
    let replay = recorded.replay();
    assert_eq!(replay.played.len(), 2);
    assert_eq!(replay.played[1].at, Tick(recorded.now));
    assert!(replay.played[1].line().contains("told 10000 times"), "{}", replay.played[1].line());
    assert!(replay.is_same && *replay.end() == recorded.slot);
}

#[test]
fn the_beginning_moves_forward_and_what_is_left_is_whole() {
    let mut recorded = Recorded::wanting();
    for turn in 0..100_u64 {
        recorded.order(if turn.is_multiple_of(2) { Verb::Hold } else { Verb::Release });
        recorded.tell(2, Input::Tick);
        let replay = recorded.replay();
        assert!(replay.played.len() <= 8 && (turn < 4 || replay.played.len() >= 4), "{}", replay.played.len());
        assert!(replay.is_same && *replay.end() == recorded.slot);
    }
    assert!(recorded.replay().start.seen > Tick(90_000));
}

#[test]
fn an_order_that_is_refused_is_refused_again() {
    let mut recorded = Recorded::wanting();
    let refused = recorded.slot.command(&Verb::Unpin, Tick(1_000)).unwrap_err();
    recorded.recording.note(Act::Order(Verb::Unpin), Tick(1_000), &[], &recorded.slot);
    assert_eq!(recorded.replay().played[1].refused, Some(refused));
}

#[test]
fn a_slot_that_ends_otherwise_than_it_did_is_told() {
    let mut recorded = Recorded::wanting();
    recorded.tell(2, Input::Fetched(G1));
    let text = recorded.recording.text();
    let cut: Vec<&str> = text.lines().collect();
    let without_the_fetch = [&cut[..3], &cut[4..]].concat().join("\n");
    assert!(!replay(&without_the_fetch).unwrap().is_same);
}

#[test]
fn what_is_no_recording_is_refused_with_its_line() {
    let mut recorded = Recorded::wanting();
    recorded.tell(2, Input::Fetched(G1));
    recorded.tell(2, Input::Probed(G1, Probe::Ready));
    let text = recorded.recording.text();
    let lines: Vec<&str> = text.lines().collect();
    let with = |number: usize, line: &str| {
        let mut lines = lines.clone();
        lines[number - 1] = line;
        lines.join("\n")
    };
    let other = lines[0].replace(env!("CARGO_PKG_VERSION"), "77.0.0");
    let cases = [
        (String::new(), "line 1: expected the header of a recording, and there is nothing"),
        (with(1, "{}"), "line 1: expected the header"),
        (with(1, "what"), "line 1: not a line of a recording"),
        (with(1, &lines[0].replace("\"schema\":1", "\"schema\":2")), "line 1: a recording of schema 2, this knows 1"),
        (with(2, lines[3]), "line 2: expected the slot at the start"),
        (with(4, lines[0]), "line 4: expected an act, or the"),
        (with(4, &lines[3][..40]), "line 4: not a line of a recording"),
        (with(4, &lines[3].replace("2000", "7")), "line 4: its moment lies before"),
        (lines[..4].join("\n"), "line 5: expected an act, or the slot at the end, and there is nothing"),
        (format!("{text}{}", lines[3]), "line 7: expected nothing after the end"),
        ([other.as_str(), "{\"start\":{}}"].join("\n"), "line 2: not understood; it was recorded by version 77.0.0"),
    ];
    for (text, message) in cases {
        let error = replay(&text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error:?} is not {message:?}");
    }
}
