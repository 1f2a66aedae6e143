//! `versionctl why`: every wait and refusal, with the fact it rests on.

use supervisor_protocol::SlotId;
use supervisor_protocol::admin::Why;

use crate::args::{Output, slot};
use crate::client::Client;
use crate::failure::Failure;
use crate::text::{out, out_json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this slot.
    #[arg(value_name = "SERVICE/VERSION", value_parser = slot)]
    slot: Option<SlotId>,
    #[command(flatten)]
    output: Output,
}

impl Args {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let told = client.why(self.slot.as_ref()).await?;
        if self.output.json {
            out_json(&told.json)
        } else {
            out(&render(&told.body))
        }
        Ok(())
    }
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
