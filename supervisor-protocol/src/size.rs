//! Sizes as people write them.

/// Why a size was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a whole number above zero with its unit, as in `64MiB`: B, KiB, MiB or GiB")]
pub struct SizeError;

/// Reads `512B`, `64MiB`, `2 GiB` as bytes. A bare number or zero is refused: there is no silent unit.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(SizeError),
    };
    let number: u64 = number.parse().map_err(|_| SizeError)?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or(SizeError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_and_is_not_zero() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("2 GiB"), Ok(2 << 30));
        for text in ["", "1", "0B", "1MB", "-1B", "1.5MiB", "99999999999999999999GiB"] {
            assert_eq!(parse_size(text), Err(SizeError), "{text}");
        }
    }
}
