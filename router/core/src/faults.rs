//! Guards that a build with the feature `faults` can leave out, so that the checks of others are known to see it.
//!
//! No release has this module.

/// One guard left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// What may have been executed is sent again, whatever its method.
    RetryPost,
    /// Requests go by what was known when the router became ready.
    StaleView,
    /// What a host says it has not admitted is an answer like any other.
    NoNotAdmitted,
}

impl Sabotage {
    /// Every one.
    pub const ALL: [Sabotage; 3] = [Sabotage::RetryPost, Sabotage::StaleView, Sabotage::NoNotAdmitted];

    /// Its word on a command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Sabotage::RetryPost => "retry-post",
            Sabotage::StaleView => "stale-view",
            Sabotage::NoNotAdmitted => "no-not-admitted",
        }
    }
}
