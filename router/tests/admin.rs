//! The admin API of a router that runs, before members that are nothing but listeners.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

const TOKEN: &str = "Bearer s3cret";

struct Router {
    process: Child,
    admin: String,
    client: Client<HttpConnector, Empty<Bytes>>,
    /// They accept by being there.
    members: Vec<TcpListener>,
    _folder: tempfile::TempDir,
}

impl Router {
    async fn start() -> Router {
        let folder = tempfile::tempdir().unwrap();
        let members: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let hosts: Vec<String> = ["a", "b"]
            .into_iter()
            .zip(&members)
            .map(|(name, member)| format!("\"{name}={}\"", member.local_addr().unwrap()))
            .collect();
        let [listen, admin] = [free(), free()];
        let token = folder.path().join("token");
        std::fs::write(&token, "s3cret\n").unwrap();
        let config = format!(
            "[router]\nlisten = \"{listen}\"\nadmin = \"{admin}\"\nadmin_token_file = \"{}\"\nannounce = \"none\"\n\
             [[route]]\nmatch = \"/*\"\npool = \"p\"\n\
             [pool.p]\nhosts = [{}]\ncheck = \"tcp\"\ncheck_interval = \"50ms\"\ncheck_timeout = \"1s\"\n",
            token.display(),
            hosts.join(", ")
        );
        let file = folder.path().join("router.toml");
        std::fs::write(&file, config).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_versiond-router"))
            .arg("--config")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let router = Router { process, admin: format!("http://{admin}"), client, members, _folder: folder };
        let begun = Instant::now();
        loop {
            let asked = Request::get(format!("{}/readyz", router.admin)).body(Empty::new()).unwrap();
            if router.client.request(asked).await.is_ok_and(|ready| ready.status() == StatusCode::OK) {
                return router;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not get ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.admin));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = self.client.request(request.body(Empty::new()).unwrap());
        tokio::time::timeout(PATIENCE, sent).await.expect("an answer in time").unwrap()
    }

    async fn ask(&self, method: Method, path: &str) -> (u16, Value) {
        let answer = self.send(method, path, &[("authorization", TOKEN)]).await;
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&text(answer).await).unwrap())
    }

    async fn refusal(&self, method: Method, path: &str) -> (u16, String) {
        let (status, body) = self.ask(method, path).await;
        (status, body["code"].as_str().unwrap().to_owned())
    }

    /// The stream, from after this event on.
    async fn events(&self, last_id: Option<&str>) -> Stream {
        let headers: Vec<_> =
            last_id.map(|id| ("last-event-id", id)).into_iter().chain([("authorization", TOKEN)]).collect();
        let answer = self.send(Method::GET, "/v1/events", &headers).await;
        assert_eq!(answer.status(), StatusCode::OK);
        Stream { body: answer.into_body(), text: String::new() }
    }
}

async fn text(answer: Response<Incoming>) -> String {
    let body = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await.expect("a body in time");
    String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap()
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Stream {
    body: Incoming,
    text: String,
}

impl Stream {
    /// The id and the data of the next event.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let found = field("id: ").zip(field("data: "));
                self.text = rest.to_owned();
                match found {
                    Some((id, data)) => return (id, serde_json::from_str(&data).unwrap()),
                    // A comment.
                    None => continue,
                }
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("an event in time");
            let data = frame.unwrap().unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// The first event that fits.
    async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> (String, Value) {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let (id, event) = self.next().await;
                seen.push(event.clone());
                if fits(&event) {
                    return (id, event);
                }
            }
        });
        let found = found.await.ok();
        found.unwrap_or_else(|| panic!("none of {seen:?}"))
    }
}

fn free() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn what_changes_is_streamed_and_a_reader_goes_on_where_it_was() {
    let mut router = Router::start().await;
    let mut events = router.events(None).await;
    for _ in 0..2 {
        assert_eq!(events.next().await.1["event"], "member_added");
    }
    let role = |host: &'static str, to: Value| {
        move |event: &Value| event["event"] == "role" && event["host"] == host && event["to"] == to
    };
    let (seen, _) = events.until(|event| event["event"] == "views_known").await;

    assert_eq!(router.ask(Method::PUT, "/v1/hosts/a/drain").await.0, 200);
    let (drained, lost) = events.until(role("a", Value::Null)).await;
    assert_eq!((&lost["from"], &lost["reason"]["code"]), (&Value::from("ready"), &Value::from("drained_here")));

    // Nobody is left but the drained one.
    drop(router.members.pop());
    let raised = |event: &Value| event["event"] == "alarm_raised";
    let (_, alarm) = events.until(raised).await;
    assert_eq!(alarm["alarm"]["code"], "panic", "{alarm}");

    let mut again = router.events(Some(&seen)).await;
    let (first, event) = again.next().await;
    assert_eq!(number(&first), number(&seen) + 1);
    assert!(first == drained && event == lost, "{first}: {event}");
    assert_eq!(again.until(raised).await.1, alarm);
    let wrong = [("authorization", TOKEN), ("last-event-id", "yesterday")];
    assert_eq!(router.send(Method::GET, "/v1/events", &wrong).await.status(), StatusCode::BAD_REQUEST);
}

fn number(id: &str) -> u64 {
    id.rsplit_once('-').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn only_who_has_the_token_is_told_anything_but_whether_it_is_ready() {
    let router = Router::start().await;
    for (path, status) in
        [("/livez", 200), ("/readyz", 200), ("/metrics", 401), ("/v1/hosts", 401), ("/v1/events", 401)]
    {
        assert_eq!(router.send(Method::GET, path, &[]).await.status(), status, "{path}");
    }
    let page = [("authorization", TOKEN), ("origin", "http://127.0.0.1")];
    assert_eq!(router.send(Method::PUT, "/v1/hosts/a/drain", &page).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_drain_of_the_routers_own_is_begun_waited_for_and_taken_back() {
    let router = Router::start().await;
    assert_eq!(router.refusal(Method::PUT, "/v1/hosts/c/drain").await, (404, "unknown_host".to_owned()));
    assert_eq!(router.refusal(Method::DELETE, "/v1/hosts/c/drain").await, (404, "unknown_host".to_owned()));
    assert_eq!(router.refusal(Method::DELETE, "/v1/hosts/a/drain").await, (409, "not_drained_here".to_owned()));
    assert_eq!(router.refusal(Method::GET, "/drain/status?wait=5").await, (400, "bad_wait".to_owned()));

    assert_eq!(router.ask(Method::PUT, "/v1/hosts/a/drain").await.0, 200);
    let (_, status) = router.ask(Method::GET, "/drain/status?wait=20s").await;
    assert_eq!((&status["drained"], &status["hosts"][0]["id"]), (&Value::from(true), &Value::from("a")));
    let (_, lookup) = router.ask(Method::GET, "/v1/lookup?path=/x").await;
    assert_eq!((&lookup["candidates"][0]["id"], &lookup["out"][0]["id"]), (&Value::from("b"), &Value::from("a")));
    assert_eq!(router.ask(Method::DELETE, "/v1/hosts/a/drain").await.0, 200);
    let (_, status) = router.ask(Method::GET, "/drain/status").await;
    assert_eq!(status["hosts"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn the_page_is_served_without_a_token_and_has_nothing_of_the_router_in_it() {
    let router = Router::start().await;
    for (path, kind) in [("/", "text/html"), ("/style.css", "text/css"), ("/status.js", "text/javascript")] {
        let answer = router.send(Method::GET, path, &[]).await;
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert!(header("content-type").unwrap().starts_with(kind), "{path}");
        let policy = header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        let text = text(answer).await;
        for secret in ["s3cret", &router.admin, "127.0.0.1"] {
            assert!(!text.contains(secret), "{path} has {secret}");
        }
    }
    // What it asks for is as guarded as ever.
    assert_eq!(router.send(Method::GET, "/v1/pools", &[]).await.status(), StatusCode::UNAUTHORIZED);
}
