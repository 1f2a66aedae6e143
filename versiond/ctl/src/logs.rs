//! `versionctl logs`: what a slot's children printed, as far as the daemon remembers it, and what comes.

use http::Method;
use http_body_util::BodyExt as _;
use supervisor_protocol::SlotId;
use supervisor_protocol::logs::LogLine;

use crate::args::slot;
use crate::client::Client;
use crate::failure::Failure;
use crate::text::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "SERVICE/VERSION", value_parser = slot)]
    slot: SlotId,
    /// Go on with what comes, of every later generation too, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Only so many of the latest lines.
    #[arg(long, short = 'n', value_name = "LINES")]
    tail: Option<usize>,
    /// Only of this generation.
    #[arg(long, value_name = "NUMBER")]
    generation: Option<u64>,
    /// Print each line as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = self.path();
        let mut body = client.stream(Method::GET, &path, &[]).await?;
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|source| client.broke(&path, source))?.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if self.json {
                    out(&String::from_utf8_lossy(&line));
                } else {
                    let read = serde_json::from_slice::<LogLine>(&line);
                    out(&shown(&read.map_err(|source| client.malformed(&path, http::StatusCode::OK, source))?));
                }
            }
        }
        Ok(())
    }

    fn path(&self) -> String {
        let SlotId { service, name } = &self.slot;
        let mut path = format!("/v1/services/{service}/versions/{name}/logs?follow={}", u8::from(self.follow));
        if let Some(tail) = self.tail {
            path.push_str(&format!("&tail={tail}"));
        }
        if let Some(generation) = self.generation {
            path.push_str(&format!("&generation={generation}"));
        }
        path
    }
}

/// What is lost is never left out.
fn shown(line: &LogLine) -> String {
    let LogLine { generation, stream, text, dropped, .. } = line;
    let lost = if *dropped == 0 { String::new() } else { format!("{generation} {dropped} lines are missing\n") };
    format!("{lost}{generation} {stream}  {text}\n")
}
