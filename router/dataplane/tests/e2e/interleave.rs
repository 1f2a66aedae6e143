//! Whatever client, child and operator do, in whatever order and over either HTTP: at the end nothing is in
//! flight, and everything that was admitted has ended once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use supervisor_protocol::StreamClass;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::common::*;
use crate::http2::Http2;

/// What happens next. Whatever cannot happen any more happens to nobody.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// The child sends the next piece of what it has to say: head, data, end.
    ChildGoesOn,
    ChildCloses,
    ChildResets,
    ClientSendsMore,
    ClientEndsItsHalf,
    ClientLeaves,
    ClientReads,
    Cut(StreamClass),
    Swap,
    Restore,
    /// Time for what is on its way.
    Pause(u64),
}

/// One world: who asks how, and what a child says.
#[derive(Debug, Clone)]
struct World {
    http2: bool,
    request: usize,
    answer: usize,
    acts: Vec<Act>,
}

/// Requests over HTTP/1, each cut in two.
const REQUESTS: [(&str, &str); 4] = [
    ("GET /devshard/v1/x HTTP/1.1\r\nHost: a\r\n\r\n", ""),
    ("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab", "cd"),
    ("POST /devshard/v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "0\r\n\r\n"),
    ("GET /devshard/v1/x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "hello"),
];

/// Responses, each in three pieces.
const ANSWERS: [[&str; 3]; 6] = [
    ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "ab", "cd"],
    [
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        "2\r\nab\r\n",
        "0\r\n\r\n",
    ],
    ["HTTP/1.1 200 OK\r\n\r\n", "ab", "cd"],
    ["HTTP/1.1 503 No\r\nVersiond-Not-Admitted: x; nonce=nonce1\r\nContent-Length: 1\r\n\r\n", "x", ""],
    ["HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "ab", "cd"],
    ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 None\r\n\r\n", "what nobody asked for"],
];

fn worlds() -> impl Strategy<Value = World> {
    let act = prop_oneof![
        4 => Just(Act::ChildGoesOn),
        1 => Just(Act::ChildCloses),
        1 => Just(Act::ChildResets),
        2 => Just(Act::ClientSendsMore),
        1 => Just(Act::ClientEndsItsHalf),
        1 => Just(Act::ClientLeaves),
        2 => Just(Act::ClientReads),
        1 => prop::sample::select(StreamClass::ALL.to_vec()).prop_map(Act::Cut),
        1 => Just(Act::Swap),
        1 => Just(Act::Restore),
        3 => (0u64..4).prop_map(Act::Pause),
    ];
    let acts = prop::collection::vec(act, 0..14);
    (any::<bool>(), 0..REQUESTS.len(), 0..ANSWERS.len(), acts).prop_map(|(http2, request, answer, acts)| World {
        http2,
        request,
        answer,
        acts,
    })
}

/// The connections that a child has, and how much of its answer each has got.
type Lines = Arc<Mutex<Vec<(TcpStream, usize)>>>;

async fn child() -> (SocketAddr, Lines) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lines = Lines::default();
    let accepted = lines.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            accepted.lock().push((stream, 0));
        }
    });
    (address, lines)
}

enum Asker {
    Http1(Client),
    Http2 { _client: Http2, upload: Option<h2::SendStream<Bytes>>, response: h2::client::ResponseFuture },
}

impl Asker {
    async fn begin(world: &World, address: SocketAddr) -> Self {
        let (first, rest) = REQUESTS[world.request];
        if !world.http2 {
            let mut client = Client::connect(address).await;
            client.send(first).await;
            return Asker::Http1(client);
        }
        let mut client = Http2::connect(address).await;
        let request = Request::post("http://a/devshard/v1/x").body(()).unwrap();
        let mut ready = client.sender.clone().ready().await.unwrap();
        let (response, mut upload) = ready.send_request(request, rest.is_empty()).unwrap();
        client.sender = ready;
        if !rest.is_empty() {
            let _ = upload.send_data(Bytes::from_static(b"ab"), false);
        }
        Asker::Http2 { _client: client, upload: Some(upload), response }
    }

    async fn sends(&mut self, world: &World) {
        match self {
            Asker::Http1(client) => drop(client.stream.write_all(REQUESTS[world.request].1.as_bytes()).await),
            Asker::Http2 { upload: Some(upload), .. } => drop(upload.send_data(Bytes::from_static(b"cd"), true)),
            Asker::Http2 { upload: None, .. } => {}
        }
    }

    async fn ends_its_half(&mut self) {
        match self {
            Asker::Http1(client) => drop(client.stream.shutdown().await),
            Asker::Http2 { upload, .. } => drop(upload.take()),
        }
    }

    async fn reads(&mut self) {
        match self {
            Asker::Http1(client) => {
                let mut scrap = [0; 4_096];
                let _ = client.stream.try_read(&mut scrap);
            }
            Asker::Http2 { response, .. } => {
                let _ = tokio::time::timeout(Duration::from_millis(1), response).await;
            }
        }
    }
}

async fn lives(world: World) {
    let rig = Rig::with(|config| {
        config.workers = 1;
        config.not_admitted_wait = Duration::from_millis(10);
        config.hold.time = Duration::from_millis(50);
    });
    let (address, lines) = child().await;
    let mut targets = vec![rig.publish(address)];
    let mut asker = Some(Asker::begin(&world, rig.address).await);
    for act in &world.acts {
        let newest = || lines.lock().pop();
        match act {
            Act::ChildGoesOn => {
                if let Some((mut stream, at)) = newest() {
                    let said = ANSWERS[world.answer].get(at).copied().unwrap_or_default();
                    if stream.write_all(said.as_bytes()).await.is_ok() {
                        lines.lock().push((stream, at + 1));
                    }
                }
            }
            Act::ChildCloses => drop(newest()),
            Act::ChildResets => {
                if let Some((stream, _)) = newest() {
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
            }
            Act::ClientSendsMore => {
                if let Some(asker) = &mut asker {
                    asker.sends(&world).await;
                }
            }
            Act::ClientEndsItsHalf => {
                if let Some(asker) = &mut asker {
                    asker.ends_its_half().await;
                }
            }
            Act::ClientLeaves => drop(asker.take()),
            Act::ClientReads => {
                if let Some(asker) = &mut asker {
                    asker.reads().await;
                }
            }
            Act::Cut(class) => targets.iter().for_each(|target| target.cut(*class)),
            Act::Swap => targets.push(rig.publish(address)),
            Act::Restore => {
                let target = targets.last().unwrap();
                target.retire();
                target.restore();
            }
            Act::Pause(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
        }
    }
    drop(asker);
    let Rig { plane, .. } = rig;
    let plane = Arc::new(plane);
    let stopping = plane.clone();
    let stopped = tokio::spawn(async move { stopping.shutdown(PATIENCE * 2).await });
    until("everything has ended by itself", || {
        // A request without a client is let finish: its child, whenever it comes to it, goes too.
        lines.lock().clear();
        stopped.is_finished()
    })
    .await;
    let counters = plane.counters();
    assert_eq!((counters.inflight_now, counters.held_now, counters.connections_now), (0, 0, 0));
    for target in &targets {
        let load = target.load();
        assert_eq!((load.inflight, load.admitted), (0, load.ended.total()), "{:?} {load:?}", target.label());
    }
}

#[test]
fn p1_f55_nothing_is_left_in_flight_whatever_happens_in_whatever_order() {
    let mut runner = TestRunner::new(Config { cases: 300, max_shrink_iters: 60, ..Config::default() });
    let outcome = runner.run(&worlds(), |world| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lives(world));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
