//! A program that serves on the socket that it is given, as under socket activation.

use nix::sys::signal::Signal;

use supervisor_protocol::admin::{Phase, Status};

use crate::guest::{Load, node, own, program, rewrite, settled};
use crate::node::{send, slot};

fn service(word: &str) -> String {
    listening(word, "fd")
}

fn listening(word: &str, how: &str) -> String {
    let (python, server) = (program("python3", "python3"), own("handed_over.py"));
    format!(
        "[service.word]\ncommand = [\"{python}\", \"{server}\", \"{word}\"]\nroute = \"/word\"\nstate = \"none\"\n\
         listen = \"{how}\"\nready_path = \"/up\"\n"
    )
}

/// F27: it is told no port and binds none; its port is its own from before its start.
#[tokio::test]
async fn f27_a_program_that_only_takes_a_socket_serves_and_is_swapped_without_a_lost_request() {
    let node = node(&service("one"));
    let before = settled(&node, "word", None).await;
    let socket = std::fs::read_link(format!("/proc/{}/fd/3", before.pid.unwrap())).unwrap();
    assert!(socket.to_str().unwrap().starts_with("socket:["), "{}", socket.display());
    let load = Load::start(&node, "/word");
    load.more(200).await;
    rewrite(&node, &service("two"));
    node.signal(Signal::SIGHUP);
    settled(&node, "word", Some(&before)).await;
    load.more(200).await;
    assert_eq!(load.stop().await, ["one", "two"]);
    node.end().await;
}

/// F27: its port goes with it, and the next life gets one of its own.
#[tokio::test]
async fn f27_after_its_death_the_next_life_gets_another_socket() {
    let node = node(&service("one"));
    let before = settled(&node, "word", None).await;
    send(before.pid.unwrap(), Signal::SIGKILL);
    let lives = |status: &Status| {
        let all = slot(status, "word").map(|slot| slot.generations.as_slice()).unwrap_or_default();
        all.iter().any(|other| other.phase == Phase::Serving && other.pid != before.pid)
    };
    node.until(lives).await;
    assert_eq!(node.get("/word").await.text(), "one");
    node.end().await;
}

/// F27: nobody can take its place, since there is none but the socket; it is swapped like any other.
#[tokio::test]
async fn f27_a_program_on_a_unix_socket_serves_and_is_swapped_without_a_lost_request() {
    let node = node(&listening("one", "unix"));
    let before = settled(&node, "word", None).await;
    let load = Load::start(&node, "/word");
    load.more(200).await;
    rewrite(&node, &listening("two", "unix"));
    node.signal(Signal::SIGHUP);
    settled(&node, "word", Some(&before)).await;
    load.more(200).await;
    assert_eq!(load.stop().await, ["one", "two"]);
    node.end().await;
}
