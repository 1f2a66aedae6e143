//! Both routers place every key alike, five seconds after whatever has changed; and what is no change moves nothing.

use std::net::SocketAddr;
use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use supervisor_protocol::router::LookupReport;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::fleet::{Fleet, SLOT, host, role};
use crate::load::Load;

/// Of each change.
const KEYS: usize = 100_000;
/// The promise is about this moment.
const AFTER: Duration = Duration::from_secs(5);
/// Connections to each router at once.
const LINES: usize = 4;

/// The first choice of so many keys, by one router.
async fn placed(admin: SocketAddr, keys: usize) -> Vec<String> {
    let part = keys / LINES;
    let lines = (0..LINES).map(|line| tokio::spawn(line_of(admin, line * part..(line + 1) * part)));
    let lines: Vec<_> = lines.collect();
    let mut placed = Vec::with_capacity(keys);
    for line in lines {
        placed.extend(line.await.unwrap());
    }
    placed
}

async fn line_of(admin: SocketAddr, keys: std::ops::Range<usize>) -> Vec<String> {
    let stream = TcpStream::connect(admin).await.unwrap();
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    let mut placed = Vec::with_capacity(keys.len());
    for key in keys {
        let path = format!("/v1/lookup?path=/devshard/{SLOT}/sessions/{key}/stream");
        let request = ::http::Request::get(path).header(::http::header::HOST, "localhost");
        sender.ready().await.unwrap();
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let report: LookupReport = serde_json::from_slice(&body).unwrap();
        placed.push(report.candidates.into_iter().next().map_or_else(String::new, |first| first.id));
    }
    placed
}

/// Asks both routers about every key, five seconds after a change.
async fn agreed(fleet: &Fleet, changed: Instant, what: &str) -> Vec<String> {
    tokio::time::sleep_until(changed + AFTER).await;
    let (one, other) = tokio::join!(placed(fleet.routers[0].admin, KEYS), placed(fleet.routers[1].admin, KEYS));
    let differ = one.iter().zip(&other).filter(|(one, other)| one != other).count();
    assert_eq!((differ, one.len()), (0, KEYS), "{what}");
    assert!(one.iter().all(|host| !host.is_empty()), "{what}: a key that nobody serves");
    one
}

/// P8: whatever has changed, five seconds later both routers send each of 100,000 keys to the same host, and only the
/// keys of the host that came or went have moved.
#[tokio::test]
async fn p8_both_routers_place_100_000_keys_alike_five_seconds_after_any_change() {
    let mut fleet = Fleet::of(3).await;
    let before = agreed(&fleet, Instant::now(), "the start").await;
    let moves = |now: &[String], id: &str| {
        let moved = before.iter().zip(now).filter(|(before, now)| before != now);
        let wrong = moved.clone().filter(|(before, now)| *before != id && *now != id).count();
        assert_eq!(wrong, 0, "{id}: keys of others moved");
        moved.count()
    };
    fleet.cordon("gpu-1", Method::POST).await;
    let now = agreed(&fleet, Instant::now(), "a cordon").await;
    assert_eq!(moves(&now, "gpu-1"), before.iter().filter(|host| *host == "gpu-1").count());
    fleet.cordon("gpu-1", Method::DELETE).await;
    assert_eq!(moves(&agreed(&fleet, Instant::now(), "a cordon taken back").await, "gpu-1"), 0);

    fleet.host("gpu-2").signal(Signal::SIGKILL);
    let now = agreed(&fleet, Instant::now(), "a kill").await;
    assert_eq!(moves(&now, "gpu-2"), before.iter().filter(|host| *host == "gpu-2").count());
    fleet.host("gpu-2").supervisor.kill_and_restart(|| ()).await.unwrap();
    fleet.until_each("it is back", |hosts| role(hosts, "gpu-2") == Some("ready")).await;

    fleet.hosts.push(host("gpu-4").await);
    fleet.list(fleet.hosts.iter());
    let now = agreed(&fleet, Instant::now(), "a host that comes").await;
    let share = moves(&now, "gpu-4") * 100 / KEYS;
    assert!((24..=26).contains(&share), "a quarter of the keys is its own, not {share} %");
    fleet.end().await;
}

/// F58, F50: a list that is broken or gone moves nothing, and a drain outlives the restart of everything.
#[tokio::test]
async fn f50_f58_a_blip_of_the_list_moves_nothing_and_a_drain_outlives_restarts_of_everything() {
    let fleet = Fleet::of(3).await;
    let load = Load::begin(&fleet, 8, &Method::GET);
    fleet.cordon("gpu-2", Method::POST).await;
    fleet.until_each("it is out", |hosts| role(hosts, "gpu-2").is_none()).await;
    let before = placed(fleet.routers[0].admin, 400).await;
    for broken in ["[", "[]", ""] {
        let mut passed_over = Vec::new();
        for router in &fleet.routers {
            passed_over.push(router.lists_not_followed().await);
        }
        fleet.write_list(broken);
        for (router, before) in fleet.routers.iter().zip(passed_over) {
            router.until_not_followed(before).await;
        }
        assert_eq!(placed(fleet.routers[0].admin, 400).await, before, "{broken:?}");
    }
    fleet.list(fleet.hosts.iter());
    // A catalog that cannot be read is nothing that routers hear of.
    for host in &fleet.hosts {
        host.publish_text("{");
        host.until(|status| status.catalog.reason.is_some()).await;
    }
    assert_eq!(placed(fleet.routers[0].admin, 400).await, before);

    // The host that is drained, and both routers, one after the other.
    fleet.host("gpu-2").supervisor.kill_and_restart(|| ()).await.unwrap();
    for router in &fleet.routers {
        assert_eq!(router.stop().await.code(), Some(0), "{}", router.log());
        router.run();
        router.until("all are known", |hosts| hosts.len() == 3 && role(hosts, "gpu-1") == Some("ready")).await;
    }
    fleet
        .until_each("it is drained still", |hosts| {
            hosts.iter().any(|host| host.id.as_deref() == Some("gpu-2") && host.drain.is_some() && host.role.is_none())
        })
        .await;
    assert_eq!(placed(fleet.routers[1].admin, 400).await, before);
    load.goes_on(30).await;
    let met = load.end().await;
    assert_eq!(met.failed, Vec::<String>::new(), "of {}", met.answered);
    fleet.end().await;
}
