//! `versionctl reload`: the daemon reads its configuration again.

use supervisor_protocol::ServiceName;
use supervisor_protocol::admin::Reloaded;

use crate::args::Output;
use crate::client::Client;
use crate::failure::Failure;
use crate::text::{out, out_json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    output: Output,
}

impl Args {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let told = client.reload().await?;
        if self.output.json {
            out_json(&told.json)
        } else {
            out(&render(&told.body))
        }
        Ok(())
    }
}

fn render(Reloaded { added, removed, changed, restart_needed }: &Reloaded) -> String {
    let names = |names: &[ServiceName]| names.iter().map(ServiceName::to_string).collect::<Vec<_>>().join(", ");
    let lines = [
        ("added", names(added)),
        ("removed", names(removed)),
        ("changed", names(changed)),
        ("in force from the next start of the daemon", restart_needed.join(", ")),
    ];
    let lines = lines.into_iter().filter(|(_, names)| !names.is_empty());
    let text: String = lines.map(|(what, names)| format!("{what}: {names}\n")).collect();
    if text.is_empty() { "nothing has changed\n".to_owned() } else { text }
}
