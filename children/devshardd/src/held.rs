//! Which sessions this process holds: those that it has served lately. While it is drained session by session it
//! serves those and refuses others.

use std::collections::BTreeMap;
use std::time::Duration;

use devshard_core::ids::EscrowId;
use parking_lot::Mutex;
use tokio::time::Instant;

/// A session that has asked for nothing for so long is held no more.
const IDLE: Duration = Duration::from_secs(3_600);
/// From how many on those that are idle are looked for.
const SWEEP_FROM: usize = 1_024;

/// The sessions.
#[derive(Debug, Default)]
pub struct Held {
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    last: BTreeMap<EscrowId, Instant>,
    sweep_at: usize,
}

impl Held {
    /// A request of this session has been admitted.
    pub fn touch(&self, escrow: &EscrowId) {
        let (now, mut sessions) = (Instant::now(), self.sessions.lock());
        sessions.last.insert(escrow.clone(), now);
        if sessions.last.len() >= sessions.sweep_at.max(SWEEP_FROM) {
            sessions.last.retain(|_, last| now.duration_since(*last) < IDLE);
            // Twice what is left: a sweep is paid for by as many sessions as it looks at.
            sessions.sweep_at = sessions.last.len() * 2;
        }
    }

    /// Whether it is held.
    #[must_use]
    pub fn has(&self, escrow: &EscrowId) -> bool {
        let sessions = self.sessions.lock();
        sessions.last.get(escrow).is_some_and(|last| last.elapsed() < IDLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_is_held_for_an_hour() {
        let (held, id) = (Held::default(), |number: usize| format!("s{number}").parse::<EscrowId>().unwrap());
        held.touch(&id(0));
        assert!(held.has(&id(0)) && !held.has(&id(1)));
        tokio::time::advance(IDLE).await;
        assert!(!held.has(&id(0)));
        for number in 0..2 * SWEEP_FROM {
            held.touch(&id(number + 1));
        }
        assert!(held.sessions.lock().last.len() <= 2 * SWEEP_FROM, "what is idle is forgotten");
    }
}
