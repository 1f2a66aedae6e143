//! Sessions in a file of the host: everything that one host promises, and a replacement that takes turns.

use supervisor_protocol::Reason;

use crate::hosts::{Ground, PREFIX, VERSION};
use crate::http::{asks, whole};
use versiond_demo::sessions::client::{Asked, End, Session, told};

/// What a client hears, in which order, and what it is told of its mistakes.
#[tokio::test]
async fn a_session_is_heard_from_its_receipt_to_its_meta_event() {
    let ground = Ground::new().await;
    let (node, _, _) = ground.alone().await;
    let session = Session::new("e-1");
    let asked = session.asks(PREFIX, 1, 5);
    let heard = asked.send(node.host).await;
    assert_eq!(heard.is_whole(5), Ok(()));
    // Asked again it is the same to the byte, and the model is not asked; from a cursor on it is the rest.
    assert_eq!(asked.send(node.host).await, heard);
    let rest = asked.resume(node.host, Some("1:3"), |_| {}).await;
    assert_eq!((rest.end, &rest.events[..]), (End::Whole, &heard.events[4..]));
    assert_eq!(ground.runs().len(), 1);
    assert_eq!(ground.doubled(), Vec::<String>::new());

    let code = async |asked: &Asked, cursor: Option<&str>| {
        let heard = asked.resume(node.host, cursor, |_| {}).await;
        (heard.status, heard.end)
    };
    let typed = |status, code: &str| (status, End::Typed(code.to_owned()));
    assert_eq!(code(&asked, Some("1:99")).await, typed(200, "unknown_cursor"));
    assert_eq!(code(&asked, Some("2:1")).await, typed(400, "bad_cursor"));
    assert_eq!(code(&asked, Some("soon")).await, typed(400, "bad_cursor"));
    let other = Session::of("e-1", "another");
    assert_eq!(code(&other.asks(PREFIX, 2, 5), None).await, typed(403, "not_owner"));
    assert_eq!(code(&session.asks_with(PREFIX, 1, 5, &[], 7), None).await, typed(409, "diff_fork"));
    assert_eq!(code(&session.asks(PREFIX, 9, 5), None).await, typed(409, "diff_gap"));
    let path = format!("{PREFIX}/sessions/e-1/chat/completions");
    let stepless = "{\"nonce\":4,\"payload\":{\"prompt\":\"\",\"model\":\"m\",\"max_tokens\":1}}";
    assert_eq!(code(&session.sign(&path, stepless.to_owned()), None).await, typed(409, "diff_gap"));
    assert_eq!(code(&session.sign(&path, "{}".to_owned()), None).await, typed(400, "bad_request"));
    let large = format!("\"{}\"", "x".repeat(10 << 20));
    assert_eq!(code(&session.sign(&path, large), None).await, typed(413, "body_too_large"));
    let stranger = format!("{PREFIX}/sessions/e-2/chat/completions");
    assert_eq!(code(&session.sign(&stranger, "{}".to_owned()), None).await.0, 400);
    let mut unsigned = asked.clone();
    unsigned.forge();
    assert_eq!(code(&unsigned, None).await, typed(401, "unsigned"));
    let diffs: serde_json::Value = node.get(&format!("{PREFIX}/sessions/e-1/diffs?from=1&to=9")).await.json();
    let nonces: Vec<_> = diffs.as_array().unwrap().iter().map(|found| found["diff"]["nonce"].as_u64()).collect();
    assert_eq!(nonces, vec![Some(1)]);
    for (path, status, code) in [
        ("sessions/e-1/payloads", 400, "bad_parameter"),
        ("sessions/e-1/payloads?inference_id=1", 401, "unsigned"),
        ("sessions/e-9/mempool", 404, "unknown_session"),
        ("nothing", 404, "not_found"),
    ] {
        let refused = node.get(&format!("{PREFIX}/{path}")).await;
        assert_eq!((refused.status, refused.header("x-devshard-error")), (status, Some(code)));
    }
    let refused = node.get(&format!("{PREFIX}/sessions/e-1/diffs?from=1")).await;
    assert_eq!((refused.status, refused.header("x-devshard-error")), (400, Some("bad_parameter")));
    node.end().await;
}

/// S02: what a client has asked for is run to its end, whatever becomes of the client.
#[tokio::test]
async fn s02_s20_a_client_that_hangs_up_ends_nothing() {
    let ground = Ground::new().await;
    let (node, _, _) = ground.alone().await;
    let asked = Session::new("e-1").asks(PREFIX, 1, 20);
    let (hangs_up, stays) = (asked.clone(), asked.clone());
    let (host, (sender, mut heard)) = (node.host, tokio::sync::mpsc::unbounded_channel());
    let leaving = tokio::spawn(async move { hangs_up.resume(host, None, |n| told(&sender, n)).await });
    let staying = tokio::spawn(async move { stays.send(host).await });
    while heard.recv().await.is_some_and(|n| n < 3) {}
    leaving.abort();
    assert_eq!(staying.await.unwrap().is_whole(20), Ok(()), "another client of the same inference");
    assert_eq!(asked.send(host).await.is_whole(20), Ok(()), "the one that has left, when it comes back");
    assert_eq!(ground.doubled(), Vec::<String>::new());
    node.end().await;
}

/// Two processes never have one file: the new one begins when the old one has gone, and a change that would keep
/// requests waiting for longer than they may waits for an operator.
#[tokio::test]
async fn a_file_has_one_process_at_a_time() {
    let ground = Ground::new().await;
    let (node, first, document) = ground.alone().await;
    let second = ground.build("second");
    let before = node.until_settled(VERSION, &first.sha256).await;
    let (host, session) = (node.host, Session::new("e-1"));
    let asked = session.asks(PREFIX, 1, 50);
    let (streaming, (sender, mut heard)) = (asked.clone(), tokio::sync::mpsc::unbounded_channel());
    let streaming = tokio::spawn(async move { streaming.resume(host, None, |n| told(&sender, n)).await });
    assert!(heard.recv().await.is_some());
    ground.mirror.publish(&document.with(VERSION, &second));
    // Nobody knows yet how long a stream takes here: it may be longer than requests may be held.
    let waits = |reason: &Reason| matches!(reason, Reason::Quiescing { .. } | Reason::NeedsWindow { .. });
    node.until_why(VERSION, waits).await;
    assert_eq!(streaming.await.unwrap().is_whole(50), Ok(()), "the wait cuts nothing");
    let after = node.until_settled(VERSION, &second.sha256).await;
    assert_ne!(before.pid, after.pid);
    assert_eq!(asked.send(host).await.is_whole(50), Ok(()), "the new one has what the old one stored");
    assert_eq!(session.asks(PREFIX, 2, 3).send(host).await.is_whole(3), Ok(()));
    assert_eq!(ground.doubled(), Vec::<String>::new());
    node.end().await;
}

/// A host that is drained session by session serves those that it holds.
#[tokio::test]
async fn what_is_not_held_is_not_admitted_while_sessions_drain() {
    let ground = Ground::new().await;
    let (node, first, _) = ground.alone().await;
    let (held, other) = (Session::new("held"), Session::new("other"));
    assert_eq!(held.asks(PREFIX, 1, 2).send(node.host).await.is_whole(2), Ok(()));
    let child = node.until_settled(VERSION, &first.sha256).await;
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", child.pid.unwrap())).unwrap();
    let admin = environment.split('\0').find_map(|line| line.strip_prefix("SUPERVISOR_ADMIN=")).unwrap();
    let admin = tokio::net::UnixStream::connect(admin).await.unwrap();
    let drained = whole(admin, asks(::http::Method::POST, "/drain", "{\"mode\":\"sessions\"}")).await.unwrap();
    assert!(drained.status < 300, "{}", drained.text());
    assert_eq!(held.asks(PREFIX, 2, 2).send(node.host).await.is_whole(2), Ok(()));
    let refused = other.asks(PREFIX, 1, 2).send(node.host).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    node.end().await;
}
