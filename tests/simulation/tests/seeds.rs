//! Ten thousand worlds, each by its seed. `SEEDS=100000 cargo test -p versiond-simulation` runs more; `SEED=7` runs one,
//! with its last events.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use versiond_simulation::{Outcome, run};

const SEEDS: u64 = 10_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is no number")))
}

/// A world that broke a promise, as somebody can play it again.
fn told(outcome: &Outcome) -> String {
    let Outcome { seed, broken, trace, .. } = outcome;
    let again = format!("SEED={seed} cargo test -p versiond-simulation -- --nocapture");
    format!("{}\n{}\nagain: {again}", broken.as_deref().unwrap_or("nothing was broken"), trace.join("\n"))
}

/// P1, P4, P8, P9: whatever happens to hosts, routers and what lies between them.
#[test]
fn f49_f52_f62_f65_p1_p4_p8_p9_hold_in_ten_thousand_worlds() {
    if let Some(seed) = number("SEED") {
        let outcome = run(seed, None);
        println!("{}", told(&outcome));
        assert_eq!(outcome.broken, None);
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let worlds = |thread: u64| {
        move || (thread..seeds).step_by(threads).map(|seed| run(seed, None)).fold(Sum::default(), Sum::add)
    };
    let running: Vec<_> = (0..threads as u64).map(|thread| std::thread::spawn(worlds(thread))).collect();
    let mut sum = Sum::default();
    for thread in running {
        sum = sum.join(thread.join().unwrap());
    }
    println!("{seeds} worlds, two owners for at most {} ms after a healing: {:#?}", sum.two_owners_ms, sum.seen);
    assert!(
        sum.broken.is_empty(),
        "{} of {seeds} worlds broke a promise:\n{}",
        sum.broken.len(),
        sum.broken.join("\n")
    );
    // What did not happen was not shown to be harmless.
    for what in [
        "calm",
        "cordon",
        "cordon of sessions",
        "cordon and kill",
        "cordon of all",
        "kill",
        "freeze",
        "stop",
        "move",
        "partition",
        "loss",
        "resets",
        "clone",
        "empty list",
        "reversed list",
        "no list",
        "router restarted",
        "router crashed",
        "panic",
        "last resort",
        "not admitted",
        "reset",
        "cut by a kill",
        "refused, since it may have run",
        "answered after another attempt",
        "held until the hosts are known",
    ] {
        assert!(sum.seen.get(what).is_some_and(|times| *times >= seeds / 1_000), "{what}: {:?}", sum.seen);
    }
}

#[derive(Default)]
struct Sum {
    broken: Vec<String>,
    seen: BTreeMap<&'static str, u64>,
    two_owners_ms: u64,
}

impl Sum {
    fn add(mut self, outcome: Outcome) -> Sum {
        if outcome.broken.is_some() {
            self.broken.push(told(&outcome));
        }
        let Outcome { seen, two_owners_ms, .. } = outcome;
        self.join(Sum { broken: Vec::new(), seen, two_owners_ms })
    }

    fn join(mut self, other: Sum) -> Sum {
        self.broken.extend(other.broken);
        for (what, times) in other.seen {
            *self.seen.entry(what).or_default() += times;
        }
        Sum { two_owners_ms: self.two_owners_ms.max(other.two_owners_ms), ..self }
    }
}

#[test]
fn a_seed_plays_again_as_it_was_played_and_another_one_does_not() {
    for seed in 0..50 {
        let (one, again) = (run(seed, None), run(seed, None));
        assert_eq!((one.digest, one.seen), (again.digest, again.seen));
        assert_ne!(one.digest, run(seed + 1, None).digest);
    }
}

/// A check that cannot fail shows nothing: each guard of the router is left out, and the same worlds must see it.
#[cfg(feature = "faults")]
#[test]
fn every_sabotage_is_seen() {
    use versiond_simulation::Sabotage;
    for sabotage in Sabotage::ALL {
        let broken = (0..500).find_map(|seed| run(seed, Some(sabotage)).broken);
        let broken = broken.unwrap_or_else(|| panic!("{} was not seen", sabotage.as_str()));
        println!("{}: {broken}", sabotage.as_str());
        let promise = match sabotage {
            Sabotage::RetryPost => "F52",
            Sabotage::StaleView => "P",
            Sabotage::NoNotAdmitted => "P4",
        };
        assert!(broken.starts_with(promise), "{}: {broken}", sabotage.as_str());
    }
}
