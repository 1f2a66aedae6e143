//! Running the other programs: versionctl against a node, versiond when it is to end by itself.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::common::release;
use crate::node::Node;

/// What a program said until it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A program that reads nothing of this test's environment but what it is given.
pub(crate) fn command<S: AsRef<OsStr>>(binary: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(release(binary));
    command.args(args).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs it to its end.
pub(crate) async fn run<S: AsRef<OsStr>>(binary: &str, args: impl IntoIterator<Item = S>) -> Said {
    let output = command(binary, args).output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.expect("it ends by itself").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// The arguments that send versionctl to this node.
pub(crate) fn to(node: &Node, args: &[&str]) -> Vec<String> {
    let admin = format!("unix:{}", node.admin());
    ["--admin", &admin].iter().chain(args).map(|arg| (*arg).to_owned()).collect()
}

pub(crate) async fn versionctl(node: &Node, args: &[&str]) -> Said {
    run("versionctl", to(node, args)).await
}
