//! Whose sessions are served, on which terms and by which group: from a file, or by whoever comes first.
//!
//! Must not live here: the chain, and what a session has been bound to when it began.

use std::collections::BTreeMap;

use devshard_core::auth::Address;
use devshard_core::ids::{Epoch, EscrowId};
use devshard_core::session::{Binding, Group, Member, Slot, Terms, TermsError};
use serde::Deserialize;

/// Whose sessions are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Escrows {
    /// Whoever signs the first request of a session owns it, and this host alone is its group. Nobody pays.
    FirstSigner { epoch: Epoch },
    /// Those of a list.
    Listed(BTreeMap<EscrowId, Escrow>),
}

/// An escrow as the chain has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escrow {
    creator: Address,
    epoch: Epoch,
    /// Without it nobody pays, unless there are terms.
    amount: Option<u64>,
    terms: Option<Terms>,
    /// This host alone, unless given.
    #[serde(default)]
    group: Vec<Place>,
}

/// A place in a group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    address: Address,
    warm_key: Option<Address>,
    /// Below which its routes are.
    url: Option<String>,
}

/// What a session begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub epoch: Epoch,
    pub binding: Binding,
}

/// Why a list is not taken.
#[derive(Debug, thiserror::Error)]
pub enum EscrowsError {
    #[error("not a list of escrows")]
    Json(#[source] serde_json::Error),
    #[error("{escrow}")]
    Terms {
        escrow: EscrowId,
        #[source]
        source: TermsError,
    },
}

impl Escrows {
    /// Reads a list; `me` is the group where there is none.
    pub fn read(text: &str, me: &Address) -> Result<Escrows, EscrowsError> {
        let list: BTreeMap<EscrowId, Escrow> = serde_json::from_str(text).map_err(EscrowsError::Json)?;
        for (escrow, found) in &list {
            found.binding(escrow, me).map_err(|source| EscrowsError::Terms { escrow: escrow.clone(), source })?;
        }
        Ok(Escrows::Listed(list))
    }

    /// What the session of an escrow begins with; `signer` has signed the request, `me` is this host.
    #[must_use]
    pub fn find(&self, escrow: &EscrowId, signer: &Address, me: &Address) -> Option<Found> {
        match self {
            Escrows::FirstSigner { epoch } => {
                let group = Group::alone(me.clone());
                let binding = Binding::new(escrow.clone(), signer.clone(), 0, Terms::free(), group).ok()?;
                Some(Found { epoch: *epoch, binding })
            }
            Escrows::Listed(list) => {
                let found = list.get(escrow)?;
                // It was checked when it was read.
                Some(Found { epoch: found.epoch, binding: found.binding(escrow, me).ok()? })
            }
        }
    }

    /// The epoch of a listed escrow.
    #[must_use]
    pub fn epoch(&self, escrow: &EscrowId) -> Option<Epoch> {
        match self {
            Escrows::FirstSigner { .. } => None,
            Escrows::Listed(list) => list.get(escrow).map(|found| found.epoch),
        }
    }

    /// The latest epoch of those listed.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<Epoch> {
        match self {
            Escrows::FirstSigner { .. } => None,
            Escrows::Listed(list) => list.values().map(|found| found.epoch).max(),
        }
    }

    /// Where the member of a slot is reached.
    #[must_use]
    pub fn url(&self, escrow: &EscrowId, slot: Slot) -> Option<&str> {
        match self {
            Escrows::FirstSigner { .. } => None,
            Escrows::Listed(list) => {
                let place = list.get(escrow)?.group.get(usize::try_from(slot.0).ok()?)?;
                place.url.as_deref().map(|url| url.trim_end_matches('/'))
            }
        }
    }
}

impl Escrow {
    fn binding(&self, escrow: &EscrowId, me: &Address) -> Result<Binding, TermsError> {
        let group = if self.group.is_empty() {
            Group::alone(me.clone())
        } else {
            let member = |place: &Place| Member { address: place.address.clone(), warm_key: place.warm_key.clone() };
            Group::new(self.group.iter().map(member).collect())?
        };
        let is_free = self.amount.is_none() && self.terms.is_none();
        let terms = if is_free { Terms::free() } else { self.terms.clone().unwrap_or_default() };
        Binding::new(escrow.clone(), self.creator.clone(), self.amount.unwrap_or(0), terms, group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::stored(text.to_owned())
    }

    #[test]
    fn an_escrow_is_listed_with_its_terms() {
        let text = r#"{
            "free": {"creator": "gonka1c", "epoch": 12},
            "paid": {"creator": "gonka1c", "epoch": 12, "amount": 50000, "terms": {"token_price": 3},
                     "group": [{"address": "gonka1a", "url": "http://a/v1/"}, {"address": "gonka1b", "warm_key": "gonka1w"}]}
        }"#;
        let (me, creator) = (address("gonka1me"), address("gonka1c"));
        let escrows = Escrows::read(text, &me).unwrap();
        let of = |name: &str| escrows.find(&name.parse().unwrap(), &address("gonka1x"), &me);
        let free = of("free").unwrap();
        assert_eq!((free.binding.terms, free.binding.group), (Terms::free(), Group::alone(me.clone())));
        let paid = of("paid").unwrap();
        assert_eq!((paid.epoch, &paid.binding.creator, paid.binding.amount), (Epoch(12), &creator, 50_000));
        assert_eq!(paid.binding.terms, Terms { token_price: 3, ..Terms::default() });
        assert_eq!(paid.binding.group.member(Slot(1)).unwrap().warm_key, Some(address("gonka1w")));
        let paid = "paid".parse().unwrap();
        assert_eq!((escrows.url(&paid, Slot(0)), escrows.url(&paid, Slot(1))), (Some("http://a/v1"), None));
        assert_eq!((of("other"), escrows.latest_epoch()), (None, Some(Epoch(12))));
        let first = Escrows::FirstSigner { epoch: Epoch(7) }.find(&paid, &creator, &me).unwrap();
        assert_eq!((first.epoch, first.binding.creator), (Epoch(7), creator));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |text: &str| {
            let error = Escrows::read(text, &address("gonka1me")).unwrap_err();
            children_kit::log::chain(&error)
        };
        assert!(said("{").starts_with("not a list of escrows: "), "{}", said("{"));
        let poor = r#"{"e-1": {"creator": "gonka1c", "epoch": 1, "amount": 7}}"#;
        assert_eq!(said(poor), "e-1: the escrow holds 7, and its session costs 10000 before it begins");
        let unknown = r#"{"e-1": {"creator": "gonka1c", "epoch": 1, "amout": 7}}"#;
        assert!(said(unknown).contains("amout"), "{}", said(unknown));
    }
}
