//! Sessions in Postgres, with several processes at once: generations that overlap, hosts that are killed, a database
//! that comes and goes.

use supervisor_protocol::admin::Phase;
use test_postgres::Postgres;
use tokio::task::JoinSet;

use crate::common::release;
use crate::hosts::{Ground, PREFIX, VERSION};
use crate::node::Node;
use crate::releases::Release;
use versiond_demo::sessions::client::{self, Asked, End, Heard, Session, account, told, until_heard};
use versiond_demo::sessions::host::Host;

const STREAMS: usize = 300;
const TOKENS: u32 = 60;

/// 300 streams run while a new build is approved: none is cut, no inference runs twice, and what the clients have heard
/// is what is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_generations_overlap_on_one_database() {
    let postgres = Postgres::start().unwrap();
    let ground = Ground::new().await;
    let (first, second) = (ground.build("first"), ground.build("second"));
    let document = ground.publish(&first);
    let url = postgres.create("overlap").unwrap();
    let node = ground.host(Some(&url), "PG_POOL_MAX_CONNS = \"16\"\n");
    node.start();
    node.until_ready(|all| all.ready).await;
    node.until_settled(VERSION, &first.sha256).await;

    let (host, asked) = (node.host, asked_by(STREAMS));
    let (sender, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let mut streaming = JoinSet::new();
    for (at, asked) in asked.iter().cloned().enumerate() {
        let sender = sender.clone();
        streaming.spawn(async move { (at, asked.resume(host, None, |n| told(&sender, n)).await) });
    }
    // Every stream has begun to say something.
    until_heard(&mut begun, STREAMS, 2).await.unwrap();
    ground.mirror.publish(&document.with(VERSION, &second));
    // The build has said by its settings that its state is shared: the new one serves while the old one streams.
    node.until(|status| {
        let generations = status.slots.iter().flat_map(|slot| &slot.generations);
        let (new, old): (Vec<_>, Vec<_>) = generations.partition(|found| found.sha256.to_string() == second.sha256);
        new.iter().any(|new| new.phase == Phase::Serving) && old.iter().any(|old| old.inflight > 0)
    })
    .await;
    let mut heard: Vec<Option<Heard>> = vec![None; STREAMS];
    let listening = async {
        while let Some(ended) = streaming.join_next().await {
            let (at, stream) = ended.unwrap();
            heard[at] = Some(stream);
        }
    };
    tokio::join!(listening, node.until_settled(VERSION, &second.sha256));
    let heard: Vec<Heard> = heard.into_iter().map(Option::unwrap).collect();
    let wrong: Vec<_> = heard.iter().filter_map(|stream| stream.is_whole(TOKENS).err()).collect();
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!((ground.runs().len(), ground.doubled()), (STREAMS, vec![]));
    // The other generation gives back what the first has said.
    for (asked, heard) in asked.iter().zip(&heard) {
        assert_eq!(&asked.send(host).await, heard);
    }
    let stored = postgres.sql("overlap", "SELECT count(*) FROM devshard_executions WHERE state = 'completed'").unwrap();
    assert_eq!((stored, ground.runs().len()), (STREAMS.to_string(), STREAMS), "both sides count the same");
    node.end().await;
}

fn asked_by(sessions: usize) -> Vec<Asked> {
    (0..sessions).map(|number| Session::new(&format!("s-{number}")).asks(PREFIX, 1, TOKENS)).collect()
}

/// Two hosts are asked for the same inferences at the same time, as by two routers that see the hosts otherwise: the
/// model is asked once for each. Without claims it is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_two_owners_run_an_inference_once() {
    let postgres = Postgres::start().unwrap();
    let honest = asked_of_two(&postgres, "honest", |ground: &Ground| ground.build("first"), "").await;
    assert_eq!(honest, Twice { doubled: vec![], wrong: vec![] });
    let fault = "DEVSHARD_FAULT = \"no-claim\"\n";
    let sabotaged = asked_of_two(&postgres, "sabotaged", Ground::faulty_build, fault).await;
    assert!(!sabotaged.doubled.is_empty(), "without claims nothing ran twice, so that this test sees nothing");
}

/// What came of asking two hosts for the same.
#[derive(Debug, PartialEq, Eq)]
struct Twice {
    /// Inferences that were run more than once.
    doubled: Vec<String>,
    /// Streams that were not whole.
    wrong: Vec<String>,
}

async fn asked_of_two(postgres: &Postgres, database: &str, build: impl Fn(&Ground) -> Release, more: &str) -> Twice {
    let ground = Ground::new().await;
    ground.publish(&build(&ground));
    let url = postgres.create(database).unwrap();
    let nodes = [ground.host(Some(&url), more), ground.host(Some(&url), more)];
    nodes.iter().for_each(Node::start);
    let mut asking = JoinSet::new();
    for node in &nodes {
        node.until_ready(|all| all.ready).await;
    }
    for number in 0..20 {
        let asked = Session::new(&format!("s-{number}")).asks(PREFIX, 1, 10);
        for host in nodes.each_ref().map(|node| node.host) {
            let asked = asked.clone();
            asking.spawn(async move { asked.send(host).await });
        }
    }
    let mut wrong = Vec::new();
    while let Some(ended) = asking.join_next().await {
        wrong.extend(ended.unwrap().is_whole(10).err());
    }
    for node in nodes {
        node.end().await;
    }
    assert_eq!(ground.runs().len(), 20);
    Twice { doubled: ground.doubled(), wrong }
}

/// A host is killed in the middle of its streams: each client goes on at another host by its cursor. What was stored it
/// gets to the end; of what was not it is told that nobody knows. The model is asked once for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_s02_a_host_is_killed_under_its_streams() {
    let postgres = Postgres::start().unwrap();
    let ground = Ground::new().await;
    ground.publish(&ground.build("first"));
    let url = postgres.create("killed").unwrap();
    let (dies, stays) = (ground.host(Some(&url), ""), ground.host(Some(&url), ""));
    for node in [&dies, &stays] {
        node.start();
    }
    for node in [&dies, &stays] {
        node.until_ready(|all| all.ready).await;
    }
    let short = Session::new("short").asks(PREFIX, 1, 3);
    let whole = short.send(dies.host).await;
    assert_eq!(whole.is_whole(3), Ok(()));
    let asked = asked_by(20);
    let (sender, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let (host, mut streaming) = (dies.host, JoinSet::new());
    for asked in &asked {
        let (asked, sender) = (asked.clone(), sender.clone());
        streaming.spawn(async move { (asked.clone(), asked.resume(host, None, |n| told(&sender, n)).await) });
    }
    until_heard(&mut begun, asked.len(), 4).await.unwrap();
    dies.killed().await;
    let mut resumed = JoinSet::new();
    let host = stays.host;
    while let Some(ended) = streaming.join_next().await {
        let (asked, heard) = ended.unwrap();
        assert!(matches!(heard.end, End::Cut(_)), "{heard:?}");
        resumed.spawn(async move { asked.resume(host, heard.last(), |_| {}).await });
    }
    while let Some(ended) = resumed.join_next().await {
        let heard = ended.unwrap();
        assert_eq!(heard.end, End::Typed("outcome_uncertain".to_owned()));
        assert!(heard.events.is_empty(), "nothing that is not stored is told");
    }
    // After the commit only the full result will do.
    assert_eq!(short.resume(host, Some("1:2"), |_| {}).await.events, whole.events[3..]);
    assert_eq!((ground.runs().len(), ground.doubled()), (21, vec![]));
    let partial = "SELECT count(*) FROM devshard_executions WHERE state <> 'completed' AND result IS NOT NULL";
    assert_eq!(postgres.sql("killed", partial).unwrap(), "0");
    stays.end().await;
}

/// The database is killed and comes back, and is silent and speaks again, under streams: they go on, are stored, and
/// the host says meanwhile that it is not ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_comes_and_goes_cuts_nothing() {
    let mut postgres = Postgres::start().unwrap();
    let ground = Ground::new().await;
    ground.publish(&ground.build("first"));
    let url = postgres.create("flaps").unwrap();
    let node = ground.host(Some(&url), "");
    node.start();
    node.until_ready(|all| all.ready).await;
    let (host, asked) = (node.host, asked_by(20));
    let (sender, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let mut streaming = JoinSet::new();
    for asked in &asked {
        let (asked, sender) = (asked.clone(), sender.clone());
        streaming.spawn(async move { asked.resume(host, None, |n| told(&sender, n)).await });
    }
    until_heard(&mut begun, asked.len(), 4).await.unwrap();
    postgres.kill().unwrap();
    node.until_ready(|all| all.slots.iter().all(|slot| !slot.ready)).await;
    let refused = Session::new("meanwhile").asks(PREFIX, 1, 2).send(host).await;
    assert!(
        matches!(&refused.end, End::Typed(code) if code == "storage_unavailable" || code.contains("no_version")),
        "{refused:?}"
    );
    postgres.resume().unwrap();
    node.until_ready(|all| all.slots.iter().all(|slot| slot.ready)).await;
    postgres.freeze(true).unwrap();
    node.until_ready(|all| all.slots.iter().all(|slot| !slot.ready)).await;
    postgres.freeze(false).unwrap();
    node.until_ready(|all| all.slots.iter().all(|slot| slot.ready)).await;
    while let Some(ended) = streaming.join_next().await {
        assert_eq!(ended.unwrap().is_whole(TOKENS), Ok(()));
    }
    assert_eq!((ground.runs().len(), ground.doubled()), (asked.len(), vec![]));
    node.end().await;
}

/// S17: a host on a copy of the database, with the same name in it, is not ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s17_a_host_on_a_copy_is_not_ready() {
    let postgres = Postgres::start().unwrap();
    let ground = Ground::new().await;
    ground.publish(&ground.build("first"));
    let url = postgres.create("original").unwrap();
    let node = ground.host(Some(&url), "");
    node.start();
    node.until_ready(|all| all.ready).await;
    assert_eq!(Session::new("e").asks(PREFIX, 1, 1).send(node.host).await.is_whole(1), Ok(()));
    // A copy is made of a database that nobody uses for a moment.
    let dump = postgres.copy("original", "copied");
    dump.unwrap();
    let peers = format!("DEVSHARD_PEERS = \"http://{}{PREFIX}\"\n", node.host);
    let (cloned, honest) = (ground.host(Some(&postgres.url("copied")), &peers), ground.host(Some(&url), &peers));
    cloned.start();
    honest.start();
    honest.until_ready(|all| all.ready).await;
    let said = cloned.until_admin(|status| format!("{status:?}").contains("storage_mismatch")).await;
    assert!(format!("{said:?}").contains("its database is a copy"), "{said:?}");
    for node in [cloned, honest, node] {
        node.end().await;
    }
}

/// S17: a host that finds itself on a copy takes nothing, whoever sends it: what it has not is refused as what another
/// host is to have. What is of old epochs goes when a host is told to keep few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s17_a_host_on_a_copy_takes_nothing() {
    let postgres = Postgres::start().unwrap();
    let url = postgres.create("first").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "11".repeat(32)).unwrap();
    let start = |url: &str, more: &[(&str, String)]| {
        let settings = [
            ("DEVSHARD_STORAGE_MODE", "shared".to_owned()),
            ("DEVSHARD_DATABASE_URL", url.to_owned()),
            ("DEVSHARD_KEY_FILE", key.display().to_string()),
        ];
        Host::start(&release("devshardd"), &[&settings[..], more].concat()).unwrap()
    };
    let first = start(&url, &[]);
    assert_eq!(Session::new("e").asks("", 1, 1).send(first.address).await.is_whole(1), Ok(()));
    drop(first);
    postgres.copy("first", "second").unwrap();
    let first = start(&url, &[]);
    let peers = [("DEVSHARD_PEERS", format!("http://{}", first.address))];
    let (honest, copied) = (start(&url, &peers), start(&postgres.url("second"), &peers));
    let next = Session::new("e").asks("", 2, 1);
    let refused = next.send(copied.address).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(matches!(&refused.end, End::Typed(said) if said.contains("storage_mismatch")), "{refused:?}");
    assert_eq!(next.send(honest.address).await.is_whole(1), Ok(()));
    drop((first, honest, copied));
    let escrows = folder.path().join("escrows.json");
    let creator = account(&client::key("e"));
    std::fs::write(&escrows, format!(r#"{{"f": {{"creator": "{creator}", "epoch": 3}}}}"#)).unwrap();
    let sessions = "SELECT count(*) FROM devshard_sessions";
    for (keep, expected) in [("4", "1"), ("3", "0")] {
        let listed = ("DEVSHARD_ESCROWS_FILE", escrows.display().to_string());
        let _host = start(&url, &[listed, ("DEVSHARD_KEEP_EPOCHS", keep.to_owned())]);
        assert_eq!(postgres.sql("first", sessions).unwrap(), expected, "of four epochs {keep}");
    }
}

/// A router that has several hosts says so: a host that keeps its sessions in a file of its own is none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_not_one_of_several_hosts() {
    let host = Host::start(&release("devshardd"), &[]).unwrap();
    let asked = Session::new("e").asks("", 1, 1);
    let refused = asked.clone().with("devshard-ha", "true").send(host.address).await;
    assert!(matches!(&refused.end, End::Typed(said) if said.contains("storage_not_shared")), "{refused:?}");
    assert_eq!(asked.with("devshard-ha", "false").send(host.address).await.is_whole(1), Ok(()));
}
