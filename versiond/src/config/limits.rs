//! `[limits]`, and how clients come in: `[host] tls_listen` and `proxy_protocol`.

use std::time::Duration;

use router_dataplane::Limits;
use supervisor_protocol::ByClass;
use supervisor_protocol::time::parse_duration;

use super::host::{ValueError, absolute, address, bytes};
use super::setting::Source;
use super::{ConfigError, HostTls, file};

/// What a limit is set to that there is none of.
const NONE: &str = "none";

pub(super) fn limits(source: &mut Source<'_>, file: file::LimitsTable) -> Result<Limits, ConfigError> {
    Ok(Limits {
        connections: source.pick_or(
            "limits.connections",
            &["VERSIOND_LIMITS_CONNECTIONS"],
            file.connections,
            "10000",
            |text| count(text).and_then(fits),
        )?,
        connections_per_address: source.pick_or(
            "limits.connections_per_address",
            &["VERSIOND_LIMITS_CONNECTIONS_PER_ADDRESS"],
            file.connections_per_address,
            NONE,
            |text| unless_none(text, |text| count(text).and_then(fits)),
        )?,
        streams: source.pick_or("limits.streams", &["VERSIOND_LIMITS_STREAMS"], file.streams, "250", |text| {
            count(text).and_then(fits)
        })?,
        inflight: source.pick_or("limits.inflight", &["VERSIOND_LIMITS_INFLIGHT"], file.inflight, "10000", |text| {
            count(text).and_then(fits)
        })?,
        body: source
            .pick_or("limits.body", &["VERSIOND_LIMITS_BODY"], file.body, NONE, |text| unless_none(text, bytes))?,
        idle: ByClass {
            request: span(source, "idle_request", "VERSIOND_LIMITS_IDLE_REQUEST", file.idle_request, "10m")?,
            stream: span(source, "idle_stream", "VERSIOND_LIMITS_IDLE_STREAM", file.idle_stream, "10m")?,
            upgrade: span(source, "idle_upgrade", "VERSIOND_LIMITS_IDLE_UPGRADE", file.idle_upgrade, "1h")?,
            job: span(source, "idle_job", "VERSIOND_LIMITS_IDLE_JOB", file.idle_job, "1h")?,
        },
        stalled: span(source, "stalled", "VERSIOND_LIMITS_STALLED", file.stalled, "2m")?,
        head_timeout: span(source, "head_timeout", "VERSIOND_LIMITS_HEAD_TIMEOUT", file.head_timeout, "10s")?,
        keep_alive: span(source, "keep_alive", "VERSIOND_LIMITS_KEEP_ALIVE", file.keep_alive, "75s")?,
    })
}

/// The three keys that belong together.
pub(super) fn tls(
    source: &mut Source<'_>,
    listen: file::Value,
    certificate: file::Value,
    key: file::Value,
) -> Result<Option<HostTls>, ConfigError> {
    let listen = source.pick("host.tls_listen", &["VERSIOND_TLS_LISTEN"], listen, address)?;
    let certificate = source.pick("host.tls_certificate", &["VERSIOND_TLS_CERTIFICATE"], certificate, absolute)?;
    let key = source.pick("host.tls_key", &["VERSIOND_TLS_KEY"], key, absolute)?;
    let how = "tls_listen, tls_certificate and tls_key belong together: set all of them in [host], or none";
    match (listen, certificate, key) {
        (Some(listen), Some(certificate), Some(key)) => Ok(Some(HostTls { listen, certificate, key })),
        (None, None, None) => Ok(None),
        (None, _, _) => Err(ConfigError::Missing { key: "host.tls_listen", how }),
        (_, None, _) => Err(ConfigError::Missing { key: "host.tls_certificate", how }),
        (_, _, None) => Err(ConfigError::Missing { key: "host.tls_key", how }),
    }
}

fn span(
    source: &mut Source<'_>,
    key: &str,
    variable: &'static str,
    file: file::Value,
    default: &str,
) -> Result<Duration, ConfigError> {
    source.pick_or(&format!("limits.{key}"), &[variable], file, default, parse_duration)
}

fn count(text: &str) -> Result<u64, ValueError> {
    text.parse().ok().filter(|count| *count > 0).ok_or(ValueError::Count)
}

fn fits<T: TryFrom<u64>>(count: u64) -> Result<T, ValueError> {
    T::try_from(count).map_err(|_| ValueError::Count)
}

fn unless_none<T>(text: &str, parse: impl Fn(&str) -> Result<T, ValueError>) -> Result<Option<T>, ValueError> {
    if text == NONE { Ok(None) } else { parse(text).map(Some) }
}
