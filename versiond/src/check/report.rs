//! The report of a check, for a person.

use std::fmt;

use versiond_core::budget;

use super::{Report, Severity};
use crate::config;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0).min(48);
        writeln!(f, "Settings")?;
        let keys = width(&mut self.settings.iter().map(|setting| setting.key.len()));
        let values = width(&mut self.settings.iter().map(|setting| setting.value.len()));
        for config::Setting { key, value, origin } in &self.settings {
            writeln!(f, "  {key:keys$}  {value:values$}  {origin}")?;
        }
        writeln!(f, "\nTime budget")?;
        for row in self.budget.rows() {
            writeln!(f, "  {:16} {:>9}  (default {:>9})  {}", row.key, row.value, row.default, row.meaning)?;
        }
        writeln!(
            f,
            "  {:16} {:>9}  {:19}  min(drain, shutdown_budget - announce - stop_grace)",
            "host drain",
            budget::Span(self.budget.host_drain()).to_string(),
            ""
        )?;
        for inequality in self.budget.inequalities() {
            writeln!(f, "  {inequality}")?;
        }
        let outer = budget::Span(self.budget.shutdown_budget);
        writeln!(
            f,
            "  --  TimeoutStopSec or terminationGracePeriodSeconds > shutdown_budget ({outer})   not visible from here"
        )?;
        writeln!(f, "\nIsolation\n  {}", self.isolation)?;
        writeln!(f, "\nFindings")?;
        if self.findings.is_empty() {
            writeln!(f, "  none")?;
        }
        for finding in &self.findings {
            let word = match finding.severity {
                Severity::Refused => "refused",
                Severity::Warning => "warning",
            };
            writeln!(f, "  {word}: {}\n           mend: {}", finding.what, finding.mend)?;
        }
        Ok(())
    }
}
