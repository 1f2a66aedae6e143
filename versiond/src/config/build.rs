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
use super::{Config, ConfigError, Env, catalog, file, host, limits, service, variables};

/// Reads a whole configuration.
pub(super) fn build(path: &Utf8Path, text: &str, env: &Env) -> Result<Config, ConfigError> {
    let file: file::File = toml::from_str(text).map_err(|error| {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        ConfigError::Syntax { path: path.to_owned(), line, detail: detail(text, &error) }
    })?;
    variables::refuse(env)?;
    let mut source = Source { path, text, env, settings: Vec::new() };
    let default = Budget::default();
    let (budget, poll) = (file.host.shutdown_budget.clone(), file.catalog.poll.clone());
    let host = host::host(&mut source, file.host)?;
    let names = ["VERSIOND_SHUTDOWN_BUDGET"];
    let shutdown_budget = duration(&mut source, "host.shutdown_budget", &names, budget, default.shutdown_budget)?;
    let names = ["VERSIOND_CATALOG_POLL", "VERSIOND_POLL_INTERVAL"];
    let poll = duration(&mut source, "catalog.poll", &names, poll, default.catalog_poll)?;
    // Without any service the answer would be to name one, which the catalog's default may be.
    let is_needed = file.service.is_empty() || file.service.values().any(|service| service.command.is_none());
    let mut catalog = catalog::catalog(&mut source, file.catalog, poll, is_needed)?;
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
    let limits = limits::limits(&mut source, file.limits)?;
    let remarks = variables::remarks(env);
    let mut followed = services.iter().filter(|(_, service)| service.command.is_none()).map(|(name, _)| name);
    if let (None, Some(only), None) = (&catalog.service, followed.next(), followed.next()) {
        catalog.service = Some(only.clone());
    }
    let shapes = services.iter().map(|(name, service)| (name.clone(), service.shape)).collect();
    catalog.overrides = catalog::overrides(&mut source, file.overrides, catalog.service.as_ref(), &shapes)?;
    Ok(Config { host, catalog, services, timing, limits, settings: source.settings, remarks })
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
        bake: read("bake", &["VERSIOND_BAKE"], file.bake, default.bake)?,
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
