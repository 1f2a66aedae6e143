//! `versionctl why`: every wait and refusal, with the fact it rests on.

use supervisor_protocol::SlotId;
use supervisor_protocol::admin::Why;

use crate::client::Client;
use crate::failure::Failure;
use crate::text::{out, out_json};

pub(crate) async fn run(client: &Client, slot: Option<&SlotId>, json: bool) -> Result<(), Failure> {
    let told = client.why(slot).await?;
    if json {
        out_json(&told.json)
    } else {
        out(&render(&told.body))
    }
    Ok(())
}

fn render(why: &Why) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for reason in &why.host {
        line(format!("host: {reason} [{}]", reason.code()));
    }
    for slot in &why.slots {
        let serving = match slot.serving {
            Some(generation) => format!("{generation} serves"),
            None => "nothing serves".to_owned(),
        };
        if slot.reasons.is_empty() {
            line(format!("{}: {serving}, nothing waits", slot.slot));
        } else {
            line(format!("{}: {serving}", slot.slot));
        }
        for reason in &slot.reasons {
            line(format!("  {} [{}]", reason.text, reason.reason.code()));
        }
    }
    if text.is_empty() {
        text.push_str("nothing waits and nothing is refused\n");
    }
    text
}
