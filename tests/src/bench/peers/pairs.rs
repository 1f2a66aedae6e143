//! Ratios of pairs: what two contenders did in the same repetition, one beside the other.
//!
//! Pure. What else the machine does from one repetition to the next meets both of a pair, so that their ratio is
//! worth more than that of two medians.

use serde::Serialize;

/// A ratio, with the interval in which the middle one lies with 95 % (by order statistics, of any distribution).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub pairs: usize,
}

impl Ratio {
    /// Of each `one` to the `other` at the same place. `None` without a pair.
    #[must_use]
    pub fn of(one: &[f64], other: &[f64]) -> Option<Ratio> {
        let mut ratios: Vec<f64> =
            one.iter().zip(other).filter(|(_, other)| **other > 0.0).map(|(one, other)| one / other).collect();
        ratios.sort_by(f64::total_cmp);
        let (first, last) = reach(ratios.len())?;
        Some(Ratio { median: middle(&ratios)?, low: ratios[first], high: ratios[last], pairs: ratios.len() })
    }
}

/// The middle value.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    middle(&sorted)
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let (half, is_odd) = (sorted.len() / 2, sorted.len() % 2 == 1);
    match sorted {
        [] => None,
        _ if is_odd => Some(sorted[half]),
        _ => Some(f64::midpoint(sorted[half - 1], sorted[half])),
    }
}

/// Between which two of `count` sorted values the true middle lies with 95 %: each value is above it or below it like
/// a coin. With fewer than six there is no such pair, and all of them are given.
fn reach(count: usize) -> Option<(usize, usize)> {
    let last = count.checked_sub(1)?;
    let mut outside = 0.0;
    let mut ways = 1.0;
    let all = 2f64.powi(i32::try_from(count).ok()?);
    let mut cut = 0;
    for at in 0..count / 2 {
        // Fewer than `at + 1` values lie on one side.
        outside += 2.0 * ways / all;
        if outside > 0.05 {
            break;
        }
        cut = at;
        ways *= (count - at) as f64 / (at + 1) as f64;
    }
    Some((cut, last - cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_binomial_table() {
        for (count, expected) in
            [(1, (0, 0)), (5, (0, 4)), (6, (0, 5)), (8, (0, 7)), (9, (1, 7)), (12, (2, 9)), (20, (5, 14))]
        {
            assert_eq!(reach(count), Some(expected), "{count}");
        }
        assert_eq!(reach(0), None);
    }

    #[test]
    fn a_ratio_is_that_of_the_pair_and_not_of_the_middles() {
        // A machine that gets twice as slow in the middle.
        let (one, other) = ([8.0, 16.0, 16.0], [10.0, 20.0, 20.0]);
        let ratio = Ratio::of(&one, &other).unwrap();
        assert!((ratio.median - 0.8).abs() < 1e-9 && (ratio.high - ratio.low).abs() < 1e-9);
        assert_eq!(Ratio::of(&[], &[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0, 10.0]), Some(2.5));
    }
}
