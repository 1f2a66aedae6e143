//! The child that the demo rolls: short requests, numbered streams, uploads, WebSockets. Every answer
//! names the build and generation that gave it, so that a client can prove what it was served by.
//! The binaries differ in nothing but their build tag, which nothing overrides.

mod endpoints;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use supervisor_sdk::{Child, Context, StateKind, StreamClass, describe};

/// How a build behaves at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// It becomes ready.
    Willing,
    /// It says `model missing` for ever.
    Stuck,
    /// It becomes ready, and says that its state lives in its data directory.
    Local,
}

/// Milliseconds for which the child says `initializing` before it is ready.
pub const READY_AFTER: &str = "--ready-after";
/// Milliseconds after which the child aborts.
pub const CRASH_AFTER: &str = "--crash-after";

/// The whole of a demo binary's `main`.
#[must_use]
pub fn main(build: &'static str, temper: Temper) -> ExitCode {
    let state = match temper {
        Temper::Willing | Temper::Stuck => StateKind::None,
        Temper::Local => StateKind::Local,
    };
    let mut about = describe("demo", format!("{}+{build}", env!("CARGO_PKG_VERSION")), state);
    about.streams = StreamClass::ALL.to_vec();
    Child::new(about).flag(READY_AFTER, "MS").flag(CRASH_AFTER, "MS").serve(async move |context: Context| {
        let ready_after = millis(&context, READY_AFTER)?;
        if let Some(after) = millis(&context, CRASH_AFTER)? {
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                std::process::abort();
            });
        }
        let readiness = context.readiness();
        match (temper, ready_after) {
            (Temper::Stuck, _) => readiness.unready("model missing"),
            (Temper::Willing | Temper::Local, None) => {}
            (Temper::Willing | Temper::Local, Some(after)) => {
                readiness.initializing("warming up");
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    readiness.ready();
                });
            }
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(endpoints::router(build, context.identity()))
    })
}

fn millis(context: &Context, flag: &str) -> Result<Option<Duration>, String> {
    let read = |text: &str| text.parse().map(Duration::from_millis);
    context.flag(flag).map(read).transpose().map_err(|_| format!("`{flag}` takes whole milliseconds"))
}
