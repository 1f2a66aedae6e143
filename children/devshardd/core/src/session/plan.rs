//! What is to be stored of the steps that come with a request (failure mode S03).
//!
//! A host remembers a state, and the place of record may be ahead of it: others append too. So [`plan`] moves nothing.
//! Its steps are stored only where the place of record still ends where the state does; where it has moved, what was
//! stored meanwhile is read, and the request is planned again. Memory never knows what is not stored.

use super::{State, StepError, Trust};
use crate::diffs::Diff;
use crate::ids::Nonce;

/// What is to be done about them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what is planned is not stored"]
pub struct Plan<'a> {
    /// The place of record has those nonces: what it has must be the same.
    pub known: &'a [Diff],
    /// To be stored, in order.
    pub steps: Vec<Step<'a>>,
    /// The state, once that is done.
    pub next: State,
}

/// A step that is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    pub diff: &'a Diff,
    /// The state behind it.
    pub root: [u8; 32],
}

/// Plans diffs, which are in order of their nonces, behind this state.
pub fn plan<'a>(state: &State, diffs: &'a [Diff]) -> Result<Plan<'a>, StepError> {
    if let Some(zero) = diffs.iter().find(|diff| diff.nonce == Nonce(0)) {
        return Err(StepError::NotNext { latest: state.latest(), got: zero.nonce });
    }
    let (known, new) = diffs.split_at(diffs.partition_point(|diff| diff.nonce <= state.latest()));
    let (mut next, mut steps) = (state.clone(), Vec::with_capacity(new.len()));
    for diff in new {
        next = next.after(diff, Trust::Nobody)?;
        steps.push(Step { diff, root: next.root() });
    }
    Ok(Plan { known, steps, next })
}
