//! `versionctl record`: what a slot's machine was told lately, as a file for `versionctl replay`.

use camino::Utf8PathBuf;
use http::Method;
use http_body_util::BodyExt as _;
use supervisor_protocol::SlotId;

use crate::args::slot;
use crate::client::Client;
use crate::failure::Failure;
use crate::text::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "SERVICE/VERSION", value_parser = slot)]
    slot: SlotId,
    /// Write it there instead of to standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<Utf8PathBuf>,
}

impl Args {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let SlotId { service, name } = &self.slot;
        let path = format!("/v1/services/{service}/versions/{name}/recording");
        let body = client.stream(Method::GET, &path, &[]).await?;
        // The whole before the first byte of the file: one that is cut off replaces no other.
        let recording = body.collect().await.map_err(|source| client.broke(&path, source))?.to_bytes();
        match self.output {
            Some(path) => std::fs::write(&path, &recording).map_err(|source| Failure::Unwritten { path, source })?,
            None => out(&String::from_utf8_lossy(&recording)),
        }
        Ok(())
    }
}
