//! Time as the pure cores see it: a parameter, never a clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds on a monotonic clock whose zero the shell chooses. Never wall time, so that a clock
/// step or a suspend moves no deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tick(pub u64);

impl Tick {
    /// The zero of the clock.
    pub const ZERO: Tick = Tick(0);

    /// This tick and `duration` more, in whole milliseconds.
    #[must_use]
    pub fn after(self, duration: Duration) -> Tick {
        Tick(self.0.saturating_add(millis(duration)))
    }

    /// Time from `earlier` to this tick; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Whole milliseconds of a duration, saturating.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why a duration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("a duration needs a unit: one of ms, s, m, h, as in `90s` or `1h30m`")]
    Unit,
    #[error("a duration is whole numbers with units, as in `90s` or `1h30m`")]
    Number,
    #[error("a duration may not be zero")]
    Zero,
    #[error("a duration this long cannot be counted in milliseconds")]
    TooLong,
}

/// Reads `500ms`, `90s`, `25m`, `1h30m`. A bare number or zero is refused: there is no silent default.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(DurationError::Number);
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| DurationError::Number)?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(DurationError::Unit),
        };
        rest = &rest[letters..];
        let part = number.checked_mul(unit).ok_or(DurationError::TooLong)?;
        total = total.checked_add(part).ok_or(DurationError::TooLong)?;
    }
    if total == 0 { Err(DurationError::Zero) } else { Ok(Duration::from_millis(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f36_a_duration_without_unit_or_of_zero_is_refused() {
        for (text, expected) in [
            ("600s", Ok(Duration::from_secs(600))),
            ("500ms", Ok(Duration::from_millis(500))),
            ("1h30m", Ok(Duration::from_secs(5_400))),
            ("600", Err(DurationError::Unit)),
            ("0s", Err(DurationError::Zero)),
            ("", Err(DurationError::Number)),
            ("s", Err(DurationError::Number)),
            ("-1s", Err(DurationError::Number)),
            ("1.5s", Err(DurationError::Unit)),
            ("99999999999999999h", Err(DurationError::TooLong)),
        ] {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }
}
