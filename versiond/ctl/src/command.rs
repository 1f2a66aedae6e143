//! The command line: every subcommand, each in a file of its own, and what is common to all.
//!
//! A subcommand is a struct of its arguments with `run`. Must not live here: what one does.

use std::fmt::Write as _;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use supervisor_protocol::error::chain;

use crate::client::Client;
use crate::failure::Failure;
use crate::router::RouterAt;
use crate::{
    catalog, completions, conformance, deny, drain, events, exit, fetch, gc, import, logs, order, plan, record, reload,
    replay, router, status, text, watch, why,
};

/// Ask versiond what runs, why something waits, and empty this host for maintenance.
#[derive(Parser)]
#[command(name = "versionctl", version, max_term_width = 100)]
struct Cli {
    /// The daemon's admin API: its socket, or `http://127.0.0.1:PORT`.
    #[arg(
        long,
        env = "VERSIOND_ADMIN",
        default_value = "/run/versiond/admin.sock",
        global = true,
        value_name = "PATH"
    )]
    admin: String,
    /// The file with the token that a port asks for; a router's also by VERSIOND_ROUTER_TOKEN_FILE.
    #[arg(long, env = "VERSIOND_ADMIN_TOKEN_FILE", global = true, value_name = "PATH")]
    token_file: Option<Utf8PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The host, the catalog, and every generation.
    Status(status::Args),
    /// The status as it changes; one line per change when the output is not a terminal.
    Watch(watch::Args),
    /// Why something waits or was refused.
    Why(why::Args),
    /// What the next change of each slot would be, and what keeps it from being made now.
    Plan(plan::Args),
    /// Cordon this host: routers move on, what it has goes on, what still arrives is served. With a HOST: have a
    /// router drain one that cannot say so itself.
    Drain(drain::Args),
    /// Take the cordon back; with a HOST: a router's drain.
    Undrain(drain::UndrainArgs),
    /// The hosts of a router's pools: their health and role, and what is in flight there.
    Hosts(router::HostsArgs),
    /// Which host a router would send a path to, why, and who would come next.
    Lookup(router::LookupArgs),
    #[command(flatten)]
    Order(order::Order),
    /// Do not let these bytes run on this host; without a hash: what may not run here.
    Deny(deny::Args),
    /// Take a `deny` back.
    Allow(deny::AllowArgs),
    /// What happens, one line each: transitions, drains, what operators did.
    Events(events::Args),
    /// What a slot's children printed.
    Logs(logs::Args),
    /// What a slot was told lately, for `replay`.
    Record(record::Args),
    /// Play a recording again, without a daemon: what was told, what followed, and why nothing more.
    Replay(replay::Args),
    /// The catalog in force; with `check` what another document would do, with `accept` the source is read now.
    Catalog(catalog::Args),
    /// What the store holds and why, what is on its way there, and what could not be had.
    Artifacts(fetch::ListArgs),
    /// Bring an artifact into the store ahead.
    Fetch(fetch::Args),
    /// Remove from the store what nothing needs, and say why the rest stays.
    Gc(gc::Args),
    /// Take over what upstream's supervisor has installed, and its data, while versiond is stopped.
    ImportUpstream(import::Args),
    /// Read the configuration again; refused whole when it is not valid.
    Reload(reload::Args),
    /// Print the completions of a shell.
    Completions(completions::Args),
    /// Start a program under the contract, in temporary folders, and tell what of it holds.
    Conformance(conformance::Args),
}

impl Command {
    async fn run(self, admin: &Admin) -> Result<(), Failure> {
        match self {
            Command::Status(args) => args.run(&admin.daemon()?).await,
            Command::Watch(args) => args.run(&admin.daemon()?).await,
            Command::Why(args) => args.run(&admin.daemon()?).await,
            Command::Plan(args) => args.run(&admin.daemon()?).await,
            Command::Drain(args) => args.run(admin).await,
            Command::Undrain(args) => args.run(admin).await,
            Command::Hosts(args) => args.run(admin).await,
            Command::Lookup(args) => args.run(admin).await,
            Command::Order(order) => order.run(&admin.daemon()?).await,
            Command::Deny(args) => args.run(&admin.daemon()?).await,
            Command::Allow(args) => args.run(&admin.daemon()?).await,
            Command::Events(args) => args.run(&admin.daemon()?).await,
            Command::Logs(args) => args.run(&admin.daemon()?).await,
            Command::Record(args) => args.run(&admin.daemon()?).await,
            Command::Replay(args) => args.run(),
            Command::Catalog(args) => args.run(&admin.daemon()?).await,
            Command::Artifacts(args) => args.run(&admin.daemon()?).await,
            Command::Fetch(args) => args.run(&admin.daemon()?).await,
            Command::Gc(args) => args.run(&admin.daemon()?).await,
            Command::ImportUpstream(args) => args.run(),
            Command::Reload(args) => args.run(&admin.daemon()?).await,
            Command::Completions(args) => {
                args.run();
                Ok(())
            }
            Command::Conformance(args) => args.run().await,
        }
    }
}

/// Whose admin APIs may be asked. Nothing is looked at before a command asks.
pub(crate) struct Admin {
    place: String,
    token_file: Option<Utf8PathBuf>,
    /// Where the token's file was named.
    origin: Origin,
}

/// A daemon's token is not for a router: from the environment each has its own.
enum Origin {
    CommandLine,
    Environment,
}

impl Admin {
    pub(crate) fn daemon(&self) -> Result<Client, Failure> {
        Client::new(&self.place, self.token_file.as_deref())
    }

    pub(crate) fn router(&self, at: &RouterAt) -> Result<Client, Failure> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let place = at.router.clone().or_else(|| set(router::VARIABLE)).unwrap_or_else(|| router::DEFAULT.to_owned());
        let token_file = match self.origin {
            Origin::CommandLine => self.token_file.clone(),
            Origin::Environment => set(router::TOKEN_VARIABLE).map(Utf8PathBuf::from),
        };
        Client::of_router(&place, token_file.as_deref())
    }
}

/// The command line as a value: for the manual page and the completions.
#[must_use]
pub fn cli() -> clap::Command {
    let mut codes = "Exit codes:\n".to_owned();
    for (code, meaning) in exit::TABLE {
        // Writing to a string does not fail.
        writeln!(codes, "  {code:<3} {meaning}").ok();
    }
    Cli::command().after_help(codes.trim_end().to_owned())
}

/// The whole of `main`.
#[must_use]
pub fn main() -> ExitCode {
    let parsed = cli().try_get_matches().and_then(|matches| {
        let origin = match matches.value_source("token_file") {
            Some(ValueSource::CommandLine) => Origin::CommandLine,
            Some(_) | None => Origin::Environment,
        };
        Ok((Cli::from_arg_matches(&matches)?, origin))
    });
    let (cli, origin) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // A closed pipe is no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let Cli { admin: place, token_file, command } = cli;
    let admin = Admin { place, token_file, origin };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime);
    let result = runtime.and_then(|runtime| runtime.block_on(command.run(&admin)));
    match result {
        Ok(()) => ExitCode::from(exit::OK),
        Err(failure) => {
            text::err(&format!("versionctl: {}", chain(&failure)));
            if let Some(remedy) = failure.remedy() {
                text::err(&format!("  {remedy}"));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
