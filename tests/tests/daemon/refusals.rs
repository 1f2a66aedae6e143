//! What keeps a versiond from starting, and how it says so.

use std::net::TcpListener;

use camino::Utf8Path;

use crate::node::Node;
use crate::releases::{Build, Document};
use crate::tools::{Said, run};

async fn run_with(settings: &Utf8Path) -> Said {
    run("versiond", ["run", "--config", settings.as_str()]).await
}

/// F40: two on one state would each sweep the other's children.
#[tokio::test]
async fn f40_a_second_versiond_on_the_same_state_names_the_first_and_touches_nothing() {
    let node = Node::serving(&Document::of([("v0.3", Build::A.in_place())]), "").await;
    let before = node.processes();
    let second = Node::new(&format!("[host]\nstate_dir = \"{}/state\"\n", node.folder()));
    second.publish(&Document::of([("v0.3", Build::B.in_place())]));
    let refused = run_with(&second.settings()).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    let pid = node.supervisor.pid().unwrap();
    assert!(refused.err.contains(&format!("(pid {pid})")), "{}", refused.err);
    assert!(refused.err.contains(node.folder().join("state").as_str()), "{}", refused.err);
    assert_eq!(node.processes(), before);
    assert_eq!(node.get("/readyz").await.status, 200);
    node.end().await;
}

#[tokio::test]
async fn a_taken_address_is_named_by_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (setting, name) in [("listen", "[host] listen"), ("metrics", "[host] metrics")] {
        let node = Node::new(&format!("[host]\n{setting} = \"{address}\"\n"));
        let refused = run_with(&node.settings()).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let last = refused.err.lines().last().unwrap();
        assert!(last.contains(name) && last.contains(&address.to_string()), "{last}");
        node.assert_nothing_left();
    }
}

#[tokio::test]
async fn a_wrong_setting_is_refused_with_its_line_before_anything_is_touched() {
    let node = Node::new("");
    let good = std::fs::read_to_string(node.settings()).unwrap();
    let lines = good.lines().count();
    for (wrong, named) in [
        ("[service.other]\nrout = \"/other\"\n", "rout"),
        ("[service.other]\ncommand = [\"true\"]\n", "service.other.command"),
        ("[service.other]\nroute = \"other\"\n", "service.other.route"),
    ] {
        std::fs::write(node.settings(), format!("{good}\n{wrong}")).unwrap();
        let refused = run_with(&node.settings()).await;
        assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{refused:?}");
        let place = format!("{}:{}", node.settings(), lines + 3);
        assert!(refused.err.contains(&place) && refused.err.contains(named), "{place}, {named}: {}", refused.err);
    }
    assert!(!node.folder().join("state").exists());
}

#[tokio::test]
async fn a_command_line_that_is_not_understood_exits_64() {
    for args in [&["run", "--confg", "x"][..], &["ran"], &[]] {
        let refused = run("versiond", args).await;
        assert_eq!((refused.code, refused.out.as_str()), (Some(64), ""), "{args:?}: {refused:?}");
        assert!(refused.err.contains("Usage: versiond"), "{refused:?}");
    }
    let version = run("versiond", ["--version"]).await;
    assert_eq!((version.code, version.out.starts_with("versiond ")), (Some(0), true), "{version:?}");
}
