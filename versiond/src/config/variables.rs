//! The environment's own list: every variable that this release reads, the names that the public upstream has for
//! the same things, and what to use instead of those that mean nothing here.
//!
//! `docs/environment.md` is written from it. Must not live here: the reading of a value (that is where its key is).

use super::{ConfigError, Env, Origin, catalog};
use Meaning::{Alias, Key, Note, Own, Refuse};

/// What a variable means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Something that no key of the file says.
    Own(&'static str),
    /// It stands over this key of the file.
    Key(&'static str),
    /// Upstream's name for a key.
    Alias(&'static str),
    /// It changes nothing here: what does.
    Note(&'static str),
    /// With it set, versiond would not do what its operator expects.
    Refuse(&'static str),
}

const VARIABLES: &[(&str, Meaning)] = &[
    ("VERSIOND_CONFIG", Own("the path of the configuration file")),
    ("VERSIOND_LOG", Own("what is logged, as `info` or `versiond=debug`; else `RUST_LOG`")),
    ("VERSIOND_HOST_ID", Key("host.id")),
    ("VERSIOND_LISTEN", Key("host.listen")),
    ("VERSIOND_STATUS_LISTEN", Key("host.status_listen")),
    ("VERSIOND_STATUS_ALLOW", Key("host.status_allow")),
    ("VERSIOND_TRUSTED_PROXIES", Key("host.trusted_proxies")),
    ("VERSIOND_PROXY_PROTOCOL", Key("host.proxy_protocol")),
    ("VERSIOND_TLS_LISTEN", Key("host.tls_listen")),
    ("VERSIOND_TLS_CERTIFICATE", Key("host.tls_certificate")),
    ("VERSIOND_TLS_KEY", Key("host.tls_key")),
    ("VERSIOND_ADMIN", Key("host.admin")),
    ("VERSIOND_OPERATORS", Key("host.operators")),
    ("VERSIOND_READERS", Key("host.readers")),
    ("VERSIOND_ADMIN_TCP", Key("host.admin_tcp")),
    ("VERSIOND_ADMIN_TOKEN_FILE", Key("host.admin_token_file")),
    ("VERSIOND_METRICS", Key("host.metrics")),
    ("VERSIOND_STATE_DIR", Key("host.state_dir")),
    ("VERSIOND_CHILD_PORTS", Key("host.child_ports")),
    ("VERSIOND_SHUTDOWN_BUDGET", Key("host.shutdown_budget")),
    ("VERSIOND_LOG_RING", Key("host.log_ring")),
    ("VERSIOND_THREADS", Key("host.threads")),
    ("VERSIOND_PEERS", Key("host.peers")),
    ("VERSIOND_CATALOG_SOURCE", Key("catalog.source")),
    ("VERSIOND_CATALOG_POLL", Key("catalog.poll")),
    ("VERSIOND_CATALOG_SERVICE", Key("catalog.service")),
    ("VERSIOND_CATALOG_REMOVALS", Key("catalog.removals")),
    ("VERSIOND_CATALOG_ALLOW_EMPTY", Key("catalog.allow_empty")),
    ("VERSIOND_CATALOG_ALLOW_HTTP", Key("catalog.allow_http")),
    ("VERSIOND_CATALOG_ALLOW_PRIVATE", Key("catalog.allow_private")),
    ("VERSIOND_CATALOG_TRUST_KEY", Key("catalog.trust_key")),
    ("VERSIOND_CATALOG_HEIGHT", Key("catalog.height")),
    ("VERSIOND_CATALOG_DAEMON_NAME", Key("catalog.daemon_name")),
    ("VERSIOND_CATALOG_SKIP_UPGRADES", Key("catalog.skip_upgrades")),
    ("VERSIOND_CATALOG_PRE_UPGRADE_RETRIES", Key("catalog.pre_upgrade_retries")),
    ("VERSIOND_LIMITS_CONNECTIONS", Key("limits.connections")),
    ("VERSIOND_LIMITS_CONNECTIONS_PER_ADDRESS", Key("limits.connections_per_address")),
    ("VERSIOND_LIMITS_STREAMS", Key("limits.streams")),
    ("VERSIOND_LIMITS_INFLIGHT", Key("limits.inflight")),
    ("VERSIOND_LIMITS_BODY", Key("limits.body")),
    ("VERSIOND_LIMITS_IDLE_REQUEST", Key("limits.idle_request")),
    ("VERSIOND_LIMITS_IDLE_STREAM", Key("limits.idle_stream")),
    ("VERSIOND_LIMITS_IDLE_UPGRADE", Key("limits.idle_upgrade")),
    ("VERSIOND_LIMITS_IDLE_JOB", Key("limits.idle_job")),
    ("VERSIOND_LIMITS_STALLED", Key("limits.stalled")),
    ("VERSIOND_LIMITS_HEAD_TIMEOUT", Key("limits.head_timeout")),
    ("VERSIOND_LIMITS_KEEP_ALIVE", Key("limits.keep_alive")),
    ("VERSIOND_ANNOUNCE", Key("timing.announce")),
    ("VERSIOND_DETECTION", Key("timing.detection")),
    ("VERSIOND_HOLD", Key("timing.hold")),
    ("VERSIOND_HOLD_REQUESTS", Key("timing.hold_requests")),
    ("VERSIOND_HOLD_BYTES", Key("timing.hold_bytes")),
    ("VERSIOND_READY_WINDOW", Key("timing.ready_window")),
    ("VERSIOND_READY_MAX", Key("timing.ready_max")),
    ("VERSIOND_READY_PROBE", Key("timing.ready_probe")),
    ("VERSIOND_LIVE_PROBE", Key("timing.live_probe")),
    ("VERSIOND_LIVE_EXPIRY", Key("timing.live_expiry")),
    ("VERSIOND_DRAIN", Key("timing.drain")),
    ("VERSIOND_DRAIN_REQUEST", Key("timing.drain_request")),
    ("VERSIOND_DRAIN_STREAM", Key("timing.drain_stream")),
    ("VERSIOND_DRAIN_UPGRADE", Key("timing.drain_upgrade")),
    ("VERSIOND_DRAIN_JOB", Key("timing.drain_job")),
    ("VERSIOND_STOP_GRACE", Key("timing.stop_grace")),
    ("VERSIOND_HOST_DRAIN_MIN", Key("timing.host_drain_min")),
    ("VERSIOND_BAKE", Key("timing.bake")),
    ("VERSIOND_FAULT", Own("a guard to break on purpose, in builds for tests")),
    ("VERSIOND_ORACLE_URL", Alias("catalog.source")),
    ("VERSIOND_POLL_INTERVAL", Alias("catalog.poll")),
    ("VERSIOND_FORCE", Alias("catalog.force")),
    ("VERSIOND_BINARY_NAME", Alias("service.X.entry, of every service of the catalog")),
    ("VERSIOND_READY_PATH", Alias("service.X.ready_path, of every service of the catalog; `/ready` is the usual path")),
    ("VERSIOND_READY_TIMEOUT", Alias("timing.ready_window")),
    ("VERSIOND_READY_MAX_WAIT", Alias("timing.ready_max")),
    ("VERSIOND_DRAIN_ANNOUNCE", Alias("timing.announce; `none` instead of a zero")),
    ("VERSIOND_DRAIN_TIMEOUT", Alias("timing.drain")),
    ("VERSIOND_DRAIN_KILL_GRACE", Alias("timing.stop_grace")),
    ("GONKA_HA", Alias("service.X.ha, of every service")),
    ("VERSIOND_NON_HA_VERSIONS", Alias("service.X.non_ha_versions, of every service")),
    (
        "VERSIOND_BIN_DIR",
        Note(
            "artifacts lie in the store, below [host] state_dir: `versionctl import-upstream` takes over what lies there",
        ),
    ),
    (
        "VERSIOND_DATA_DIR",
        Refuse(
            "data lies in `data/SERVICE/VERSION` below [host] state_dir: `versionctl import-upstream` takes over what lies there; then unset it, since children would begin with nothing",
        ),
    ),
    ("VERSIOND_DRAIN_PATH", Refuse("it is /drain, by every contract")),
    ("VERSIOND_DRAIN_STATUS_PATH", Refuse("it is /drain/status, by every contract")),
    ("VERSIOND_DRAIN_POLL_INTERVAL", Note("a draining child is asked ten times a second")),
    ("VERSIOND_RECOVERY_TIMEOUT", Note("a child that warms up says `initializing`: [timing] ready_max bounds it")),
    ("DEVSHARD_ADMIN_ADDR", Note("each older child gets a port of its own, out of [host] child_ports")),
    ("DEVSHARD_SHUTDOWN_GRACE", Note("children are told [timing] stop_grace")),
];

/// Refuses what is set and empty, and what may not be set at all.
pub(super) fn refuse(env: &Env) -> Result<(), ConfigError> {
    let refused = |name: &String, value: &String, why: &str| {
        let origin = Origin::Env(name.clone());
        Err(ConfigError::Value { key: name.clone(), value: value.clone(), origin, source: why.into() })
    };
    for (name, value) in env {
        match meaning(name) {
            Some(Refuse(instead)) => return refused(name, value, instead),
            Some(Own(_) | Key(_) | Alias(_)) if value.is_empty() => {
                return refused(name, value, "it is set and empty; unset it for the default");
            }
            Some(Own(_) | Key(_) | Alias(_) | Note(_)) | None => {}
        }
    }
    Ok(())
}

/// What is to be said of variables that change nothing.
pub(super) fn remarks(env: &Env) -> Vec<String> {
    let remark = |name: &String| match meaning(name) {
        Some(Note(instead)) => Some(format!("{name} changes nothing: {instead}")),
        None if name.starts_with("VERSIOND_") => Some(format!("{name} means nothing to this release")),
        Some(Own(_) | Key(_) | Alias(_) | Refuse(_)) | None => None,
    };
    env.keys().filter_map(remark).collect()
}

fn meaning(name: &str) -> Option<Meaning> {
    let listed = VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning);
    listed.or_else(|| name.starts_with(catalog::OVERRIDE).then_some(Alias("override")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/environment.md");

    fn page() -> String {
        let mut page = String::from(
            "# Environment\n\n\
             A variable stands over the key of the file that it is for. One that is set and empty is refused.\n\
             An unknown `VERSIOND_` variable is remarked on by `versiond check`.\n\n\
             | variable | key or meaning |\n|---|---|\n",
        );
        let of = |kind: fn(&Meaning) -> Option<String>| {
            let row = move |(name, meaning): &(&str, Meaning)| Some(format!("| `{name}` | {} |", kind(meaning)?));
            VARIABLES.iter().filter_map(row).fold(String::new(), |mut rows, row| {
                writeln!(rows, "{row}").unwrap();
                rows
            })
        };
        page += &of(|meaning| match meaning {
            Own(text) => Some((*text).to_owned()),
            Key(key) => Some(format!("`{key}`")),
            Alias(_) | Note(_) | Refuse(_) => None,
        });
        page += "\n## Names of the public upstream\n\n\
                 They mean the same here, under the names of this release, which win where both are set.\n\n\
                 | variable | here |\n|---|---|\n\
                 | `VERSIOND_OVERRIDE_<name>` | `[override.\"SERVICE/NAME\"] file` |\n";
        page += &of(|meaning| match meaning {
            Alias(text) => Some(match text.split_once([',', ';']) {
                Some((key, rest)) => format!("`{key}`{}{rest}", &text[key.len()..=key.len()]),
                None => format!("`{text}`"),
            }),
            Own(_) | Key(_) | Note(_) | Refuse(_) => None,
        });
        page += "\nThese have no counterpart. *Remarked on* says what to use, *refused* keeps versiond from starting.\n\n\
                 | variable | here |\n|---|---|\n";
        page += &of(|meaning| match meaning {
            Note(text) => Some(format!("remarked on: {text}")),
            Refuse(text) => Some(format!("refused: {text}")),
            Own(_) | Key(_) | Alias(_) => None,
        });
        page
    }

    /// `UPDATE=1` in the environment of this test rewrites the page.
    #[test]
    fn the_page_of_the_environment_says_what_the_code_reads() {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(PAGE, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(PAGE).unwrap_or_default(), page(), "UPDATE=1 rewrites docs/environment.md");
    }

    fn sources(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                sources(&path, text);
            } else if !name.ends_with("tests.rs") && name != "variables.rs" {
                *text += std::fs::read_to_string(&path).unwrap().split("#[cfg(test)]\nmod tests {").next().unwrap();
            }
        }
    }

    #[test]
    fn the_list_has_every_variable_that_a_key_is_read_from_and_no_other() {
        let mut text = String::new();
        sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config")), &mut text);
        let is_name = |word: &&str| word.starts_with("VERSIOND_") || *word == "GONKA_HA";
        let plain = |word: &&str| word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let read: BTreeSet<&str> =
            text.split('"').filter(is_name).filter(plain).filter(|word| *word != catalog::OVERRIDE).collect();
        let listed = VARIABLES.iter().filter(|(_, meaning)| matches!(meaning, Key(_) | Alias(_)));
        assert_eq!(read, listed.map(|(name, _)| *name).collect());
    }

    #[test]
    fn what_has_no_counterpart_is_refused_or_remarked_on_with_what_to_use() {
        let env = |name: &str, value: &str| Env::from([(name.to_owned(), value.to_owned())]);
        assert!(refuse(&env("VERSIOND_DATA_DIR", "/opt/versiond/data")).is_err());
        assert!(refuse(&env("VERSIOND_LISTEN", "")).is_err());
        assert!(refuse(&env("VERSIOND_ELSE", "")).is_ok());
        assert!(remarks(&env("VERSIOND_BIN_DIR", "/opt"))[0].contains("import-upstream"));
        assert_eq!(remarks(&env("VERSIOND_ELSE", "1")), ["VERSIOND_ELSE means nothing to this release"]);
        assert_eq!(remarks(&env("PATH", "/bin")), Vec::<String>::new());
        assert_eq!(remarks(&env("VERSIOND_OVERRIDE_v0_2", "/f")), Vec::<String>::new());
    }
}
