//! Ways to break a guard on purpose, so that the checks are known to be able to fail.
//!
//! They exist only with the cargo feature `faults`; a release has neither the option nor the code.
//! Lives here: guards to remove, and in [`crash`] the points at which the process can be made to die.

pub mod crash;

/// A guard to remove, together with whatever would hide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "faults", derive(clap::ValueEnum))]
pub enum Fault {
    /// Retire the old target, wait 200 ms, publish the new one; hold and retry are off.
    RetireFirst,
    /// Kill the old generation the moment the new one is published.
    NoDrain,
    /// Leases always read 0; the child's drain and the stop grace are skipped.
    NoLease,
    /// Nothing is verified: whatever the mirror delivers is served.
    NoHash,
}

/// The faults of this run: none, or one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    #[cfg(feature = "faults")]
    active: Option<Fault>,
}

impl Faults {
    /// Breaks one guard.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn one(active: Option<Fault>) -> Faults {
        Faults { active }
    }

    /// Whether this guard is removed. Without the feature: never.
    #[must_use]
    pub fn has(self, fault: Fault) -> bool {
        #[cfg(feature = "faults")]
        return self.active == Some(fault);
        #[cfg(not(feature = "faults"))]
        {
            let _ = fault;
            false
        }
    }
}
