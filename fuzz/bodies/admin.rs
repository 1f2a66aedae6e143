//! What the admin API is asked: a slot, a verb and a body, each on a line. Nothing panics, and what was understood
//! is what it says when it is written again.

use supervisor_protocol::SlotId;
use supervisor_protocol::admin::{DrainRequest, Verb};

/// Panics where that does not hold.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let (slot, verb, body) =
        (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if let Ok(slot) = slot.parse::<SlotId>() {
        let again: SlotId = slot.to_string().parse().expect("what was read can be read again");
        assert_eq!(again, slot);
    }
    if let Ok(options) = serde_json::from_str(body)
        && let Ok(verb) = Verb::read(verb, options)
    {
        let written = serde_json::to_value(&verb).expect("a verb can be written");
        assert_eq!(written["verb"], verb.as_str());
        assert_eq!(serde_json::from_value::<Verb>(written).expect("and read again"), verb);
    }
    if let Ok(request) = serde_json::from_str::<DrainRequest>(body) {
        let written = serde_json::to_string(&request).expect("a request can be written");
        assert_eq!(serde_json::from_str::<DrainRequest>(&written).expect("and read again"), request);
    }
}
