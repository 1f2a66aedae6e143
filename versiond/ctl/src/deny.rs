//! `versionctl deny` and `allow`: bytes that may not run on this host, whatever a catalog says.

use std::fmt::Write as _;

use supervisor_protocol::Sha256;
use supervisor_protocol::admin::DenyList;

use crate::args::Output;
use crate::client::Client;
use crate::failure::Failure;
use crate::text::{out, out_json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "SHA256")]
    sha256: Option<Sha256>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AllowArgs {
    #[arg(value_name = "SHA256")]
    sha256: Sha256,
    #[command(flatten)]
    output: Output,
}

impl Args {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let told = match &self.sha256 {
            Some(sha256) => client.deny(sha256).await?,
            None => client.denied().await?,
        };
        if self.output.json {
            out_json(&told.json)
        } else {
            out(&render(&told.body))
        }
        Ok(())
    }
}

impl AllowArgs {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let told = client.allow(&self.sha256).await?;
        if self.output.json {
            out_json(&told.json)
        } else {
            out(&render(&told.body))
        }
        Ok(())
    }
}

fn render(list: &DenyList) -> String {
    let mut text = String::new();
    for (by, hashes) in [("operator", &list.operator), ("catalog", &list.catalog)] {
        for sha256 in hashes {
            // Writing to a string does not fail.
            writeln!(text, "{sha256}  denied by the {by}").ok();
        }
    }
    if text.is_empty() {
        text.push_str("nothing is denied\n");
    }
    text
}
