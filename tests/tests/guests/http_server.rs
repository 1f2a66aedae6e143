//! Python's `http.server`, as it comes.

use nix::sys::signal::Signal;

use crate::guest::{node, program, rewrite, settled};

fn service(folder: &str) -> String {
    let python = program("python3", "python3");
    format!(
        r#"
[service.files]
command = ["{python}", "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "{folder}", "{{port}}"]
route = "/files"
state = "none"
"#
    )
}

#[tokio::test]
async fn pythons_http_server_serves_below_its_route_and_follows_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("word"), name).unwrap();
    }
    let of = |name: &str| service(folder.path().join(name).to_str().unwrap());
    let node = node(&of("one"));
    let before = settled(&node, "files", None).await;
    assert_eq!(before.binary_version.as_deref(), Some("files"), "the slot's name stands for a version");
    assert_eq!(node.get("/files/word").await.text(), "one");
    assert_eq!(node.get("/files/none").await.status, 404);
    rewrite(&node, &of("two"));
    node.signal(Signal::SIGHUP);
    settled(&node, "files", Some(&before)).await;
    assert_eq!(node.get("/files/word").await.text(), "two");
    node.end().await;
}

/// F27: a stranger that listens where the program was told to is not taken for it.
#[tokio::test]
async fn f27_a_program_that_listens_elsewhere_is_never_ready() {
    let python = program("python3", "python3");
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let node = node(&format!(
        "[service.files]\ncommand = [\"{python}\", \"-m\", \"http.server\", \"--bind\", \"127.0.0.1\", \"{elsewhere}\"]\nroute = \"/files\"\nstate = \"none\"\n"
    ));
    node.until_ready(|_| true).await;
    let reason = node
        .until_why("files", |reason| reason.code() == "not_ready" && reason.to_string().contains("nothing listens"))
        .await;
    assert!(reason.to_string().contains("nothing listens on port"), "{reason}");
    node.end().await;
}
