//! `versionctl completions`: what a shell must know to complete this command's line.

use clap_complete::Shell;

use crate::command::cli;
use crate::text::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    shell: Shell,
}

impl Args {
    pub(crate) fn run(&self) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli(), "versionctl", &mut script);
        out(&String::from_utf8_lossy(&script));
    }
}
