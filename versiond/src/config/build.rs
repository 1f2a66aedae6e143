//! From the file and the environment to a [`Config`].

use std::collections::BTreeMap;
use std::time::Duration;

use camino::Utf8Path;
use supervisor_protocol::ByClass;
use supervisor_protocol::time::parse_duration;
use toml::Spanned;
use versiond_core::budget::{Budget, Bytes, Span};
use versiond_core::catalog::MAX_SERVICES;

use super::host::ValueError;
use super::setting::{Scalar, Source, line_of};
use super::{Config, ConfigError, Env, catalog, file, host, service};

/// Reads a whole configuration.
pub(super) fn build(path: &Utf8Path, text: &str, env: &Env) -> Result<Config, ConfigError> {
    let file: file::File = toml::from_str(text).map_err(|error| {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        ConfigError::Syntax { path: path.to_owned(), line, detail: detail(text, &error) }
    })?;
    if let Some((name, _)) = env.iter().find(|(name, value)| is_known(name) && value.is_empty()) {
        let origin = super::Origin::Env(name.clone());
        let source = "it is set and empty; unset it for the default".into();
        return Err(ConfigError::Value { key: name.clone(), value: String::new(), origin, source });
    }
    let mut source = Source { path, text, env, settings: Vec::new() };
    let default = Budget::default();
    let (budget, poll) = (file.host.shutdown_budget.clone(), file.catalog.poll.clone());
    let host = host::host(&mut source, file.host)?;
    let names = ["VERSIOND_SHUTDOWN_BUDGET"];
    let shutdown_budget = duration(&mut source, "host.shutdown_budget", &names, budget, default.shutdown_budget)?;
    let names = ["VERSIOND_CATALOG_POLL", "VERSIOND_POLL_INTERVAL"];
    let poll = duration(&mut source, "catalog.poll", &names, poll, default.catalog_poll)?;
    let mut catalog = catalog::catalog(&mut source, file.catalog, poll)?;
    let mut services = BTreeMap::new();
    for (section, service) in file.service {
        let name = service::name(&source, &section)?;
        let service = service::service(&mut source, &name, service)?;
        services.insert(name, service);
    }
    if services.len() > MAX_SERVICES {
        return Err(ConfigError::TooManyServices(services.len()));
    }
    service::together(&services)?;
    let timing = Budget { shutdown_budget, catalog_poll: poll, ..timing(&mut source, file.timing)? };
    let remarks = env
        .keys()
        .filter(|name| name.starts_with("VERSIOND_") && !is_known(name))
        .map(|name| format!("{name} means nothing to this release"))
        .collect();
    let mut followed = services.iter().filter(|(_, service)| service.command.is_none()).map(|(name, _)| name);
    if let (None, Some(only), None) = (&catalog.service, followed.next(), followed.next()) {
        catalog.service = Some(only.clone());
    }
    let shapes = services.iter().map(|(name, service)| (name.clone(), service.shape)).collect();
    catalog.overrides = catalog::overrides(&mut source, file.overrides, catalog.service.as_ref(), &shapes)?;
    Ok(Config { host, catalog, services, timing, settings: source.settings, remarks })
}

fn timing(source: &mut Source<'_>, file: file::Timing) -> Result<Budget, ConfigError> {
    let default = Budget::default();
    let mut read =
        |key: &str, names: &[&str], file, default| duration(source, &format!("timing.{key}"), names, file, default);
    let classes = default.drain_class;
    let budget = Budget {
        detection: read("detection", &["VERSIOND_DETECTION"], file.detection, default.detection)?,
        hold: read("hold", &["VERSIOND_HOLD"], file.hold, default.hold)?,
        ready_window: read(
            "ready_window",
            &["VERSIOND_READY_WINDOW", "VERSIOND_READY_TIMEOUT"],
            file.ready_window,
            default.ready_window,
        )?,
        ready_max: read(
            "ready_max",
            &["VERSIOND_READY_MAX", "VERSIOND_READY_MAX_WAIT"],
            file.ready_max,
            default.ready_max,
        )?,
        ready_probe: read("ready_probe", &["VERSIOND_READY_PROBE"], file.ready_probe, default.ready_probe)?,
        live_probe: read("live_probe", &["VERSIOND_LIVE_PROBE"], file.live_probe, default.live_probe)?,
        live_expiry: read("live_expiry", &["VERSIOND_LIVE_EXPIRY"], file.live_expiry, default.live_expiry)?,
        drain: read("drain", &["VERSIOND_DRAIN", "VERSIOND_DRAIN_TIMEOUT"], file.drain, default.drain)?,
        drain_class: ByClass {
            request: read("drain_request", &["VERSIOND_DRAIN_REQUEST"], file.drain_request, classes.request)?,
            stream: read("drain_stream", &["VERSIOND_DRAIN_STREAM"], file.drain_stream, classes.stream)?,
            upgrade: read("drain_upgrade", &["VERSIOND_DRAIN_UPGRADE"], file.drain_upgrade, classes.upgrade)?,
            job: read("drain_job", &["VERSIOND_DRAIN_JOB"], file.drain_job, classes.job)?,
        },
        stop_grace: read(
            "stop_grace",
            &["VERSIOND_STOP_GRACE", "VERSIOND_DRAIN_KILL_GRACE"],
            file.stop_grace,
            default.stop_grace,
        )?,
        host_drain_min: read(
            "host_drain_min",
            &["VERSIOND_HOST_DRAIN_MIN"],
            file.host_drain_min,
            default.host_drain_min,
        )?,
        ..default
    };
    let announce = ["VERSIOND_ANNOUNCE", "VERSIOND_DRAIN_ANNOUNCE"];
    let shown = budget.announce.map_or("none".to_owned(), |announce| Span(announce).to_string());
    let announce = source.pick_or("timing.announce", &announce, file.announce, &shown, |text| match text {
        "none" => Ok(None),
        _ => parse_duration(text).map(Some),
    })?;
    let requests = ["VERSIOND_HOLD_REQUESTS"];
    let shown = budget.hold_requests.to_string();
    let hold_requests = source.pick_or("timing.hold_requests", &requests, file.hold_requests, &shown, |text| {
        text.parse().ok().filter(|count| *count > 0).ok_or(ValueError::Count)
    })?;
    let shown = Bytes(budget.hold_bytes).to_string();
    let hold_bytes =
        source.pick_or("timing.hold_bytes", &["VERSIOND_HOLD_BYTES"], file.hold_bytes, &shown, host::bytes)?;
    Ok(Budget { announce, hold_requests, hold_bytes, ..budget })
}

fn duration(
    source: &mut Source<'_>,
    key: &str,
    names: &[&str],
    file: Option<Spanned<Scalar>>,
    default: Duration,
) -> Result<Duration, ConfigError> {
    source.pick_or(key, names, file, &Span(default).to_string(), parse_duration)
}

/// The parser's sentence, and the key it is about where the sentence does not say. Never the value.
fn detail(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let head = text.get(..start).unwrap_or_default();
    let line = head.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(line..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let key = line.split('=').next().unwrap_or_default().trim().trim_matches(['[', ']']);
    if key.is_empty() || error.message().contains(key) {
        error.message().to_owned()
    } else {
        format!("{key}: {}", error.message())
    }
}

/// Every variable that this release reads.
const VARIABLES: [&str; 54] = [
    "VERSIOND_CONFIG",
    "VERSIOND_LOG",
    "VERSIOND_HOST_ID",
    "VERSIOND_LISTEN",
    "VERSIOND_STATUS_LISTEN",
    "VERSIOND_STATUS_ALLOW",
    "VERSIOND_ADMIN",
    "VERSIOND_OPERATORS",
    "VERSIOND_READERS",
    "VERSIOND_ADMIN_TCP",
    "VERSIOND_ADMIN_TOKEN_FILE",
    "VERSIOND_METRICS",
    "VERSIOND_STATE_DIR",
    "VERSIOND_CHILD_PORTS",
    "VERSIOND_SHUTDOWN_BUDGET",
    "VERSIOND_THREADS",
    "VERSIOND_CATALOG_SOURCE",
    "VERSIOND_CATALOG_POLL",
    "VERSIOND_CATALOG_SERVICE",
    "VERSIOND_CATALOG_REMOVALS",
    "VERSIOND_CATALOG_ALLOW_EMPTY",
    "VERSIOND_CATALOG_ALLOW_HTTP",
    "VERSIOND_CATALOG_ALLOW_PRIVATE",
    "VERSIOND_CATALOG_TRUST_KEY",
    "VERSIOND_CATALOG_HEIGHT",
    "VERSIOND_CATALOG_DAEMON_NAME",
    "VERSIOND_CATALOG_SKIP_UPGRADES",
    "VERSIOND_CATALOG_PRE_UPGRADE_RETRIES",
    "VERSIOND_ANNOUNCE",
    "VERSIOND_DETECTION",
    "VERSIOND_HOLD",
    "VERSIOND_HOLD_REQUESTS",
    "VERSIOND_HOLD_BYTES",
    "VERSIOND_READY_WINDOW",
    "VERSIOND_READY_MAX",
    "VERSIOND_READY_PROBE",
    "VERSIOND_LIVE_PROBE",
    "VERSIOND_LIVE_EXPIRY",
    "VERSIOND_DRAIN",
    "VERSIOND_DRAIN_REQUEST",
    "VERSIOND_DRAIN_STREAM",
    "VERSIOND_DRAIN_UPGRADE",
    "VERSIOND_DRAIN_JOB",
    "VERSIOND_STOP_GRACE",
    "VERSIOND_HOST_DRAIN_MIN",
    "VERSIOND_FAULT",
    // Upstream's names.
    "VERSIOND_FORCE",
    "VERSIOND_ORACLE_URL",
    "VERSIOND_POLL_INTERVAL",
    "VERSIOND_READY_TIMEOUT",
    "VERSIOND_READY_MAX_WAIT",
    "VERSIOND_DRAIN_TIMEOUT",
    "VERSIOND_DRAIN_KILL_GRACE",
    "VERSIOND_DRAIN_ANNOUNCE",
];

fn is_known(name: &str) -> bool {
    VARIABLES.contains(&name) || name.starts_with(catalog::OVERRIDE)
}
