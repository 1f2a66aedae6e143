//! When a backend counts as lost and when as there again. Pure.
//!
//! Two failures in a row take it out and two successes bring it back, so that one lost probe moves no traffic and a
//! backend that flaps is not believed at once.

/// How many probes in a row turn the verdict.
pub const IN_A_ROW: u32 = 2;

/// The verdict on a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers. `failed` = probes that have failed since the last success.
    Well { failed: u32 },
    /// It does not. `answered` = probes that have succeeded since the last failure.
    Lost { answered: u32 },
}

impl Health {
    /// A backend that has not been seen yet.
    pub const UNSEEN: Health = Health::Lost { answered: IN_A_ROW - 1 };

    /// Whether it counts as there.
    #[must_use]
    pub const fn is_well(self) -> bool {
        match self {
            Health::Well { .. } => true,
            Health::Lost { .. } => false,
        }
    }

    /// After one more probe.
    #[must_use]
    pub const fn after(self, succeeded: bool) -> Health {
        match (self, succeeded) {
            (Health::Well { .. }, true) => Health::Well { failed: 0 },
            (Health::Well { failed }, false) if failed + 1 < IN_A_ROW => Health::Well { failed: failed + 1 },
            (Health::Well { .. } | Health::Lost { .. }, false) => Health::Lost { answered: 0 },
            (Health::Lost { answered }, true) if answered + 1 < IN_A_ROW => Health::Lost { answered: answered + 1 },
            (Health::Lost { .. }, true) => Health::Well { failed: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` and `-` are probes; the verdict after each is written below it.
    #[track_caller]
    fn check(probes: &str, verdicts: &str) {
        let mut health = Health::UNSEEN;
        let seen: String = probes
            .chars()
            .map(|probe| {
                health = health.after(probe == '+');
                if health.is_well() { 'w' } else { 'L' }
            })
            .collect();
        assert_eq!(seen, verdicts, "after {probes}");
    }

    #[test]
    fn two_in_a_row_turn_the_verdict_and_one_does_not() {
        check("+-+-+-", "wwwwww");
        check("+--+-++-", "wwLLLLww");
        // The first success of all is enough.
        check("--+", "LLL");
        check("+", "w");
        check("---++", "LLLLw");
    }
}
