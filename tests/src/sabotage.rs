//! The guards that a versiond built with the feature `faults` can be told to leave out.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// One guard left out, together with whatever would hide that it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sabotage {
    /// The old generation is retired 200 ms before the new one is published; no hold, no retry.
    RetireFirst,
    /// The old generation is killed when the new one is published.
    NoDrain,
    /// Leases read 0, so that a drain ends before the work does.
    NoLease,
    /// Bytes are installed whatever their hash.
    NoHash,
}

impl Sabotage {
    /// Every one.
    pub const ALL: [Sabotage; 4] = [Sabotage::RetireFirst, Sabotage::NoDrain, Sabotage::NoLease, Sabotage::NoHash];

    /// The word after `--fault` and `--sabotage`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Sabotage::RetireFirst => "retire-first",
            Sabotage::NoDrain => "no-drain",
            Sabotage::NoLease => "no-lease",
            Sabotage::NoHash => "no-hash",
        }
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a `versiond --version` line tells of the feature `faults`.
#[must_use]
pub fn has_faults(version_line: &str) -> bool {
    let features = version_line.split_once("(features:").map(|(_, rest)| rest);
    features.is_some_and(|list| list.split([',', ' ', ')']).any(|feature| feature == "faults"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_feature_itself_counts() {
        assert!(has_faults("versiond 0.1.0 (features: faults)"));
        assert!(has_faults("versiond 0.1.0 (features: other, faults)"));
        assert!(!has_faults("versiond 0.1.0"));
        assert!(!has_faults("versiond 0.1.0 (features: no-faults)"));
    }

    #[test]
    fn the_word_on_the_command_line_is_the_word_in_the_report() {
        for sabotage in Sabotage::ALL {
            assert_eq!(Sabotage::from_str(sabotage.as_str(), false), Ok(sabotage));
            assert_eq!(serde_json::to_value(sabotage).unwrap(), sabotage.as_str());
        }
    }
}
