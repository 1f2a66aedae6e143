//! The manual page of versiond-router.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../versiond/ctl/tests/manual/mod.rs"]
mod manual;

use manual::{Page, compare};

#[test]
fn the_committed_manual_page_is_what_the_command_line_says() {
    let page = Page {
        command: versiond_router::cli::cli(),
        section: "8",
        exit_codes: &versiond_router::cli::EXIT_CODES,
        more: &[
            (
                "SIGNALS",
                &[
                    ("SIGTERM", "Announces for [router] announce, then waits [router] drain for what is in flight."),
                    ("SIGINT", "The same. A second one while it announces forces."),
                    ("SIGHUP", "Reads the configuration again; one that is wrong changes nothing. Connections stay."),
                ],
            ),
            (
                "ENVIRONMENT",
                &[
                    ("VERSIOND_ROUTER_CONFIG", "The configuration file, as --config."),
                    ("VERSIOND_LOG", "What is logged: info, debug, versiond_router=trace; else RUST_LOG."),
                ],
            ),
            (
                "FILES",
                &[
                    ("/etc/versiond/router.toml", "The configuration, unless another is named."),
                    ("/var/lib/versiond-router", "What was last known of the members, as the unit has it."),
                ],
            ),
            ("SEE ALSO", &[("versionctl(1), versiond(8)", "docs/router.md, docs/openapi/versiond-router.json")]),
        ],
    };
    compare(page, "UPDATE=1 cargo test -p versiond-router --test man");
}
