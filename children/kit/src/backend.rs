//! A backend's health, probed over and over, and the readiness that follows from it.

use std::time::Duration;

use supervisor_sdk::Readiness;

use crate::hysteresis::Health;

/// Between two probes.
pub const EVERY: Duration = Duration::from_secs(1);
/// How long one may take.
pub const WITHIN: Duration = Duration::from_secs(2);

/// Why a backend is no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// As programs read it: lower-case letters, digits and `_`.
    pub reason: &'static str,
    /// For people.
    pub why: String,
}

/// Probes for ever: while the backend is lost, `readiness` says why; once it is there again it says ready. `health` is
/// what is known of it when this begins, and what `readiness` says.
pub async fn follow(
    name: &'static str,
    readiness: Readiness,
    mut health: Health,
    mut probe: impl AsyncFnMut() -> Result<(), Lost>,
) {
    loop {
        tokio::time::sleep(EVERY).await;
        let silent = || Lost { reason: "silent", why: format!("{name}: no answer within {WITHIN:?}") };
        let probed = tokio::time::timeout(WITHIN, probe()).await.unwrap_or_else(|_| Err(silent()));
        let before = health;
        health = health.after(probed.is_ok());
        match (before.is_well(), probed) {
            (true, Err(lost)) if !health.is_well() => {
                tracing::error!(backend = name, reason = lost.reason, why = lost.why, "lost");
                readiness.unready(format!("{}: {}", lost.reason, lost.why));
            }
            (false, Ok(())) if health.is_well() => {
                tracing::info!(backend = name, "there again");
                readiness.ready();
            }
            (true | false, Ok(()) | Err(_)) => {}
        }
    }
}
