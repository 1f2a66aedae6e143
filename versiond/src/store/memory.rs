//! What has failed lately, so that a bad artifact is not fetched again at every turn. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use supervisor_protocol::{Sha256, Tick};
use versiond_core::catalog::Artifact;

use super::StoreError;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Memory {
    failures: BTreeMap<Sha256, Failure>,
}

#[derive(Debug)]
struct Failure {
    /// Where it was sought: another list of mirrors deserves another try at once.
    urls: Vec<String>,
    count: u32,
    until: Tick,
    error: StoreError,
}

impl Memory {
    /// The last error of an artifact while its pause lasts.
    pub(super) fn recall(&self, artifact: &Artifact, now: Tick) -> Option<StoreError> {
        let failure = self.failures.get(&artifact.sha256)?;
        (failure.urls == artifact.urls && now < failure.until).then(|| failure.error.clone())
    }

    pub(super) fn remember(&mut self, artifact: &Artifact, error: &StoreError, now: Tick) {
        let before = self.failures.get(&artifact.sha256).filter(|failure| failure.urls == artifact.urls);
        let count = before.map_or(0, |failure| failure.count.saturating_add(1));
        let pause = FIRST.saturating_mul(1 << count.min(6)).min(LONGEST);
        let failure = Failure { urls: artifact.urls.clone(), count, until: now.after(pause), error: error.clone() };
        self.failures.insert(artifact.sha256, failure);
    }

    pub(super) fn forget(&mut self, sha256: Sha256) {
        self.failures.remove(&sha256);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Unusable;

    /// F18: a failing artifact costs one fetch per pause, and the pause grows to a minute.
    #[test]
    fn f18_the_pause_doubles_up_to_a_minute_and_other_mirrors_end_it() {
        let artifact = |url: &str| Artifact {
            sha256: Sha256([7; 32]),
            urls: vec![url.to_owned()],
            size: None,
            entry: None,
            irreversible: false,
        };
        let error = StoreError::Unusable(Unusable::Format("tar"));
        let mut memory = Memory::default();
        let mut now = Tick::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            memory.remember(&artifact("a"), &error, now);
            let start = now;
            while memory.recall(&artifact("a"), now).is_some() {
                assert!(memory.recall(&artifact("b"), now).is_none());
                now = now.after(Duration::from_millis(500));
            }
            pauses.push(now.since(start).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        memory.remember(&artifact("b"), &error, now);
        assert!(memory.recall(&artifact("b"), now.after(FIRST)).is_none());
        memory.remember(&artifact("b"), &error, now);
        memory.forget(artifact("b").sha256);
        assert!(memory.recall(&artifact("b"), now).is_none());
    }
}
