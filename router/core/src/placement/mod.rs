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
    weights: Weights,
}

/// The weights alone, in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Weights {
    Equal,
    Unequal(Vec<Weight>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Host<I> {
    id: I,
    weight: Weight,
}

impl<I: Ord + AsRef<str>> Placement<I> {
    /// Prepares a set. Its order of coming does not exist: a map has none.
    #[must_use]
    pub fn new(hosts: BTreeMap<I, Weight>) -> Self {
        let mut hosts: Vec<Host<I>> = hosts.into_iter().map(|(id, weight)| Host { id, weight }).collect();
        hosts.sort_by_key(|host| std::cmp::Reverse(host.weight));
        let seeds = hosts.iter().map(|host| Seed::of(host.id.as_ref())).collect();
        let is_equal = hosts.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let weights = || hosts.iter().map(|host| host.weight).collect();
        let weights = if is_equal { Weights::Equal } else { Weights::Unequal(weights()) };
        Self { hosts, seeds, weights }
    }

    /// The first choice for a key; `None` in an empty set.
    #[must_use]
    pub fn first(&self, key: KeyHash) -> Option<&I> {
        let at = match &self.weights {
            Weights::Equal => self.first_of_equal(key),
            Weights::Unequal(weights) => self.first_of_unequal(weights, key),
        };
        self.hosts.get(at).map(|host| &host.id)
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

    /// With one weight the greater hash has the better score, and of two equal ones the lower identity comes
    /// first: no logarithm is needed.
    fn first_of_equal(&self, key: KeyHash) -> usize {
        let (mut first, mut greatest) = (0, 0);
        for (at, seed) in self.seeds.iter().enumerate() {
            let hash = seed.with(key);
            if hash > greatest {
                (first, greatest) = (at, hash);
            }
        }
        first
    }

    /// The heaviest come first, so that few of the others need a logarithm to be seen to be worse.
    fn first_of_unequal(&self, weights: &[Weight], key: KeyHash) -> usize {
        let hosts = self.seeds.iter().zip(weights).map(|(seed, weight)| (seed.with(key), *weight));
        let mut hosts = hosts.enumerate();
        let Some((at, (hash, weight))) = hosts.next() else { return 0 };
        let mut best = (at, Score::new(hash, weight));
        let mut rival = best.1.rival();
        for (at, (hash, weight)) in hosts {
            if rival.is_safe_from(hash, weight) {
                continue;
            }
            let found = (at, Score::new(hash, weight));
            if self.order(found, best) == Ordering::Less {
                best = found;
                rival = found.1.rival();
            }
        }
        best.0
    }

    fn order(&self, (a, of_a): (usize, Score), (b, of_b): (usize, Score)) -> Ordering {
        of_a.cmp(&of_b).then_with(|| self.hosts[a].id.as_ref().cmp(self.hosts[b].id.as_ref()))
    }
}

#[cfg(test)]
mod tests;
