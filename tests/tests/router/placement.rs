//! Where sessions are: on one host each, the same by both routers, and as few of them move as can.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;

use crate::fleet::{Fleet, SLOT, host, role};
use crate::http::EventStream;

fn path(session: usize) -> String {
    format!("/devshard/{SLOT}/sessions/{session}/stream")
}

/// The first choice of each session.
async fn owners(fleet: &Fleet, router: usize, sessions: usize) -> BTreeMap<usize, String> {
    let mut owners = BTreeMap::new();
    for session in 0..sessions {
        let first = fleet.routers[router].lookup(&path(session)).await.remove(0);
        owners.insert(session, first);
    }
    owners
}

/// F48, P8: both routers agree, requests go where the lookup says, and a host that comes or goes moves its own alone.
#[tokio::test]
async fn f48_p8_sessions_stay_where_they_are_and_both_routers_agree() {
    const SESSIONS: usize = 200;
    let mut fleet = Fleet::of(3).await;
    let before = owners(&fleet, 0, SESSIONS).await;
    assert_eq!(before, owners(&fleet, 1, SESSIONS).await);
    for id in ["gpu-1", "gpu-2", "gpu-3"] {
        let share = before.values().filter(|owner| *owner == id).count();
        assert!((35..=100).contains(&share), "{id} has {share} of {SESSIONS}");
    }
    // What a lookup says is what a request does.
    for session in 0..6 {
        let owner = &before[&session];
        let admitted = fleet.routers[0].host(owner).await.admitted;
        let stream =
            EventStream::session(fleet.routers[0].address, &format!("/{SLOT}"), &session.to_string(), 300).await;
        let seen = fleet.routers[0].host(owner).await;
        assert_eq!((seen.inflight, seen.admitted), (1, admitted + 1), "{owner}");
        stream.finish().await.unwrap();
    }

    // Another address of the same identity moves nothing.
    let second = fleet.hosts.remove(1);
    second.end().await;
    let moved = host("gpu-2").await;
    fleet.hosts.insert(1, moved);
    fleet.list(fleet.hosts.iter());
    let address = fleet.hosts[1].host.to_string();
    fleet
        .until_each("gpu-2 is back", |hosts| {
            hosts.len() == 3
                && hosts.iter().any(|host| host.address == address && host.role.as_deref() == Some("ready"))
        })
        .await;
    assert_eq!(before, owners(&fleet, 0, SESSIONS).await);

    // One that comes takes some of each, and nothing moves among the others.
    fleet.hosts.push(host("gpu-4").await);
    fleet.list(fleet.hosts.iter());
    fleet.until_each("gpu-4 is there", |hosts| role(hosts, "gpu-4") == Some("ready")).await;
    let after = owners(&fleet, 0, SESSIONS).await;
    assert_eq!(after, owners(&fleet, 1, SESSIONS).await);
    let moved = before.iter().filter(|(session, owner)| after[*session] != **owner);
    assert!(moved.clone().all(|(session, _)| after[session] == "gpu-4"));
    assert!((20..=85).contains(&moved.count()));
    fleet.end().await;
}

/// F65: of two hosts with one identity, as of a cloned disk, the newcomer stays out.
#[tokio::test]
async fn f65_a_clone_stays_out() {
    let mut fleet = Fleet::of(2).await;
    fleet.hosts.push(host("gpu-1").await);
    fleet.list(fleet.hosts.iter());
    let clone = fleet.hosts[2].host.to_string();
    for router in &fleet.routers {
        router
            .until("the clone is told", |hosts| {
                hosts.iter().any(|host| {
                    host.address == clone && host.out.as_ref().is_some_and(|out| out.code == "identity_taken")
                })
            })
            .await;
        let metrics = router.ask("/metrics").await.text();
        assert!(metrics.contains("versiond_router_alarm{pool=\"devshard\",what=\"identity\"} 1"), "{metrics}");
    }
    let twin = fleet.hosts.pop().unwrap();
    twin.end().await;
    fleet.end().await;
}

/// A version that nobody has, and paths that lead nowhere, are refused by name.
#[tokio::test]
async fn what_leads_nowhere_is_refused_with_its_reason() {
    let fleet = Fleet::of(1).await;
    let router = &fleet.routers[0];
    for (path, status, code) in [
        ("/devshard/v9.9/sessions/1/stream", 503, "unknown_version"),
        ("/", 404, "not_found"),
        ("/readyz", 404, "not_found"),
        ("/drain/status", 404, "not_found"),
        ("/devshard/drain", 404, "not_found"),
    ] {
        let answer = router.get(path).await;
        assert_eq!((answer.status, answer.text().contains(code)), (status, true), "{path}: {}", answer.text());
    }
    assert_eq!(router.get(&format!("/{SLOT}/hello")).await.status, 200);
    // A configuration that is none changes nothing.
    let hello = || router.get("/v0.3/hello");
    let settings = router.settings();
    let good = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, good.replace("pool = \"devshard\"", "pool = \"nowhere\"")).unwrap();
    router.signal(Signal::SIGHUP);
    router.until_said("the configuration stays as it was").await;
    assert_eq!(hello().await.status, 200);
    std::fs::write(&settings, good.replace("/{version}/*", "/only/*")).unwrap();
    router.signal(Signal::SIGHUP);
    router.until_said("the configuration is read again").await;
    assert_eq!(hello().await.status, 404);
    fleet.end().await;
}
