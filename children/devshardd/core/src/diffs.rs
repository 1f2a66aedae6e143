//! A session's history: one diff for each nonce, without a hole, never two different ones (failure mode S03).
//!
//! Must not live here: the place of record, and what a diff does to a session ([`crate::session`]).

use crate::ids::Nonce;

/// One step, as it is sent and stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    pub nonce: Nonce,
    /// The nonce and the transactions, as [`crate::wire::Content`].
    pub txs: Vec<u8>,
    /// The owner's signature of the content with the escrow and the state behind it.
    pub user_sig: Vec<u8>,
    /// The state behind it, as its owner computes it; may be empty.
    pub post_state_root: Vec<u8>,
}

/// Two histories were told for one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("diff {0} is stored with other bytes")]
pub struct Fork(pub Nonce);

impl Fork {
    /// As programs read it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        "diff_fork"
    }
}

/// Whether this is what is stored for its nonce: every byte that its owner has signed. A signature may be written in
/// more than one way, and made anew by an owner whose signatures differ each time: it is not compared.
pub fn compare(stored: &Diff, diff: &Diff) -> Result<(), Fork> {
    fn signed(diff: &Diff) -> (Nonce, &[u8], &[u8]) {
        (diff.nonce, &diff.txs, &diff.post_state_root)
    }
    if signed(stored) == signed(diff) { Ok(()) } else { Err(Fork(diff.nonce)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_was_signed_is_compared() {
        let bytes = b"a".to_vec();
        let there = Diff { nonce: Nonce(1), txs: bytes.clone(), user_sig: bytes.clone(), post_state_root: bytes };
        assert_eq!(compare(&there, &there.clone()), Ok(()));
        // The same signature with another `v` must not lock its owner out.
        assert_eq!(compare(&there, &Diff { user_sig: b"b".to_vec(), ..there.clone() }), Ok(()));
        let others =
            [Diff { txs: b"b".to_vec(), ..there.clone() }, Diff { post_state_root: b"b".to_vec(), ..there.clone() }];
        for other in others {
            assert_eq!(compare(&there, &other), Err(Fork(Nonce(1))), "{other:?}");
        }
    }
}
