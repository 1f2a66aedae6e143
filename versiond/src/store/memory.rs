//! What has failed lately, so that a bad artifact is not fetched again at every turn. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::Digest;
use supervisor_protocol::time::millis;
use supervisor_protocol::{Sha256, Tick};
use versiond_core::catalog::Artifact;

use super::{StoreError, Unusable};

const FIRST: Duration = Duration::from_secs(1);
/// For what may mend itself: a mirror, a network, a disk.
const LONGEST: Duration = Duration::from_secs(60);
/// For bytes that are not the right ones: asking again costs a whole download.
const LONGEST_BAD: Duration = Duration::from_secs(60 * 60);

/// The failures of one store.
#[derive(Debug, Default)]
pub(super) struct Memory {
    failures: BTreeMap<Sha256, Failure>,
}

#[derive(Debug)]
struct Failure {
    /// Where it was sought: another list of mirrors deserves another try at once.
    urls: Sha256,
    count: u32,
    until: Tick,
    error: StoreError,
    /// The mirrors that gave other bytes. They are not asked again before their pause is over.
    bad: BTreeMap<Sha256, Pause>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    count: u32,
    until: Tick,
}

/// What came of an attempt: the error of the whole, and of each mirror that was asked.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: StoreError,
    pub(super) mirrors: Vec<(String, StoreError)>,
}

impl Memory {
    /// The last error of an artifact and when it is over, while its pause lasts.
    pub(super) fn recall(&self, artifact: &Artifact, now: Tick) -> Option<(StoreError, Tick)> {
        let failure = self.failures.get(&artifact.sha256)?;
        (failure.urls == urls(artifact) && now < failure.until).then(|| (failure.error.clone(), failure.until))
    }

    /// The same, whatever the mirrors: to be shown.
    pub(super) fn last(&self, sha256: Sha256) -> Option<(&StoreError, Tick)> {
        self.failures.get(&sha256).map(|failure| (&failure.error, failure.until))
    }

    pub(super) fn hashes(&self) -> impl Iterator<Item = Sha256> {
        self.failures.keys().copied()
    }

    /// The mirrors to ask now, in order.
    pub(super) fn mirrors<'a>(&self, artifact: &'a Artifact, now: Tick) -> Vec<&'a str> {
        let bad = self.failures.get(&artifact.sha256).map(|failure| &failure.bad);
        let is_paused = |url: &str| bad.and_then(|bad| bad.get(&of(url))).is_some_and(|pause| now < pause.until);
        artifact.urls.iter().map(String::as_str).filter(|url| !is_paused(url)).collect()
    }

    /// Notes a failure. The pause is up to a fifth shorter by `spread`, a number from 0 to 1, so that hosts that
    /// failed together do not ask together.
    pub(super) fn remember(&mut self, artifact: &Artifact, failed: Failed, now: Tick, spread: f64) {
        let before = self.failures.remove(&artifact.sha256);
        let mut bad = before.as_ref().map(|failure| failure.bad.clone()).unwrap_or_default();
        let pause = |count: u32, longest: Duration| {
            FIRST.saturating_mul(1 << count.min(16)).min(longest).mul_f64(1.0 - 0.2 * spread.clamp(0.0, 1.0))
        };
        for (url, error) in &failed.mirrors {
            if is_bad(error) {
                let count = bad.get(&of(url)).map_or(0, |pause| pause.count.saturating_add(1));
                bad.insert(of(url), Pause { count, until: now.after(pause(count, LONGEST_BAD)) });
            }
        }
        let urls = urls(artifact);
        let count = before.filter(|failure| failure.urls == urls).map_or(0, |failure| failure.count.saturating_add(1));
        // While a mirror is left that is merely out of reach it is worth a try soon.
        let all_bad = artifact.urls.iter().map(|url| bad.get(&of(url)).map(|pause| pause.until));
        let first = all_bad.collect::<Option<Vec<_>>>().and_then(|untils| untils.into_iter().min());
        let until = match (&failed.error, first) {
            (StoreError::Unusable(_), _) => now.after(pause(count, LONGEST_BAD)),
            (_, Some(first)) => first,
            (_, None) => now.after(pause(count, LONGEST)),
        };
        self.failures.insert(artifact.sha256, Failure { urls, count, until, error: failed.error, bad });
    }

    pub(super) fn forget(&mut self, sha256: Sha256) -> bool {
        self.failures.remove(&sha256).is_some()
    }

    /// What outlives a restart: what is known of bytes, not of mirrors that did not answer. `wall` is the time
    /// of day in milliseconds.
    pub(super) fn keep(&self, now: Tick, wall: u64) -> Kept {
        let at = |until: Tick| wall.saturating_add(millis(until.since(now)));
        let failures = self.failures.iter().filter_map(|(sha256, failure)| {
            let known = Known::of(&failure.error)?;
            let bad = failure.bad.iter();
            Some(KeptFailure {
                sha256: *sha256,
                urls: failure.urls,
                count: failure.count,
                until: at(failure.until),
                known,
                bad: bad
                    .map(|(url, pause)| KeptPause { url: *url, count: pause.count, until: at(pause.until) })
                    .collect(),
            })
        });
        Kept { schema: SCHEMA, failures: failures.collect() }
    }

    /// Goes on from what was kept. A clock that was put back makes no pause longer than the longest.
    pub(super) fn from_kept(kept: Kept, now: Tick, wall: u64) -> Memory {
        if kept.schema != SCHEMA {
            return Memory::default();
        }
        let at = |until: u64| now.after(Duration::from_millis(until.saturating_sub(wall)).min(LONGEST_BAD));
        let failures = kept.failures.into_iter().map(|kept| {
            let bad = kept.bad.into_iter().map(|bad| (bad.url, Pause { count: bad.count, until: at(bad.until) }));
            let failure = Failure {
                urls: kept.urls,
                count: kept.count,
                until: at(kept.until),
                error: kept.known.error(kept.sha256),
                bad: bad.collect(),
            };
            (kept.sha256, failure)
        });
        Memory { failures: failures.collect() }
    }
}

const SCHEMA: u32 = 1;

/// The memory as it is on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    schema: u32,
    failures: Vec<KeptFailure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptFailure {
    sha256: Sha256,
    urls: Sha256,
    count: u32,
    /// By the time of day, in milliseconds.
    until: u64,
    known: Known,
    bad: Vec<KeptPause>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptPause {
    url: Sha256,
    count: u32,
    until: u64,
}

/// What is known of the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Known {
    OtherHash(Sha256),
    Unusable(String),
}

impl Known {
    fn of(error: &StoreError) -> Option<Known> {
        match error {
            StoreError::HashMismatch { found, .. } => Some(Known::OtherHash(*found)),
            StoreError::Unusable(unusable) => Some(Known::Unusable(unusable.to_string())),
            StoreError::Disk { .. } | StoreError::Client { .. } | StoreError::Fetch { .. } => None,
        }
    }

    fn error(self, expected: Sha256) -> StoreError {
        match self {
            Known::OtherHash(found) => StoreError::HashMismatch { expected, found },
            Known::Unusable(text) => StoreError::Unusable(Unusable::Earlier(text)),
        }
    }
}

fn is_bad(error: &StoreError) -> bool {
    Known::of(error).is_some()
}

fn urls(artifact: &Artifact) -> Sha256 {
    of(&artifact.urls.join("\n"))
}

fn of(text: &str) -> Sha256 {
    Sha256(sha2::Sha256::digest(text).into())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    fn artifact(urls: &[&str]) -> Artifact {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        Artifact { sha256: Sha256([7; 32]), urls, size: None, entry: None, irreversible: false }
    }

    fn failed(error: &StoreError, mirrors: &[&str]) -> Failed {
        let mirrors = mirrors.iter().map(|url| ((*url).to_owned(), error.clone())).collect();
        Failed { error: error.clone(), mirrors }
    }

    fn other_hash() -> StoreError {
        StoreError::HashMismatch { expected: Sha256([7; 32]), found: Sha256([8; 32]) }
    }

    fn out_of_reach() -> StoreError {
        StoreError::disk(Path::new("a"), io::Error::other("b"))
    }

    fn pauses(error: &StoreError, times: usize) -> Vec<u64> {
        let (mut memory, mut now) = (Memory::default(), Tick::ZERO);
        let pause = |_| {
            memory.remember(&artifact(&["a"]), failed(error, &["a"]), now, 0.0);
            let (_, until) = memory.recall(&artifact(&["a"]), now).unwrap();
            assert!(memory.recall(&artifact(&["b"]), now).is_none(), "another mirror deserves a try at once");
            assert!(memory.recall(&artifact(&["a"]), until).is_none());
            let pause = until.since(now).as_secs();
            now = until;
            pause
        };
        (0..times).map(pause).collect()
    }

    /// F18: a failing artifact costs one fetch per pause. Bytes that are wrong cost a whole download each time, so
    /// that their pause grows to an hour; what may mend itself is tried each minute.
    #[test]
    fn f18_the_pause_doubles_up_to_a_minute_and_for_wrong_bytes_to_an_hour() {
        assert_eq!(pauses(&out_of_reach(), 8), [1, 2, 4, 8, 16, 32, 60, 60]);
        let bad = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600];
        assert_eq!(pauses(&other_hash(), 14), bad);
        assert_eq!(pauses(&StoreError::Unusable(Unusable::Format("xz")), 14), bad);
    }

    #[test]
    fn f18_a_mirror_with_wrong_bytes_is_passed_while_another_is_only_out_of_reach() {
        let (mut memory, now, wanted) = (Memory::default(), Tick::ZERO, artifact(&["a", "b"]));
        let mirrors = vec![("a".to_owned(), other_hash()), ("b".to_owned(), out_of_reach())];
        for _ in 0..10 {
            memory.remember(&wanted, Failed { error: other_hash(), mirrors: mirrors.clone() }, now, 0.0);
        }
        let (_, until) = memory.recall(&wanted, now).unwrap();
        assert_eq!(until.since(now), LONGEST);
        assert_eq!(memory.mirrors(&wanted, until), ["b"]);
        // The pause of a bad mirror is its own, whatever list it stands in.
        assert_eq!(memory.mirrors(&artifact(&["c", "a"]), until), ["c"]);
        assert_eq!(memory.mirrors(&wanted, now.after(LONGEST_BAD)), ["a", "b"]);
    }

    #[test]
    fn a_spread_makes_a_pause_shorter_by_a_fifth_at_most() {
        let mut memory = Memory::default();
        memory.remember(&artifact(&["a"]), failed(&out_of_reach(), &["a"]), Tick::ZERO, 1.0);
        assert_eq!(memory.recall(&artifact(&["a"]), Tick::ZERO).unwrap().1, Tick(800));
    }

    /// F18: over a restart too, and whatever the clock says by then.
    #[test]
    fn f18_what_is_known_of_bytes_outlives_a_restart_and_of_mirrors_does_not() {
        let mut memory = Memory::default();
        for _ in 0..4 {
            memory.remember(&artifact(&["a"]), failed(&other_hash(), &["a"]), Tick(500), 0.0);
        }
        let other = Artifact { sha256: Sha256([9; 32]), ..artifact(&["a"]) };
        memory.remember(&other, failed(&out_of_reach(), &["a"]), Tick(500), 0.0);
        let kept = memory.keep(Tick(500), 1_000_000);
        let text = serde_json::to_vec(&kept).unwrap();
        let kept: Kept = serde_json::from_slice(&text).unwrap();
        let read = |wall| Memory::from_kept(kept.clone(), Tick(20), wall);
        let (error, until) = read(1_003_000).recall(&artifact(&["a"]), Tick(20)).unwrap();
        assert!(matches!(error, StoreError::HashMismatch { found, .. } if found == Sha256([8; 32])));
        assert_eq!(until, Tick(5_020));
        assert!(read(1_008_000).recall(&artifact(&["a"]), Tick(20)).is_none());
        assert!(read(1_003_000).last(other.sha256).is_none());
        // The clock was put back by a year.
        let (_, until) = read(0).recall(&artifact(&["a"]), Tick(20)).unwrap();
        assert!(until <= Tick(20).after(LONGEST_BAD));
        // The count goes on.
        let mut memory = read(1_008_000);
        memory.remember(&artifact(&["a"]), failed(&other_hash(), &["a"]), Tick(20), 0.0);
        assert_eq!(memory.recall(&artifact(&["a"]), Tick(20)).unwrap().1, Tick(16_020));
        assert!(memory.forget(artifact(&[]).sha256) && memory.recall(&artifact(&["a"]), Tick(20)).is_none());
    }
}
