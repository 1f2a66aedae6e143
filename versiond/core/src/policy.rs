//! How a slot's changes are rolled out: what the configuration says of them.
//!
//! Must not live here: the window's grammar (`window`), or what follows for a candidate (`plan`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use supervisor_protocol::Sha256;

use crate::errors::ErrorRule;
use crate::evacuate::Neighbours;

/// Who says yes to a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The catalog alone.
    #[default]
    Auto,
    /// It is fetched and asked what it is; then an operator says yes. The first start needs none.
    Staged,
    /// Nothing is even fetched without an operator's yes.
    Manual,
}

/// The rollout of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    pub mode: Mode,
    /// The longest pause of this host's own before a swap that excludes its predecessor and that no operator has
    /// asked for.
    pub jitter: Duration,
    /// What tells this host's pauses from those of others: derived from its id.
    pub seed: u64,
    /// How long a start takes, until starts have been seen here.
    pub start_estimate: Option<Duration>,
    /// When errors take back what is on trial; `None` = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorRule>,
    /// Who can take the slot over while it is away here; `None` = nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuate: Option<Neighbours>,
}

impl Policy {
    /// This host's own pause before these bytes: the same each time, another one on another host.
    #[must_use]
    pub fn pause(&self, sha256: &Sha256) -> Duration {
        let longest = supervisor_protocol::time::millis(self.jitter);
        if longest == 0 {
            return Duration::ZERO;
        }
        // Mixed byte by byte (FNV-1a), then finished, since its high bits alone spread too little.
        let mut mixed = sha256
            .0
            .iter()
            .chain(&self.seed.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^= mixed >> 33;
        Duration::from_millis(mixed % longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f59_a_pause_is_the_hosts_own_and_the_same_each_time() {
        let policy = |seed| Policy { jitter: Duration::from_secs(60), seed, ..Policy::default() };
        let sha256 = Sha256([7; 32]);
        let pauses: Vec<Duration> = (0..32).map(|host| policy(host).pause(&sha256)).collect();
        assert_eq!(pauses, (0..32).map(|host| policy(host).pause(&sha256)).collect::<Vec<_>>());
        assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(60)));
        let early = pauses.iter().filter(|pause| **pause < Duration::from_secs(30)).count();
        assert!((4..28).contains(&early), "hosts spread over the minute: {pauses:?}");
        assert_ne!(policy(1).pause(&sha256), policy(1).pause(&Sha256([8; 32])));
        assert_eq!(Policy::default().pause(&sha256), Duration::ZERO);
    }
}
