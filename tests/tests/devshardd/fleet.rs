//! Three hosts behind two routers, on one Postgres: a host is killed and the database restarted and silent under
//! streams, and every client comes to a typed end by its cursor.

use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use test_postgres::Postgres;
use tokio::task::JoinSet;
use versiond_demo::fleet::router::Router;
use versiond_demo::sessions::client::{Asked, End, Heard, Session, told, until_heard};

use crate::common::release;
use crate::hosts::{Ground, VERSION};
use crate::node::Node;

const SESSIONS: usize = 45;
const TOKENS: u32 = 80;
/// What a client gives itself for one inference, its resumptions included.
const WITHIN: Duration = Duration::from_secs(90);
/// Between two attempts of a client.
const AGAIN: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_s02_f49_a_host_and_the_database_fail_behind_two_routers() {
    let mut postgres = Postgres::start().unwrap();
    let ground = Ground::new().await;
    ground.publish(&ground.build("first"));
    let url = postgres.create("fleet").unwrap();
    let nodes: Vec<Node> = (1..=3)
        .map(|number| {
            let node = ground.host(Some(&url), "");
            node.set(&format!("[host]\nid = \"gpu-{number}\"\n"));
            node.start();
            node
        })
        .collect();
    for node in &nodes {
        node.until_ready(|all| all.ready).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
    let members = folder.join("hosts.json");
    let listed: Vec<_> = nodes.iter().map(|node| serde_json::json!({"address": node.host.to_string()})).collect();
    std::fs::write(&members, serde_json::json!(listed).to_string()).unwrap();
    let router = Utf8PathBuf::try_from(release("versiond-router")).unwrap();
    let routers = ["one", "two"].map(|name| Router::start(&router, &folder.join(name), name, &members).unwrap());
    for router in &routers {
        until_placed(router, nodes.len()).await;
    }

    let (sender, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let mut streaming = JoinSet::new();
    let ways = routers.each_ref().map(|router| router.address);
    for number in 0..SESSIONS {
        let (sender, way, other) = (sender.clone(), ways[number % 2], ways[(number + 1) % 2]);
        let asked = Session::new(&format!("s-{number}")).asks(&format!("/devshard/{VERSION}"), 1, TOKENS);
        streaming.spawn(async move {
            let first = asked.resume(way, None, |n| told(&sender, n)).await;
            match first.end {
                End::Whole => (first, None),
                End::Typed(_) | End::Cut(_) => {
                    let resumed = to_the_end(&asked, other, &first).await;
                    (first, Some(resumed))
                }
            }
        });
    }
    until_heard(&mut begun, SESSIONS, 4).await.unwrap();
    let mut nodes = nodes.into_iter();
    let dies = nodes.next().unwrap();
    dies.killed().await;
    postgres.kill().unwrap();
    postgres.resume().unwrap();
    postgres.freeze(true).unwrap();
    let survivors: Vec<Node> = nodes.collect();
    // Whoever is left has noticed that nothing is stored now.
    survivors[0].until_ready(|all| all.slots.iter().all(|slot| !slot.ready)).await;
    postgres.freeze(false).unwrap();

    let (mut whole, mut uncertain) = (0, 0);
    while let Some(ended) = streaming.join_next().await {
        let (first, resumed) = ended.unwrap();
        match resumed {
            None => {
                assert_eq!(first.is_whole(TOKENS), Ok(()));
                whole += 1;
            }
            Some(Heard { end: End::Whole, events, .. }) => {
                // What it had and what it got are the whole, each event once.
                let all = Heard { status: 200, events: [first.events, events].concat(), end: End::Whole };
                assert_eq!(all.is_whole(TOKENS), Ok(()));
                whole += 1;
            }
            Some(heard) => {
                assert_eq!(heard.end, End::Typed("outcome_uncertain".to_owned()));
                uncertain += 1;
            }
        }
    }
    assert!(uncertain > 0 && whole > 0, "{uncertain} of the killed host, {whole} of the others");
    assert_eq!((ground.runs().len(), ground.doubled()), (SESSIONS, vec![]));
    let partial = "SELECT count(*) FROM devshard_executions WHERE state <> 'completed' AND result IS NOT NULL";
    assert_eq!(postgres.sql("fleet", partial).unwrap(), "0");
    let completed = "SELECT count(*) FROM devshard_executions WHERE state = 'completed'";
    assert_eq!(postgres.sql("fleet", completed).unwrap(), whole.to_string(), "both sides count the same");
    for router in &routers {
        router.stop(WITHIN).await.unwrap();
    }
    for node in survivors {
        node.end().await;
    }
}

/// Goes on by the cursor until the end is final.
async fn to_the_end(asked: &Asked, way: std::net::SocketAddr, first: &Heard) -> Heard {
    let (begun, mut so_far) = (Instant::now(), first.clone());
    let mut got = Vec::new();
    loop {
        let heard = asked.resume(way, so_far.last(), |_| {}).await;
        got.extend(heard.events.iter().cloned());
        let is_final = match &heard.end {
            End::Whole => true,
            End::Typed(code) => code == "outcome_uncertain" || code == "model_failed",
            End::Cut(_) => false,
        };
        if is_final || begun.elapsed() > WITHIN {
            return Heard { events: got, ..heard };
        }
        if !heard.events.is_empty() {
            so_far = heard;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Waits until the router would send a session to any of so many hosts.
async fn until_placed(router: &Router, hosts: usize) {
    let begun = Instant::now();
    loop {
        let seen = router.hosts().await;
        if seen
            .as_ref()
            .is_ok_and(|seen| seen.len() == hosts && seen.iter().all(|host| host.role.as_deref() == Some("ready")))
        {
            return;
        }
        assert!(begun.elapsed() < WITHIN, "{} is not ready: {seen:?}", router.name);
        tokio::time::sleep(AGAIN).await;
    }
}
