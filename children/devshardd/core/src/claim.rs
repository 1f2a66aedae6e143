//! Who may run an inference (failure modes S01 and S02).
//!
//! A row in the place of record says how far an inference is. [`decide`] says what whoever comes may do about it, and
//! there is one function for each edge of the row. A model is called only between [`dispatch`] and [`complete`], and
//! what is dispatched is never taken from its owner: nobody else can know whether the model has run.
//!
//! Pure. Whoever calls holds the row against others from the question to the answer (a transaction with the row
//! locked), and takes the time from the place of record too.

use crate::ids::{Fence, OwnerId};

/// A claim without a dispatch is free after this: its owner has been kept from the next step, or has forgotten it.
pub const CLAIM_MS: u64 = 120_000;

/// How far an inference is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Somebody will call the model.
    Claimed { holder: Holder, since_ms: u64 },
    /// The model may have been called.
    Dispatched { holder: Holder },
    /// A whole result is stored.
    Completed { fence: Fence },
    /// It is certain that the model has not run.
    Abandoned { fence: Fence },
    /// The model has been called, and no whole result will come.
    Uncertain { fence: Fence },
}

/// Who has claimed it, and as which claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub owner: OwnerId,
    pub fence: Fence,
}

/// What whoever comes does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Write [`Row::Claimed`] with this fence, and run it.
    Take { fence: Fence },
    /// Another runs it: ask again.
    Wait { owner: OwnerId },
    /// The stored result is the answer.
    Replay,
    /// The model has been called and nobody can say what came of it: write [`Row::Uncertain`] with this fence.
    GiveUp { fence: Fence },
    /// That has been written already.
    GivenUp,
}

/// Why an edge is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no claim")]
    NoClaim,
    #[error("another claim has followed")]
    Stale,
    #[error("a result was stored before")]
    AlreadyCompleted,
    #[error("it was given up meanwhile")]
    GivenUp,
    #[error("the model has not been called")]
    NotDispatched,
    #[error("the model may have been called")]
    Dispatched,
}

impl Refused {
    /// As programs read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Refused::NoClaim => "claim_none",
            Refused::Stale => "claim_stale",
            Refused::AlreadyCompleted => "claim_completed",
            Refused::GivenUp => "claim_given_up",
            Refused::NotDispatched => "claim_not_dispatched",
            Refused::Dispatched => "claim_dispatched",
        }
    }
}

impl Row {
    /// The fence of the latest claim.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        match self {
            Row::Claimed { holder, .. } | Row::Dispatched { holder } => holder.fence,
            Row::Completed { fence } | Row::Abandoned { fence } | Row::Uncertain { fence } => *fence,
        }
    }

    /// Who runs it now.
    #[must_use]
    pub const fn owner(&self) -> Option<&OwnerId> {
        match self {
            Row::Claimed { holder, .. } | Row::Dispatched { holder } => Some(&holder.owner),
            Row::Completed { .. } | Row::Abandoned { .. } | Row::Uncertain { .. } => None,
        }
    }
}

/// What `me` does about this row. `is_alive`: whether the lease of the row's owner lives; `now_ms`: since 1970.
///
/// It is asked only by a process that does not run the inference. One that does joins those who listen to it, and lets
/// nobody else of its own ask meanwhile: a row of its own would be taken for one that was left lying.
#[must_use]
pub fn decide(row: Option<&Row>, is_alive: bool, me: &OwnerId, now_ms: u64) -> Decision {
    let Some(row) = row else { return Decision::Take { fence: Fence(1) } };
    let next = Fence(row.fence().0.saturating_add(1));
    match row {
        Row::Completed { .. } => Decision::Replay,
        Row::Uncertain { .. } => Decision::GivenUp,
        Row::Abandoned { .. } => Decision::Take { fence: next },
        // Mine, and yet it is not run here: an answer of the place of record was lost on the way.
        Row::Claimed { holder, .. } if holder.owner == *me => Decision::Take { fence: next },
        Row::Claimed { holder, since_ms } => {
            if is_alive && now_ms.saturating_sub(*since_ms) < CLAIM_MS {
                Decision::Wait { owner: holder.owner.clone() }
            } else {
                Decision::Take { fence: next }
            }
        }
        Row::Dispatched { holder } if is_alive && holder.owner != *me => Decision::Wait { owner: holder.owner.clone() },
        Row::Dispatched { holder } => Decision::GiveUp { fence: holder.fence },
    }
}

/// The model is about to be called.
pub fn dispatch(row: Option<&Row>, me: &Holder) -> Result<Row, Refused> {
    match held(row, me)? {
        Held::Claimed => Ok(Row::Dispatched { holder: me.clone() }),
        Held::Dispatched => Err(Refused::Dispatched),
    }
}

/// A whole result is here. The first that is stored is the result.
pub fn complete(row: Option<&Row>, me: &Holder) -> Result<Row, Refused> {
    let completed = Row::Completed { fence: me.fence };
    // Given up by others while the owner could not be seen; it did run to its end, and nothing else has.
    if row == Some(&Row::Uncertain { fence: me.fence }) {
        return Ok(completed);
    }
    match held(row, me)? {
        Held::Claimed => Err(Refused::NotDispatched),
        Held::Dispatched => Ok(completed),
    }
}

/// It is certain that the model has not run, and will not for this claim.
pub fn abandon(row: Option<&Row>, me: &Holder) -> Result<Row, Refused> {
    match held(row, me)? {
        Held::Claimed | Held::Dispatched => Ok(Row::Abandoned { fence: me.fence }),
    }
}

/// The model has been called, and has not given a whole answer.
pub fn give_up(row: Option<&Row>, me: &Holder) -> Result<Row, Refused> {
    match held(row, me)? {
        Held::Claimed => Err(Refused::NotDispatched),
        Held::Dispatched => Ok(Row::Uncertain { fence: me.fence }),
    }
}

/// How far whoever holds a row is.
enum Held {
    Claimed,
    Dispatched,
}

/// What `me` holds of a row, by this very claim.
fn held(row: Option<&Row>, me: &Holder) -> Result<Held, Refused> {
    match row.ok_or(Refused::NoClaim)? {
        Row::Claimed { holder, .. } if holder == me => Ok(Held::Claimed),
        Row::Dispatched { holder } if holder == me => Ok(Held::Dispatched),
        Row::Completed { .. } => Err(Refused::AlreadyCompleted),
        Row::Uncertain { .. } => Err(Refused::GivenUp),
        Row::Claimed { .. } | Row::Dispatched { .. } | Row::Abandoned { .. } => Err(Refused::Stale),
    }
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
