//! `versionctl events`: what happens, one line each, from what the daemon remembers on.

use http::Method;
use http_body_util::BodyExt as _;
use supervisor_protocol::admin::describe_load;
use supervisor_protocol::events::{Act, Event, Happening, Transition};

use crate::client::Client;
use crate::failure::Failure;
use crate::text::{age, out};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on after this event: the `id` of one that was printed with --json.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Print each event as a line of JSON, with its `id`.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Until interrupted, or until the daemon ends.
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let after: Vec<(&str, &str)> = self.after.iter().map(|id| ("last-event-id", id.as_str())).collect();
        let (path, mut body) = ("/v1/events", client.stream(Method::GET, "/v1/events", &after).await?);
        let mut reader = Reader::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| client.broke(path, source))?;
            let Ok(data) = frame.into_data() else { continue };
            for Framed { id, data } in reader.push(&data) {
                let malformed = |source| client.malformed(path, http::StatusCode::OK, source);
                if self.json {
                    let mut event: serde_json::Value = serde_json::from_str(&data).map_err(malformed)?;
                    event["id"] = id.into();
                    out(&format!("{event}\n"));
                } else {
                    let event: Event = serde_json::from_str(&data).map_err(malformed)?;
                    out(&format!("{}\n", line(&event)));
                }
            }
        }
        Err(Failure::Ended)
    }
}

fn line(event: &Event) -> String {
    let what = match &event.what {
        Happening::Transition(Transition { slot, generation, from, to, reason }) => {
            let from = from.map_or_else(String::new, |from| format!("{} -> ", from.as_str()));
            let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason} [{}]", reason.code()));
            format!("{slot} {generation} {from}{}{reason}", to.as_str())
        }
        Happening::Host { state } => format!("host {state}"),
        Happening::Act(Act { by, request, status, code }) => {
            let code = code.as_ref().map_or_else(String::new, |code| format!(" [{code}]"));
            format!("act by {by}: {request} {status}{code}")
        }
        Happening::Drained(receipt) => format!(
            "{} {} drained in {}, finished {}, cut {}",
            receipt.slot,
            receipt.generation,
            age(receipt.took_ms),
            describe_load(&receipt.finished),
            describe_load(&receipt.cut)
        ),
        Happening::Missed { events } => format!("{events} events are no longer remembered"),
    };
    format!("{:>10.3} s  {what}", event.at_ms as f64 / 1_000.0)
}

/// One event of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Framed {
    id: String,
    data: String,
}

/// Server-sent events, from bytes that are split anywhere.
#[derive(Default)]
struct Reader {
    rest: Vec<u8>,
    id: String,
    data: String,
}

impl Reader {
    fn push(&mut self, bytes: &[u8]) -> Vec<Framed> {
        self.rest.extend_from_slice(bytes);
        let mut whole = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if let Some(id) = line.strip_prefix("id: ") {
                self.id = id.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                self.data.push_str(data);
            } else if line.is_empty() && !self.data.is_empty() {
                whole.push(Framed { id: self.id.clone(), data: std::mem::take(&mut self.data) });
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_wherever_it_is_split() {
        let text = ":\n\nid: b-1\nevent: host\ndata: {\"a\":1}\n\nid: b-2\ndata: {\"a\":2}\n\nid: b-3\ndata: {";
        let expected: Vec<Framed> = [("b-1", "{\"a\":1}"), ("b-2", "{\"a\":2}")]
            .map(|(id, data)| Framed { id: id.to_owned(), data: data.to_owned() })
            .into();
        for at in 0..text.len() {
            let mut reader = Reader::default();
            let (first, second) = text.split_at(at);
            let mut read = reader.push(first.as_bytes());
            read.extend(reader.push(second.as_bytes()));
            assert_eq!(read, expected, "{at}");
        }
    }
}
