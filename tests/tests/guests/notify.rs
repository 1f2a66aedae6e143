//! A server that says over `NOTIFY_SOCKET` when it is ready.

use supervisor_protocol::Reason;

use crate::guest::{node, own, program, settled};

/// F19: its port answers long before it is ready, and only its word counts.
#[tokio::test]
async fn f19_a_program_that_announces_itself_is_ready_when_it_says_so() {
    program("python3", "python3");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("go");
    let node = node(&format!(
        r#"
[service.slow]
command = ["{}", "{{port}}", "{}"]
route = "/slow"
state = "none"
notify = true
"#,
        own("notify.py"),
        file.display()
    ));
    node.until_ready(|_| true).await;
    let waits = |reason: &Reason| reason.code() == "not_ready" && reason.to_string().contains("waiting for its file");
    let reason = node.until_why("slow", waits).await;
    assert!(reason.to_string().contains("it has not said READY=1"), "{reason}");
    std::fs::write(&file, "").unwrap();
    settled(&node, "slow", None).await;
    assert_eq!(node.get("/slow/x").await.text(), "ok");
    node.end().await;
}
