//! A backend's health, probed over and over, and the readiness that follows from it.

use std::fmt::Display;
use std::time::Duration;

use supervisor_sdk::Readiness;

use crate::hysteresis::Health;

/// Between two probes.
pub const EVERY: Duration = Duration::from_secs(1);
/// How long one may take.
pub const WITHIN: Duration = Duration::from_secs(2);

/// Probes for ever: while the backend is lost, `readiness` says `reason` and why; once it is there again it says ready.
/// It begins with a backend that has just answered.
pub async fn follow<E: Display>(
    name: &'static str,
    reason: &'static str,
    readiness: Readiness,
    mut probe: impl AsyncFnMut() -> Result<(), E>,
) {
    let mut health = Health::UNSEEN.after(true);
    loop {
        tokio::time::sleep(EVERY).await;
        let failed = match tokio::time::timeout(WITHIN, probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {WITHIN:?}")),
        };
        let before = health;
        health = health.after(failed.is_none());
        match (before.is_well(), health.is_well()) {
            (true, false) => {
                let why = failed.unwrap_or_default();
                tracing::error!(backend = name, %why, "lost");
                readiness.unready(format!("{reason}: {why}"));
            }
            (false, true) => {
                tracing::info!(backend = name, "there again");
                readiness.ready();
            }
            (true, true) | (false, false) => {}
        }
    }
}
