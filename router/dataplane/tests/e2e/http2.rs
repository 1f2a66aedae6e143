//! HTTP/2 from the client: streams and their ends, what reaches a child that speaks HTTP/1, and GOAWAY.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use parking_lot::Mutex;
use supervisor_protocol::StreamClass;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::common::*;

/// A client's connection that speaks HTTP/2.
pub(crate) struct Http2 {
    pub(crate) sender: SendRequest<Bytes>,
    /// How the connection ended.
    pub(crate) driver: JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over(io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static) -> Self {
        let mut builder = h2::client::Builder::new();
        let (sender, connection) =
            soon(builder.initial_window_size(65_535).initial_connection_window_size(1 << 20).handshake(io))
                .await
                .unwrap();
        Self { sender, driver: tokio::spawn(connection) }
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<()>,
        body: Option<&str>,
    ) -> Result<Response<RecvStream>, h2::Error> {
        let mut ready = soon(self.sender.clone().ready()).await?;
        let (response, mut stream) = ready.send_request(request, body.is_none())?;
        if let Some(body) = body {
            stream.send_data(Bytes::from(body.to_owned()), true)?;
        }
        soon(response).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response<RecvStream> {
        self.send(get(path), None).await.unwrap()
    }
}

pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.example{path}")).body(()).unwrap()
}

/// The body to its end, and its trailers.
pub(crate) async fn whole(response: Response<RecvStream>) -> Result<(String, HeaderMap), h2::Error> {
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(data) = soon(body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.extend(data);
    }
    let trailers = soon(body.trailers()).await?.unwrap_or_default();
    Ok((String::from_utf8(text).unwrap(), trailers))
}

/// The next piece that is not empty; `None` at the end.
async fn next(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    loop {
        match soon(body.data()).await {
            Some(Ok(data)) if data.is_empty() => {}
            other => return other,
        }
    }
}

/// An origin that answers with what it has read.
async fn telling() -> (SocketAddr, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let address = origin(move |mut peer| {
        let told = told.clone();
        async move {
            while let Some(request) = peer.request().await {
                let body = String::from_utf8_lossy(&request.body).into_owned();
                told.lock().push(request);
                peer.answer(&body).await.unwrap();
            }
        }
    })
    .await;
    (address, seen)
}

#[tokio::test]
async fn a_request_over_http_2_is_an_ordinary_one_to_a_child() {
    let rig = Rig::new();
    let (child, seen) = telling().await;
    rig.publish(child);
    let mut client = Http2::connect(rig.address).await;
    let request = Request::post("http://a.example/devshard/v1/x?y=1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let response = client.send(request, Some("hello")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["versiond-host"], "host-1; boot=boot1");
    assert_eq!(whole(response).await.unwrap().0, "hello");

    let sized = Request::post("http://a.example/devshard/v1/x").header("content-length", "3").body(()).unwrap();
    assert_eq!(whole(client.send(sized, Some("abc")).await.unwrap()).await.unwrap().0, "abc");
    assert_eq!(whole(client.get("/devshard/v1/z").await).await.unwrap().0, "");

    let seen = seen.lock();
    let header = |at: usize, name: &str| seen[at].headers.get(name).cloned().unwrap_or_default();
    assert_eq!(seen[0].line, "POST /x?y=1 HTTP/1.1");
    assert_eq!((header(0, "host"), header(0, "cookie")), ("a.example".into(), "a=1; b=2".into()));
    assert_eq!((header(0, "transfer-encoding"), header(0, "te")), ("chunked".into(), "trailers".into()));
    assert_eq!(header(0, "forwarded"), "for=127.0.0.1;host=\"a.example\";proto=http");
    assert_eq!((header(1, "content-length"), header(1, "transfer-encoding")), ("3".into(), String::new()));
    assert_eq!((header(2, "content-length"), header(2, "transfer-encoding")), (String::new(), String::new()));
    assert_eq!(rig.plane.counters().connections, 1);
}

#[tokio::test]
async fn trailers_come_through() {
    let rig = Rig::new();
    let child = origin(|mut peer| async move {
        peer.request().await.unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTrailer: grpc-status\r\n";
        peer.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nGrpc-Status: 0\r\n\r\n"))
            .await
            .unwrap();
        peer.closed().await;
    })
    .await;
    rig.publish(child);
    let mut client = Http2::connect(rig.address).await;
    let (body, trailers) = whole(client.get("/devshard/v1/x").await).await.unwrap();
    assert_eq!((body.as_str(), &trailers["grpc-status"]), ("ok", &http::HeaderValue::from_static("0")));
}

/// An origin whose streams say what they are told to, each by the last segment of its path.
async fn speaking() -> (SocketAddr, impl Fn(&str, &'static str)) {
    let voices: Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<&'static str>>>> = Arc::default();
    let known = voices.clone();
    let address = origin(move |mut peer| {
        let known = known.clone();
        async move {
            while let Some(request) = peer.request().await {
                let name = request.line.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
                let (sender, mut says) = mpsc::unbounded_channel();
                known.lock().insert(name, sender);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
                peer.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await.unwrap();
                while let Some(said) = says.recv().await {
                    let sent = match said {
                        "break" => return peer.reset(),
                        "end" => break,
                        said => peer.send(format!("{:x}\r\n{said}\r\n", said.len())).await,
                    };
                    if sent.is_err() {
                        return;
                    }
                }
                if peer.send("0\r\n\r\n").await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (address, move |name: &str, says| voices.lock()[name].send(says).unwrap())
}

// F53, F55: one stream ends, breaks or is left, and the others on its connection go on.
#[tokio::test]
async fn f53_f55_streams_of_one_connection_end_each_for_itself() {
    let rig = Rig::new();
    let (child, say) = speaking().await;
    let target = rig.publish(child);
    let mut client = Http2::connect(rig.address).await;
    let mut bodies = BTreeMap::new();
    for name in ["ends", "breaks", "left", "stays"] {
        bodies.insert(name, client.get(&format!("/devshard/v1/{name}")).await.into_body());
    }
    until("four streams", || target.load().by_class.stream == 4).await;
    for (name, body) in &mut bodies {
        say(name, "event");
        assert_eq!(next(body).await.unwrap().unwrap(), "event");
    }
    say("ends", "end");
    assert!(next(bodies.get_mut("ends").unwrap()).await.is_none());
    say("breaks", "break");
    let broken = next(bodies.get_mut("breaks").unwrap()).await.unwrap().unwrap_err();
    assert_eq!(broken.reason(), Some(Reason::INTERNAL_ERROR));
    drop(bodies.remove("left"));
    until("three have ended", || target.load().ended.total() == 3).await;
    let ended = target.load().ended;
    let by = (ended.finished.stream, ended.upstream_broke.stream, ended.client_gone.stream);
    assert_eq!(by, (1, 1, 1));
    say("stays", "more");
    assert_eq!(next(bodies.get_mut("stays").unwrap()).await.unwrap().unwrap(), "more");
    target.cut(StreamClass::Stream);
    let cut = next(bodies.get_mut("stays").unwrap()).await.unwrap().unwrap_err();
    assert_eq!(cut.reason(), Some(Reason::CANCEL));
    assert_eq!(client.get("/devshard/v1/ends").await.status(), 200);
}

// F56: what a stream does not take is not read from its child, and the connection is not held up by it.
#[tokio::test]
async fn f56_a_stream_that_is_not_read_holds_back_its_child_and_nobody_else() {
    let rig = Rig::new();
    let written = Arc::new(AtomicU64::new(0));
    let count = written.clone();
    let child = origin(move |mut peer| {
        let count = count.clone();
        async move {
            let request = peer.request().await.unwrap();
            if request.line.contains("small") {
                return peer.answer("small").await.unwrap();
            }
            peer.send("HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while peer.send([b'x'; 65_536]).await.is_ok() {
                count.fetch_add(65_536, Ordering::Relaxed);
            }
        }
    })
    .await;
    let target = rig.publish(child);
    let mut client = Http2::connect(rig.address).await;
    let stalled = client.get("/devshard/v1/flood").await;
    let mut before = u64::MAX;
    until("the child is held back", || {
        let now = written.load(Ordering::Relaxed);
        std::mem::replace(&mut before, now) == now && now > 0
    })
    .await;
    // The buffers of two sockets, and one piece.
    assert!(written.load(Ordering::Relaxed) < 16 << 20);
    assert_eq!(whole(client.get("/devshard/v1/small").await).await.unwrap().0, "small");
    // Whoever is cut need not read for it.
    target.cut(StreamClass::Request);
    let mut body = stalled.into_body();
    let end = soon(async {
        loop {
            match body.data().await {
                Some(Ok(data)) => drop(body.flow_control().release_capacity(data.len())),
                other => break other,
            }
        }
    });
    assert_eq!(end.await.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn a_stream_that_takes_nothing_for_too_long_is_given_up() {
    let rig = Rig::with(|config| config.limits.stalled = Duration::from_millis(50));
    let child = origin(|mut peer| async move {
        peer.request().await.unwrap();
        peer.send("HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while peer.send([b'x'; 65_536]).await.is_ok() {}
    })
    .await;
    let target = rig.publish(child);
    let mut client = Http2::connect(rig.address).await;
    let _stalled = client.get("/devshard/v1/flood").await;
    until("given up", || target.load().ended.client_gone.request == 1).await;
    let mut client = rig.client().await;
    client.send_get("/devshard/v1/flood").await;
    until("given up", || target.load().ended.client_gone.request == 2).await;
}

// F54: no looser than over HTTP/1.
#[tokio::test]
async fn f54_what_http_1_refuses_is_refused_with_the_same_words() {
    let rig = Rig::new();
    let (child, seen) = telling().await;
    rig.publish(child);
    let mut client = Http2::connect(rig.address).await;
    for (request, status) in [
        (get("/devshard/v1/a%2fb"), 400),
        (get("/devshard/v1/../v2"), 400),
        (Request::get("http://a.example/devshard/v1/x").header("host", "other").body(()).unwrap(), 400),
        (Request::get("http://a.example/devshard/v1/x").header("content_length", "1").body(()).unwrap(), 400),
        (Request::connect("a.example:443").body(()).unwrap(), 501),
        (get("/healthz"), 404),
        (get("/nowhere"), 404),
    ] {
        let response = client.send(request, None).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(whole(response).await.unwrap().0.contains("\"code\":"));
    }
    assert!(seen.lock().is_empty());
    assert_eq!(rig.plane.counters().connections, 1);
}

// F38: HTTP/2 connections are told at the start of a drain, and end with their last stream.
#[tokio::test]
async fn f38_an_announcement_is_a_goaway_and_loses_nothing() {
    let rig = Rig::new();
    let (child, say) = speaking().await;
    rig.publish(child);
    let mut client = Http2::connect(rig.address).await;
    let mut body = client.get("/devshard/v1/s").await.into_body();
    rig.plane.announce(true);
    let told = async {
        while client.sender.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(told).await;
    say("s", "still here");
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "still here");
    assert!(!client.driver.is_finished());
    say("s", "end");
    assert!(next(&mut body).await.is_none());
    soon(client.driver).await.unwrap().unwrap();

    // One that comes now is answered once and told the same.
    let mut late = Http2::connect(rig.address).await;
    let mut body = late.get("/devshard/v1/t").await.into_body();
    say("t", "end");
    assert!(next(&mut body).await.is_none());
    soon(late.driver).await.unwrap().unwrap();
}

#[tokio::test]
async fn f38_a_shutdown_waits_for_streams_and_closes_idle_connections() {
    let rig = Rig::new();
    let (child, say) = speaking().await;
    rig.publish(child);
    let mut busy = Http2::connect(rig.address).await;
    let idle = Http2::connect(rig.address).await;
    let mut body = busy.get("/devshard/v1/s").await.into_body();
    let Rig { plane, .. } = rig;
    let stopped = tokio::spawn(async move { plane.shutdown(PATIENCE).await });
    soon(idle.driver).await.unwrap().unwrap();
    say("s", "last words");
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "last words");
    assert!(!stopped.is_finished());
    say("s", "end");
    assert!(next(&mut body).await.is_none());
    soon(stopped).await.unwrap();
}

// F39: a connection whose other side is gone without a word does not hold its streams for ever.
#[tokio::test]
async fn f39_a_silent_client_is_given_up_with_its_streams() {
    let rig = Rig::with(|config| config.ping = Duration::from_millis(100));
    let (child, say) = speaking().await;
    let target = rig.publish(child);
    let mut awake = Http2::connect(rig.address).await;
    let mut body = awake.get("/devshard/v1/awake").await.into_body();
    // A client that is not driven answers no ping: it stands for one that is gone.
    let (sender, mut connection) = h2::client::handshake(TcpStream::connect(rig.address).await.unwrap()).await.unwrap();
    let (response, _) = sender.clone().send_request(get("/devshard/v1/gone"), true).unwrap();
    let mut response = Box::pin(response);
    soon(poll_fn(|cx| {
        let _ = std::pin::Pin::new(&mut connection).poll(cx);
        std::pin::Pin::new(&mut response).poll(cx)
    }))
    .await
    .unwrap();
    assert_eq!(target.load().by_class.stream, 2);
    until("given up", || target.load().ended.client_gone.stream == 1).await;
    assert_eq!(target.load().by_class.stream, 1);
    say("awake", "still here");
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "still here");
}

#[tokio::test]
async fn a_connection_has_as_many_streams_as_it_may() {
    let rig = Rig::with(|config| config.limits.streams = 2);
    let (child, say) = speaking().await;
    let target = rig.publish(child);
    let mut client = Http2::connect(rig.address).await;
    let one = client.get("/devshard/v1/1").await;
    let two = client.get("/devshard/v1/2").await;
    // Our own client keeps to what it was told: the third waits for one of the others.
    let mut third = {
        let mut sender = client.sender.clone();
        tokio::spawn(async move {
            let (response, _) = sender.send_request(get("/devshard/v1/3"), true)?;
            response.await
        })
    };
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut third).await.is_err());
    assert_eq!(target.load().admitted, 2);
    say("1", "end");
    whole(one).await.unwrap();
    soon(third).await.unwrap().unwrap();
    drop(two);
}
