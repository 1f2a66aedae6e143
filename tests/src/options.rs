//! The command line, and what follows from it.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Parser;

use crate::sabotage::Sabotage;
use crate::scenario::PlanOptions;

/// Rolls a real child under live load and counts, from the clients' side, what was cut.
///
/// Exit codes: 0 nothing was cut and every swap was seen; 1 it was not so (also every sabotage that was
/// caught); 2 it could not be run, or a sabotage was interrupted; 3 a sabotage was not caught.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Options {
    /// End with one JSON object on the last line of standard output; progress goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// How many swaps, over all slots.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub swaps: u32,
    /// How many streams are kept alive at once, over all slots.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=15_000))]
    pub streams: u32,
    /// Run a versiond that lacks this guard (`make faults` builds it): the demo must notice.
    #[arg(long, value_name = "GUARD")]
    pub sabotage: Option<Sabotage>,
    /// The versiond to run [default: beside this program; with --sabotage: ../faults/release/versiond].
    #[arg(long, value_name = "PATH")]
    pub versiond: Option<Utf8PathBuf>,
    /// The folder of demo-child-a, -b and -stuck [default: beside this program].
    #[arg(long, value_name = "DIR")]
    pub children: Option<Utf8PathBuf>,
    /// The shortest stream, in milliseconds.
    #[arg(long, default_value_t = 3_000, value_name = "MS")]
    pub stream_min: u64,
    /// The longest stream, in milliseconds.
    #[arg(long, default_value_t = 15_000, value_name = "MS")]
    pub stream_max: u64,
    /// How many slots.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub slots: u32,
    /// Short requests each second, over all slots.
    #[arg(long, default_value_t = 200.0, value_name = "PER_SECOND")]
    pub rps: f64,
    /// The seed of everything random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Kill versiond (SIGKILL) this many times at random moments and start it again.
    #[arg(long, default_value_t = 0, value_name = "TIMES")]
    pub kill: u32,
    /// Work in this folder, and leave it there.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<Utf8PathBuf>,
}

/// The bounds of the length of streams, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    pub min_ms: u64,
    pub max_ms: u64,
}

/// What the clients do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub slots: usize,
    /// Alive at once, over all slots.
    pub streams: usize,
    pub lengths: Lengths,
    /// Short requests each second, over all slots.
    pub rps: f64,
    pub short_per_slot: usize,
    pub uploads_per_slot: usize,
    pub websockets_per_slot: usize,
    /// The first streams start spread over this time.
    pub ramp: Duration,
    pub seed: u64,
}

impl Options {
    /// What the clients do.
    #[must_use]
    pub fn load(&self) -> Load {
        let min_ms = self.stream_min.max(1);
        Load {
            slots: self.slots as usize,
            streams: self.streams as usize,
            lengths: Lengths { min_ms, max_ms: self.stream_max.max(min_ms) },
            rps: self.rps,
            short_per_slot: 3,
            uploads_per_slot: 2,
            websockets_per_slot: 3,
            ramp: Duration::from_millis(self.stream_min.min(2_000)),
            seed: self.seed,
        }
    }

    /// What is done to the catalog. A sabotage is met by swaps alone, and by the wrong hash where that is
    /// the guard in question.
    #[must_use]
    pub fn plan(&self) -> PlanOptions {
        let honest = self.sabotage.is_none();
        PlanOptions {
            slots: self.slots as usize,
            swaps: self.swaps as usize,
            wrong_hash: honest || self.sabotage == Some(Sabotage::NoHash),
            never_ready: honest,
            removal: honest,
        }
    }

    /// At least this many streams must be alive across each swap: a fifth of those kept alive at once for
    /// four slots, and as much less as there are more slots.
    #[must_use]
    pub fn alive_floor(&self) -> u64 {
        u64::from(self.streams) * 4 / (5 * u64::from(self.slots).max(4))
    }

    /// Where the programs are: (versiond, folder of the children).
    #[must_use]
    pub fn programs(&self, this: &Utf8Path) -> (Utf8PathBuf, Utf8PathBuf) {
        let beside = this.parent().unwrap_or(Utf8Path::new("."));
        let default = match self.sabotage {
            None => beside.join("versiond"),
            Some(_) => beside.parent().unwrap_or(Utf8Path::new("..")).join("faults/release/versiond"),
        };
        (self.versiond.clone().unwrap_or(default), self.children.clone().unwrap_or_else(|| beside.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        Options::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn five_hundred_streams_over_four_slots_mean_a_hundred_across_each_swap() {
        assert_eq!(options("versiond-demo").alive_floor(), 100);
        assert_eq!(options("versiond-demo --streams 100").alive_floor(), 20);
        assert_eq!(options("versiond-demo --slots 8").alive_floor(), 50);
    }

    #[test]
    fn a_sabotaged_versiond_is_looked_for_where_make_faults_builds_it() {
        let this = Utf8Path::new("/w/target/release/versiond-demo");
        assert_eq!(options("versiond-demo").programs(this).0, "/w/target/release/versiond");
        let sabotaged = options("versiond-demo --sabotage no-hash");
        assert_eq!(sabotaged.programs(this).0, "/w/target/faults/release/versiond");
        assert_eq!(sabotaged.programs(this).1, "/w/target/release");
        assert_eq!(options("versiond-demo --versiond /v").programs(this).0, "/v");
    }
}
