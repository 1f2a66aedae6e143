//! Hosts that are emptied while clients go on.

use ::http::Method;
use supervisor_protocol::router::RouterDrain;

use crate::fleet::{Fleet, SLOT, role};
use crate::http::EventStream;
use crate::load::Load;

/// F62, P9: each host in turn is cordoned, emptied and taken back; a stream that was there goes on.
#[tokio::test]
async fn f62_p9_each_host_is_emptied_in_turn_without_a_failure() {
    let fleet = Fleet::of(3).await;
    let load = Load::begin(&fleet, 12, &Method::GET);
    for id in ["gpu-1", "gpu-2", "gpu-3"] {
        let mut owned = 0;
        let session = loop {
            let path = format!("/devshard/{SLOT}/sessions/{owned}/stream");
            if fleet.routers[0].lookup(&path).await[0] == id {
                break owned;
            }
            owned += 1;
        };
        let router = fleet.routers[0].address;
        let stream = EventStream::session(router, &format!("/devshard/{SLOT}"), &session.to_string(), 4_000).await;
        fleet.cordon(id, Method::POST).await;
        fleet.until_each("it is out", |hosts| role(hosts, id).is_none()).await;
        load.goes_on(50).await;
        let drain: RouterDrain = fleet.routers[0].ask("/drain/status").await.json();
        let seen = &drain.hosts[0];
        assert_eq!((drain.drained, seen.id.as_deref(), seen.by_class.stream), (false, Some(id), 1), "{drain:?}");
        stream.finish().await.unwrap();
        let drain: RouterDrain = fleet.routers[0].ask("/drain/status?wait=30s").await.json();
        assert!(drain.drained && drain.hosts[0].inflight == 0, "{drain:?}");
        fleet.cordon(id, Method::DELETE).await;
        fleet.until_each("it is back", |hosts| role(hosts, id) == Some("ready")).await;
    }
    let met = load.end().await;
    assert_eq!(met.failed, Vec::<String>::new(), "of {}", met.answered);
    fleet.end().await;
}

/// F51, F62, P9: the last hosts of a pool serve although all of them are cordoned, and an alarm says so.
#[tokio::test]
async fn f51_f62_p9_hosts_that_are_all_cordoned_refuse_nothing() {
    let fleet = Fleet::of(2).await;
    let load = Load::begin(&fleet, 6, &Method::GET);
    for id in ["gpu-1", "gpu-2"] {
        fleet.cordon(id, Method::POST).await;
    }
    fleet.until_each("the last one is used", |hosts| role(hosts, "gpu-2") == Some("cordoned")).await;
    load.goes_on(50).await;
    let metrics = fleet.routers[0].ask("/metrics").await.text();
    assert!(metrics.contains("versiond_router_alarm{pool=\"devshard\",what=\"all_cordoned\"} 1"), "{metrics}");
    fleet.cordon("gpu-1", Method::DELETE).await;
    fleet.until_each("gpu-1 is back", |hosts| role(hosts, "gpu-1") == Some("ready")).await;
    load.goes_on(50).await;
    let met = load.end().await;
    assert_eq!(met.failed, Vec::<String>::new(), "of {}", met.answered);
    fleet.end().await;
}
