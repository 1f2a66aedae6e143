//! The manual page of versiond. A build for tests has options that no page shows.

#![cfg(not(feature = "faults"))]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../ctl/tests/manual/mod.rs"]
mod manual;

use manual::{Page, compare};

#[test]
fn the_committed_manual_page_is_what_the_command_line_says() {
    let page = Page {
        command: versiond::cli::cli(),
        section: "8",
        exit_codes: &versiond::cli::EXIT_CODES,
        more: &[
            (
                "SIGNALS",
                &[
                    ("SIGTERM", "Announces, drains, stops, within [host] shutdown_budget. A second one forces."),
                    ("SIGINT", "The same."),
                    ("SIGHUP", "Reads the configuration again, as versionctl reload does."),
                ],
            ),
            (
                "ENVIRONMENT",
                &[
                    ("VERSIOND_CONFIG", "The configuration file, as --config."),
                    ("VERSIOND_LOG", "What is logged: info, debug, versiond=trace; else RUST_LOG."),
                    ("VERSIOND_*", "Every setting; docs/operators.md lists them."),
                ],
            ),
            (
                "FILES",
                &[
                    ("/etc/versiond/versiond.toml", "The configuration, unless another is named."),
                    ("/run/versiond/admin.sock", "The admin socket, unless the configuration names another."),
                    (
                        "/var/lib/versiond",
                        "The state: ledger, catalog, store, data, unless [host] state_dir names another.",
                    ),
                ],
            ),
            ("SEE ALSO", &[("versionctl(1)", "docs/operators.md")]),
        ],
    };
    compare(page, "UPDATE=1 cargo test -p versiond --test man");
}
