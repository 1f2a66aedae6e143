//! `versionctl conformance`: starts a program, in any language, under the contract and tells what holds.
//!
//! `requirement` lists what is asked for, `process` and `program` start and stop, `checks` asks, and this module
//! reports. The program runs in temporary folders with an environment of its own: nothing of the
//! operator's reaches it but `PATH`.

mod checks;
mod process;
mod program;
mod requirement;

use std::collections::BTreeMap;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Serialize;
use supervisor_protocol::contract::Describe;
use supervisor_protocol::time::parse_duration;

use crate::args::Output;
use crate::failure::Failure;
use crate::text::{out, out_json, table};

pub use requirement::Requirement;

/// What to check.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(value_name = "BIN")]
    pub program: Utf8PathBuf,
    /// A path of the program whose GET takes between about 1 and 10 seconds: without it the checks
    /// of admitted work do not apply.
    #[arg(long, value_name = "PATH")]
    pub hold: Option<String>,
    /// How long the program may take until it is ready.
    #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "DURATION")]
    pub ready_within: Duration,
    /// Further arguments of the program.
    #[arg(last = true)]
    pub args: Vec<String>,
}

/// The command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    output: Output,
}

impl Args {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let report = check(&self.options).await.map_err(Failure::Scratch)?;
        if self.output.json {
            out_json(&report.json())
        } else {
            out(&report.render())
        }
        if report.conformant() { Ok(()) } else { Err(Failure::NotConformant(self.options.program.to_string())) }
    }
}

/// What came of one requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", content = "detail", rename_all = "snake_case")]
pub enum Outcome {
    Holds,
    Fails(String),
    NotApplicable(String),
}

/// What came of all of them.
#[derive(Debug)]
pub struct Report {
    pub program: Utf8PathBuf,
    /// As the program describes itself, when it does.
    pub describe: Option<Describe>,
    outcomes: BTreeMap<Requirement, Outcome>,
}

impl Report {
    fn new(program: Utf8PathBuf) -> Self {
        Self { program, describe: None, outcomes: BTreeMap::new() }
    }

    /// What came of one requirement. One that was not reached does not apply.
    #[must_use]
    pub fn outcome(&self, requirement: Requirement) -> Outcome {
        let unreached = || Outcome::NotApplicable("not reached".to_owned());
        self.outcomes.get(&requirement).cloned().unwrap_or_else(unreached)
    }

    /// Whether no required check has failed.
    #[must_use]
    pub fn conformant(&self) -> bool {
        let failed = |(requirement, outcome): (&Requirement, &Outcome)| {
            requirement.required() && matches!(outcome, Outcome::Fails(_))
        };
        !self.outcomes.iter().any(failed)
    }

    fn put(&mut self, requirement: Requirement, result: Result<(), String>) {
        let outcome = match result {
            Ok(()) => Outcome::Holds,
            Err(detail) => Outcome::Fails(detail),
        };
        self.outcomes.insert(requirement, outcome);
    }

    fn skip(&mut self, requirement: Requirement, why: &str) {
        self.outcomes.insert(requirement, Outcome::NotApplicable(why.to_owned()));
    }

    fn render(&self) -> String {
        let row = |requirement: Requirement| {
            let (result, detail) = match self.outcome(requirement) {
                Outcome::Holds => ("holds", String::new()),
                Outcome::Fails(detail) if requirement.required() => ("FAILS", detail),
                Outcome::Fails(detail) => ("fails (advice)", detail),
                Outcome::NotApplicable(why) => ("n/a", why),
            };
            vec![result.to_owned(), requirement.code().to_owned(), requirement.text().to_owned(), detail]
        };
        let mut text = match &self.describe {
            Some(it) => format!("{}: {} {}, contract {}\n\n", self.program, it.name, it.version, it.contract),
            None => format!("{}: it does not describe itself\n\n", self.program),
        };
        text.push_str(&table(&["RESULT", "CHECK", "WHAT", "DETAIL"], Requirement::ALL.into_iter().map(row)));
        text.push_str(if self.conformant() {
            "\nEverything required holds.\n"
        } else {
            "\nThe contract is not kept.\n"
        });
        text
    }

    fn json(&self) -> serde_json::Value {
        #[derive(Serialize)]
        struct Check {
            name: &'static str,
            text: &'static str,
            required: bool,
            #[serde(flatten)]
            outcome: Outcome,
        }
        let check = |requirement: Requirement| Check {
            name: requirement.code(),
            text: requirement.text(),
            required: requirement.required(),
            outcome: self.outcome(requirement),
        };
        let checks: Vec<Check> = Requirement::ALL.into_iter().map(check).collect();
        serde_json::json!({
            "program": self.program,
            "conformant": self.conformant(),
            "describe": self.describe,
            "checks": checks,
        })
    }
}

/// Checks a program. An error means that nothing could be checked at all: no temporary folder.
pub async fn check(options: &Options) -> std::io::Result<Report> {
    checks::all(options).await
}
