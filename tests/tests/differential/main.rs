//! The router beside HAProxy and nginx, all before one origin: of well-formed traffic each end must see the same,
//! whichever of them is between.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cases;
mod origin;
mod wire;

#[allow(dead_code, reason = "what the tests of release binaries share, of which this needs a part")]
#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::net::TcpListener;

use camino::Utf8Path;
use versiond_demo::peer::{Kind, Peer, Setup};

use cases::{Case, cases};
use origin::Origin;
use wire::{Message, ask};

/// What both ends saw of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// Each request as the origin had it, in order.
    requests: Vec<Message>,
    /// Each response as the client had it.
    responses: Vec<Message>,
}

/// Differences that are meant, each with its reason: the case, whom ours differs from, and why.
const MEANT: &[(&str, Kind, &str)] = &[
    ("field_token", Kind::Nginx, "it drops fields whose names have other characters than letters, digits and '-'"),
    ("expect_100", Kind::HaProxy, "it passes Expect on; ours and nginx answer 100 themselves"),
];

#[test]
fn of_well_formed_traffic_both_ends_see_the_same_behind_haproxy_and_nginx() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let release = common::release("versiond-router").parent().unwrap().to_owned();
    let origin = Origin::start();
    let mut peers = Vec::new();
    for kind in Kind::ALL {
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let setup =
            Setup { folder, listen, origins: &[origin.address], threads: 1, cpus: None, tls: None, http2: false };
        peers.push((Peer::start(kind, &release, &setup).unwrap(), listen));
    }
    let mut wrong = Vec::new();
    for case in cases() {
        let mut seen: BTreeMap<Kind, Seen> = BTreeMap::new();
        for (peer, listen) in &peers {
            origin.forget();
            let responses = ask(*listen, &case).iter().map(Message::end_to_end).collect();
            let requests = origin.seen().iter().map(Message::end_to_end).collect();
            seen.insert(peer.kind(), Seen { requests, responses });
        }
        let ours = &seen[&Kind::Ours];
        assert_eq!(ours.responses.len(), case.answers, "{}: {ours:?}", case.name);
        for other in [Kind::HaProxy, Kind::Nginx] {
            let is_meant = MEANT.iter().any(|(name, kind, _)| *name == case.name && *kind == other);
            match (seen[&other] == *ours, is_meant) {
                (true, false) | (false, true) => {}
                (true, true) => wrong.push(format!("{} is no difference to {}", case.name, other.name())),
                (false, false) => wrong.push(differences(&case, other, ours, &seen[&other])),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is different, and nothing else.
fn differences(case: &Case, other: Kind, ours: &Seen, theirs: &Seen) -> String {
    let mut text = format!("{}, ours and {}:", case.name, other.name());
    for (what, ours, theirs) in
        [("request", &ours.requests, &theirs.requests), ("response", &ours.responses, &theirs.responses)]
    {
        if ours.len() != theirs.len() {
            text += &format!("\n  {} and {} of {what}", ours.len(), theirs.len());
        }
        for (ours, theirs) in ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs) {
            text += &format!("\n  {what}: {}\n       and: {}", ours.beside(theirs), theirs.beside(ours));
        }
    }
    text
}
