//! The child that the demo rolls and the tests torment: short requests, numbered streams, uploads, WebSockets.
//! Every answer names the build and generation that gave it, so that a client can prove what it was served by.
//! The binaries differ in nothing but their [`Behaviour`], which nothing overrides.

mod acts;
mod behaviour;
mod endpoints;
mod older;
mod worker;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

pub use behaviour::{Behaviour, BehaviourError, Crash, Unready};
pub use older::{DATABASE, Older};
use supervisor_sdk::{Child, Context, StreamClass, describe};
pub use supervisor_sdk::{DataFormats, Role, StateKind};

/// Milliseconds for which the child says `initializing` before it is ready.
pub const READY_AFTER: &str = "--ready-after";
/// Milliseconds after which the child aborts.
pub const CRASH_AFTER: &str = "--crash-after";

/// The whole of a demo binary's `main`.
#[must_use]
pub fn main(behaviour: Behaviour) -> ExitCode {
    if let Some(older) = behaviour.older {
        return older::main(older, &behaviour.build);
    }
    if let Some(code) = acts::begin(&behaviour) {
        return code;
    }
    let mut about = describe("demo", format!("{}+{}", env!("CARGO_PKG_VERSION"), behaviour.build), behaviour.state);
    about.data = behaviour.data;
    about.undrain = behaviour.undrain;
    about.streams = match behaviour.role {
        Role::Server => StreamClass::ALL.to_vec(),
        Role::Worker => vec![StreamClass::Job],
    };
    let role = behaviour.role;
    let child = Child::new(about).flag(READY_AFTER, "MS").flag(CRASH_AFTER, "MS");
    match role {
        Role::Server => child.serve(async move |context: Context| {
            let database = begin(&behaviour, &context)?;
            Ok::<_, Box<dyn Error + Send + Sync>>(endpoints::router(&behaviour, &context, database))
        }),
        Role::Worker => child.work(async move |context: Context| {
            let _database = begin(&behaviour, &context)?;
            worker::work(context).await
        }),
    }
}

/// What both kinds do before they serve or work.
fn begin(behaviour: &Behaviour, context: &Context) -> Result<acts::Database, Box<dyn Error + Send + Sync>> {
    let database = acts::Database::open(behaviour, context.data_dir())?;
    let ready_after = millis(context, READY_AFTER)?.unwrap_or(Duration::from_millis(behaviour.ready_after_ms));
    if let Some(after) = millis(context, CRASH_AFTER)? {
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            std::process::abort();
        });
    }
    if !ready_after.is_zero() || behaviour.acts_on_readiness() {
        // Before this one returns it counts as ready.
        context.readiness().initializing("it begins");
        tokio::spawn(acts::live(behaviour.clone(), context.clone(), ready_after));
    }
    Ok(database)
}

fn millis(context: &Context, flag: &str) -> Result<Option<Duration>, String> {
    let read = |text: &str| text.parse().map(Duration::from_millis);
    context.flag(flag).map(read).transpose().map_err(|_| format!("`{flag}` takes whole milliseconds"))
}
