//! The hash and the score of one key on one host.

use std::cmp::Ordering;

use super::Weight;
use super::table::LOG2;

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
/// What tells the hash of a key from that of a host of the same name.
const OF_KEY: u64 = 1;
const OF_HOST: u64 = 2;

/// The hash of a key: taken once, whatever the number of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Hashes a key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(hash(OF_KEY, key))
    }
}

/// The hash of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u64);

impl Seed {
    pub(super) fn of(id: &str) -> Self {
        Self(hash(OF_HOST, id.as_bytes()))
    }

    /// The hash of a key on this host.
    #[inline]
    pub(super) const fn with(self, key: KeyHash) -> u64 {
        mix(self.0 ^ key.0)
    }
}

/// How well a key suits a host. The least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Score {
    distance: u64,
    weight: Weight,
    hash: u64,
}

impl Score {
    pub(super) fn new(hash: u64, weight: Weight) -> Self {
        Self { distance: distance(hash), weight, hash }
    }

    /// What another needs to come before this one.
    pub(super) fn rival(self) -> Rival {
        // A little more than ln 2 of the distance.
        Rival { within: ((self.distance * 45_427) >> 16) + 1, weight: u64::from(self.weight.0) }
    }
}

/// A score, made ready to tell without a logarithm that most others are worse.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rival {
    within: u64,
    weight: u64,
}

impl Rival {
    /// Whether a host of that weight is worse for sure: `-ln(u)` is at least `1 - u`, and rounding takes away
    /// less than two.
    #[inline]
    pub(super) fn is_safe_from(self, hash: u64, weight: Weight) -> bool {
        (!hash >> 24).saturating_sub(2) * self.weight > self.within * u64::from(weight.0)
    }
}

impl Ord for Score {
    /// By distance over weight, then the greater hash first. Nothing divided by zero is infinite.
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (u64::from(self.weight.0), u64::from(other.weight.0));
        let by_weight = match (a, b) {
            (0, 0) => Ordering::Equal,
            (0, _) => Ordering::Greater,
            (_, 0) => Ordering::Less,
            // At most 2^46 times 2^16.
            (a, b) => (self.distance * b).cmp(&(other.distance * a)),
        };
        by_weight.then_with(|| other.hash.cmp(&self.hash))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `2^40 · -log2(hash / 2^64)`, by a line between two entries of the table. Never zero, and never greater
/// for a greater hash.
pub(super) fn distance(hash: u64) -> u64 {
    let hash = hash | 1;
    let whole = u64::from(hash.ilog2());
    let scaled = hash << (63 - whole);
    let (low, high) = LOG2.split_at(usize::from(top_ten(scaled)) + 1);
    let below = low.last().copied().unwrap_or_default();
    let above = high.first().copied().unwrap_or_default();
    let fraction = (scaled >> 21) & 0xffff_ffff;
    (64 << 40) - ((whole << 40) + below + (((above - below) * fraction) >> 32))
}

/// The ten bits after the first, which is one.
const fn top_ten(scaled: u64) -> u16 {
    #[allow(clippy::cast_possible_truncation, reason = "ten bits are left")]
    {
        ((scaled >> 53) & 1_023) as u16
    }
}

/// The finalizer of splitmix64.
#[inline]
pub(super) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Eight bytes at a time, the last of them filled up with zeros; the length tells those apart.
fn hash(of: u64, bytes: &[u8]) -> u64 {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let mut hash = mix(GAMMA.wrapping_mul(of).wrapping_add(length));
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = mix((hash ^ u64::from_le_bytes(*word)).wrapping_add(GAMMA));
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = mix((hash ^ u64::from_le_bytes(word)).wrapping_add(GAMMA));
    }
    hash
}
