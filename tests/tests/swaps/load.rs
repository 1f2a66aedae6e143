//! Clients that ask at a steady rate, whatever becomes of what they have asked before.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::http::get;

/// An open loop of requests, each over a connection of its own.
pub(crate) struct Load {
    stop: CancellationToken,
    asking: JoinHandle<Vec<Asked>>,
}

/// One request, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) took: Duration,
    /// The status and the body, or why there was no answer.
    pub(crate) outcome: Result<(u16, String), String>,
}

impl Load {
    /// Asks for `path` so often in a second, from now on.
    pub(crate) fn start(host: SocketAddr, path: &str, per_second: u32) -> Load {
        let (stop, path) = (CancellationToken::new(), path.to_owned());
        let stopped = stop.clone();
        let asking = tokio::spawn(async move {
            let (mut ticks, mut requests, start) =
                (interval(Duration::from_secs(1) / per_second), JoinSet::new(), Instant::now());
            // A machine that was busy catches up: the rate is kept.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
                let (path, began) = (path.clone(), start.elapsed());
                requests.spawn(async move {
                    let answer = get(host, &path).await;
                    let outcome = answer.map(|answer| (answer.status, answer.text())).map_err(|why| format!("{why:#}"));
                    Asked { took: start.elapsed() - began, outcome }
                });
            }
            requests.join_all().await
        });
        Load { stop, asking }
    }

    /// Asks no more, and waits for every answer.
    pub(crate) async fn end(self) -> Vec<Asked> {
        self.stop.cancel();
        self.asking.await.unwrap()
    }
}

impl Asked {
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.outcome, Ok((200, _)))
    }

    /// Whether it was answered, and by this build.
    pub(crate) fn is_by(&self, build: &str) -> bool {
        let signed = format!("\"build\":\"{build}\"");
        matches!(&self.outcome, Ok((200, body)) if body.contains(&signed))
    }
}

/// Every one that was not answered with 200.
pub(crate) fn failed(asked: &[Asked]) -> Vec<&Asked> {
    asked.iter().filter(|asked| !asked.is_answered()).collect()
}

/// The longest that any of them took.
pub(crate) fn longest(asked: &[Asked]) -> Duration {
    asked.iter().map(|asked| asked.took).max().unwrap_or_default()
}
