//! The committed vectors of placement: what this crate computes, and what a program written from the prose
//! alone computes. `UPDATE=1` writes them anew.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::process::Command;

use router_core::placement::{KeyHash, NAME, Placement, Weight};
use serde::{Deserialize, Serialize};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors.json");
const CASES: u64 = 1_200;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Vectors {
    hash: String,
    cases: Vec<Case>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Case {
    key: String,
    hosts: Vec<Host>,
    ranked: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Host {
    id: String,
    weight: u16,
}

/// A walk that is the same everywhere, and owes nothing to the hash under test.
struct Walk(u64);

impl Walk {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn f48_the_vectors_are_what_is_computed() {
    let made = Vectors { hash: NAME.to_owned(), cases: (0..CASES).map(case).collect() };
    if std::env::var_os("UPDATE").is_some() {
        let lines: Vec<String> = made.cases.iter().map(|case| serde_json::to_string(case).unwrap()).collect();
        let text = format!("{{\"hash\":{:?},\"cases\":[\n{}\n]}}\n", made.hash, lines.join(",\n"));
        std::fs::write(VECTORS, text).unwrap();
    }
    let committed: Vectors = serde_json::from_str(&std::fs::read_to_string(VECTORS).unwrap()).unwrap();
    assert!(committed.cases.len() >= 1_000);
    assert_eq!(committed, made, "UPDATE=1 writes them, and the hash needs another name then");
}

#[test]
fn f48_a_program_written_from_the_prose_agrees_with_every_vector() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/placement.py");
    let output = match Command::new("python3").arg(script).arg(VECTORS).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var("VERSIOND_REQUIRE").as_deref() != Ok("all"), "required, but: python3: {error}");
            eprintln!("skipped: python3: {error}");
            return;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

fn case(number: u64) -> Case {
    let mut walk = Walk(number);
    let key = match number % 5 {
        0 => format!("{number}"),
        1 => format!("session-{:08x}{:08x}", walk.below(1 << 31), walk.below(1 << 31)),
        2 => format!("/v0.2.{}/sessions/{}/chat/completions", walk.below(20), walk.below(1 << 20)),
        3 => "ü€𝄞".chars().cycle().take(usize::try_from(number % 23).unwrap()).collect(),
        _ => "x".repeat(usize::try_from(number % 70).unwrap()),
    };
    let count = if number.is_multiple_of(100) { 64 } else { walk.below(9) };
    let weights: &[u16] = match walk.below(4) {
        0 | 1 => &[1],
        2 => &[1, 2, 3, 10],
        _ => &[0, 1, 100, u16::MAX],
    };
    let mut hosts = BTreeMap::new();
    for _ in 0..count {
        let id = match walk.below(3) {
            0 => format!("gpu-{}", walk.below(100)),
            1 => format!("10.0.0.{}:8080", walk.below(256)),
            _ => format!("{:08x}{:08x}{:08x}", walk.below(1 << 31), walk.below(1 << 31), walk.below(1 << 31)),
        };
        let at = usize::try_from(walk.below(u64::try_from(weights.len()).unwrap())).unwrap();
        hosts.insert(id, Weight(weights[at]));
    }
    let placement = Placement::new(hosts.clone());
    let ranked: Vec<String> = placement.ranked(KeyHash::of(key.as_bytes())).into_iter().cloned().collect();
    let mut hosts: Vec<Host> = hosts.into_iter().map(|(id, weight)| Host { id, weight: weight.0 }).collect();
    // As they are listed says nothing.
    if number % 2 == 1 {
        hosts.reverse();
    }
    Case { key, hosts, ranked }
}
