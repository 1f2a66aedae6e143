//! A host that is busy to the brim stays in the pool, and its load stays with it.

use ::http::Method;

use crate::fleet::{Fleet, SLOT, role};
use crate::http::EventStream;
use crate::load::Load;

/// Streams on one host at once.
const STREAMS: usize = 400;

/// F61: the status of a host is answered whatever its clients do, so that no router moves its load to the next one.
#[tokio::test]
async fn f61_a_host_under_load_stays_and_its_load_does_not_spread() {
    let fleet = Fleet::of(3).await;
    let mut busy = Vec::new();
    for session in 0.. {
        if busy.len() == STREAMS {
            break;
        }
        let path = format!("/devshard/{SLOT}/sessions/{session}/stream");
        if fleet.routers[0].lookup(&path).await[0] == "gpu-2" {
            let router = fleet.routers[session % 2].address;
            busy.push(EventStream::session(router, &format!("/{SLOT}"), &session.to_string(), 15_000).await);
        }
    }
    let load = Load::begin(&fleet, 12, &Method::POST);
    for _ in 0..10 {
        load.goes_on(30).await;
        for router in &fleet.routers {
            let hosts = router.hosts().await;
            for id in ["gpu-1", "gpu-2", "gpu-3"] {
                assert_eq!(role(&hosts, id), Some("ready"), "{hosts:#?}");
            }
            let elsewhere: u64 =
                hosts.iter().filter(|one| one.id.as_deref() != Some("gpu-2")).map(|one| one.by_class.stream).sum();
            assert!(elsewhere <= 24, "{elsewhere} streams beside those of the clients that go on: {hosts:#?}");
        }
    }
    for stream in busy {
        stream.finish().await.unwrap();
    }
    let met = load.end().await;
    assert_eq!(met.failed, Vec::<String>::new(), "of {}", met.answered);
    fleet.end().await;
}
