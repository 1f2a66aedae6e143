//! The manual page and the completions of versionctl.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod manual;

use std::process::Command;

use manual::{Page, compare};

#[test]
fn the_committed_manual_page_is_what_the_command_line_says() {
    let page = Page {
        command: versionctl::cli(),
        section: "1",
        exit_codes: &versionctl::exit::TABLE,
        more: &[
            (
                "ENVIRONMENT",
                &[
                    ("VERSIOND_ADMIN", "The daemon's admin API, as --admin."),
                    ("VERSIOND_ADMIN_TOKEN_FILE", "The file with the daemon's token, as --token-file."),
                    ("VERSIOND_ROUTER", "A router's admin API, as --router."),
                    ("VERSIOND_ROUTER_TOKEN_FILE", "The file with the router's token, as --token-file."),
                ],
            ),
            ("FILES", &[("/run/versiond/admin.sock", "The admin socket, unless the configuration names another.")]),
            (
                "SEE ALSO",
                &[(
                    "versiond(8), versiond-router(8)",
                    "docs/operators.md, docs/router.md, docs/runbooks, docs/openapi",
                )],
            ),
        ],
    };
    compare(page, "UPDATE=1 cargo test -p versionctl --test man");
}

#[test]
fn every_shell_gets_completions_that_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = Command::new(env!("CARGO_BIN_EXE_versionctl")).args(["completions", shell]).output().unwrap();
        assert!(output.status.success(), "{shell}");
        let text = String::from_utf8(output.stdout).unwrap();
        for command in versionctl::cli().get_subcommands() {
            assert!(text.contains(command.get_name()), "{shell} does not know {}", command.get_name());
        }
    }
    let unknown = Command::new(env!("CARGO_BIN_EXE_versionctl")).args(["completions", "tcsh"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(64));
}
