//! Which host a key belongs to: weighted rendezvous hashing over the key and the identities of hosts.
//!
//! `PLACEMENT.md` beside this crate says in prose what is computed here, and `vectors.json` what must come
//! out. Integers only, so that every replica and every machine agrees. Lives here: the hash, the score, the
//! order. Must not live here: addresses, health, drains, or anything that changes while a set of hosts stays.

mod score;
mod table;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use score::KeyHash;
use score::{Score, Seed};

/// The name of this hash and score. It changes with the smallest change of either.
pub const NAME: &str = "versiond-rendezvous-1";

/// How much a host takes in comparison with the others. A weight of zero takes a key only where every
/// other host has one of zero too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(pub u16);

impl Weight {
    /// What a host has of which nothing is said.
    pub const DEFAULT: Weight = Weight(1);
}

impl Default for Weight {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of hosts, made ready for many keys. `I` is how a host is called: its text is all that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement<I> {
    /// By falling weight, then by identity.
    hosts: Vec<Host<I>>,
    /// The seeds alone, in the same order: what a lookup reads.
    seeds: Vec<Seed>,
    /// Where each run of one weight ends.
    runs: Vec<Run>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Host<I> {
    id: I,
    weight: Weight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    weight: Weight,
    end: usize,
}

impl<I: Ord + AsRef<str>> Placement<I> {
    /// Prepares a set. Its order of coming does not exist: a map has none.
    #[must_use]
    pub fn new(hosts: BTreeMap<I, Weight>) -> Self {
        let mut hosts: Vec<Host<I>> = hosts.into_iter().map(|(id, weight)| Host { id, weight }).collect();
        hosts.sort_by_key(|host| std::cmp::Reverse(host.weight));
        let seeds = hosts.iter().map(|host| Seed::of(host.id.as_ref())).collect();
        let mut runs: Vec<Run> = Vec::new();
        for (at, host) in hosts.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if run.weight == host.weight => run.end = at + 1,
                Some(_) | None => runs.push(Run { weight: host.weight, end: at + 1 }),
            }
        }
        Self { hosts, seeds, runs }
    }

    /// The first choice for a key; `None` in an empty set.
    #[must_use]
    pub fn first(&self, key: KeyHash) -> Option<&I> {
        let mut start = 0;
        let mut best: Option<(usize, Score)> = None;
        for run in &self.runs {
            // Within one weight the greater hash has the better score, and of two equal ones the lower
            // identity comes first: no logarithm is needed.
            let mut first = start;
            let mut greatest = self.seeds[start].with(key);
            for (at, seed) in self.seeds[start..run.end].iter().enumerate().skip(1) {
                let hash = seed.with(key);
                if hash > greatest {
                    (first, greatest) = (start + at, hash);
                }
            }
            best = match best {
                Some((at, score)) if score.is_safe_from(greatest, run.weight) => Some((at, score)),
                Some(best) => {
                    let found = (first, Score::new(greatest, run.weight));
                    Some(if self.order(best, found) == Ordering::Less { best } else { found })
                }
                None => Some((first, Score::new(greatest, run.weight))),
            };
            start = run.end;
        }
        best.map(|(at, _)| &self.hosts[at].id)
    }

    /// Every host, the first choice first: each of the others is the first choice in a set without those
    /// before it.
    #[must_use]
    pub fn ranked(&self, key: KeyHash) -> Vec<&I> {
        let score = |at: usize| Score::new(self.seeds[at].with(key), self.hosts[at].weight);
        let mut scored: Vec<(usize, Score)> = (0..self.hosts.len()).map(|at| (at, score(at))).collect();
        scored.sort_unstable_by(|a, b| self.order(*a, *b));
        scored.into_iter().map(|(at, _)| &self.hosts[at].id).collect()
    }

    /// The hosts in order of their identity, with their weights.
    #[must_use]
    pub fn hosts(&self) -> BTreeMap<&I, Weight> {
        self.hosts.iter().map(|host| (&host.id, host.weight)).collect()
    }

    /// How many hosts there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    fn order(&self, (a, of_a): (usize, Score), (b, of_b): (usize, Score)) -> Ordering {
        of_a.cmp(&of_b).then_with(|| self.hosts[a].id.as_ref().cmp(self.hosts[b].id.as_ref()))
    }
}

#[cfg(test)]
mod tests;
