//! What a source of addresses says, and what it moves.
//!
//! Nothing moves by an empty answer, an error, another order, or an address that comes twice. What DNS leaves
//! out is believed the second time in a row.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::identity::{Address, IdentityError, MemberId};
use crate::placement::Weight;

/// One member as a source names it: `gpu-1=10.0.0.1:8080` in `router.toml`, an object in `hosts.json`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// An expectation: a host that calls itself otherwise stays out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MemberId>,
    pub address: Address,
    #[serde(default)]
    pub weight: Weight,
}

/// Why a text names no member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: a member is `address` or `name=address`")]
pub struct ListedError {
    pub text: String,
    #[source]
    pub source: IdentityError,
}

/// What a source said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// A set in the configuration, or a file: it means what it says.
    Written(Vec<Listed>),
    /// An answer of DNS.
    Resolved(Vec<Listed>),
    /// No answer, or one that could not be read.
    Failed,
}

/// What a listing moved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relisted {
    pub moved: Moved,
    pub added: BTreeSet<Address>,
    pub removed: BTreeSet<Address>,
    /// Left out by DNS for the first time: they stay until the next answer.
    pub doubted: BTreeSet<Address>,
}

/// Whether a listing was followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Moved {
    #[default]
    Followed,
    /// It names nobody: members stay as they were.
    Empty,
    /// It could not be had: members stay as they were.
    Failed,
}

impl Moved {
    /// The metric label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Moved::Followed => "followed",
            Moved::Empty => "empty",
            Moved::Failed => "failed",
        }
    }
}

impl FromStr for Listed {
    type Err = ListedError;

    /// Reads `address` or `name=address`, with the default weight.
    fn from_str(text: &str) -> Result<Self, ListedError> {
        let wrong = |source| ListedError { text: text.to_owned(), source };
        let (id, address) = match text.split_once('=') {
            Some((id, address)) => (Some(MemberId::new(id).map_err(wrong)?), address),
            None => (None, text),
        };
        Ok(Self { id, address: Address::new(address).map_err(wrong)?, weight: Weight::DEFAULT })
    }
}

/// The listing by address; of an address that comes twice the first mention counts, in the order of names and
/// not of coming.
pub(super) fn by_address(mut listed: Vec<Listed>) -> BTreeMap<Address, Listed> {
    // A mention with a name says more than one without.
    listed.sort_by(|a, b| (a.id.is_none(), a).cmp(&(b.id.is_none(), b)));
    let mut known = BTreeMap::new();
    for member in listed {
        known.entry(member.address.clone()).or_insert(member);
    }
    known
}
