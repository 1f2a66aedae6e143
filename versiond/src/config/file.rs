//! The shape of `versiond.toml`, before its values mean anything.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::setting::Scalar;

pub(super) type Value = Option<Spanned<Scalar>>;
pub(super) type List = Option<Spanned<Vec<Spanned<String>>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) host: Host,
    pub(super) catalog: Catalog,
    #[serde(rename = "override")]
    pub(super) overrides: BTreeMap<Spanned<String>, Override>,
    pub(super) service: BTreeMap<Spanned<String>, Service>,
    pub(super) timing: Timing,
    pub(super) limits: LimitsTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Host {
    pub(super) id: Value,
    pub(super) listen: Value,
    pub(super) status_listen: Value,
    pub(super) status_allow: List,
    pub(super) trusted_proxies: List,
    pub(super) proxy_protocol: List,
    pub(super) tls_listen: Value,
    pub(super) tls_certificate: Value,
    pub(super) tls_key: Value,
    pub(super) admin: Value,
    pub(super) operators: Value,
    pub(super) readers: Value,
    pub(super) admin_tcp: Value,
    pub(super) admin_token_file: Value,
    pub(super) metrics: Value,
    pub(super) state_dir: Value,
    pub(super) child_ports: Value,
    pub(super) shutdown_budget: Value,
    pub(super) log_ring: Value,
    pub(super) threads: Value,
    pub(super) peers: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Catalog {
    pub(super) source: Value,
    pub(super) poll: Value,
    pub(super) service: Value,
    pub(super) removals: Value,
    pub(super) allow_empty: Value,
    pub(super) allow_http: Value,
    pub(super) allow_private: Value,
    pub(super) trust_key: Value,
    pub(super) height: Value,
    pub(super) daemon_name: Value,
    pub(super) skip_upgrades: Value,
    pub(super) pre_upgrade_retries: Value,
}

/// `[limits]`: what clients may have at once, and how long nothing may happen.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsTable {
    pub(super) connections: Value,
    pub(super) connections_per_address: Value,
    pub(super) streams: Value,
    pub(super) inflight: Value,
    pub(super) body: Value,
    pub(super) idle_request: Value,
    pub(super) idle_stream: Value,
    pub(super) idle_upgrade: Value,
    pub(super) idle_job: Value,
    pub(super) stalled: Value,
    pub(super) head_timeout: Value,
    pub(super) keep_alive: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Override {
    pub(super) file: Value,
    pub(super) force: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Service {
    pub(super) route: Value,
    pub(super) route_aliases: List,
    pub(super) args: List,
    pub(super) env: BTreeMap<String, Spanned<Scalar>>,
    pub(super) env_file: Value,
    pub(super) inherit: List,
    pub(super) contract: Value,
    pub(super) entry: Value,
    pub(super) class: Vec<Class>,
    pub(super) rollout: Rollout,
    pub(super) file: Vec<Rendered>,
    pub(super) command: List,
    pub(super) command_sha256: Value,
    pub(super) version: Value,
    pub(super) ready_path: Value,
    pub(super) notify: Value,
    pub(super) listen: Value,
    pub(super) protocol: Value,
    pub(super) stop_signal: Value,
    pub(super) ha: Value,
    pub(super) non_ha_versions: Value,
    pub(super) state: Value,
    pub(super) data: Option<Spanned<Data>>,
    pub(super) role: Value,
    pub(super) streams: List,
    pub(super) undrain: Value,
    pub(super) start_estimate: Value,
    pub(super) gpu: List,
    pub(super) user: Value,
    pub(super) group: Value,
    pub(super) credentials: BTreeMap<String, Spanned<Scalar>>,
    pub(super) limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) memory_max: Value,
    pub(super) cpu_max: Value,
    pub(super) pids_max: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Class {
    #[serde(rename = "match")]
    pub(super) pattern: Spanned<String>,
    pub(super) class: Spanned<String>,
}

/// One `[[service.X.file]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rendered {
    pub(super) path: Spanned<String>,
    #[serde(default)]
    pub(super) template: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) source: Option<Spanned<String>>,
}

/// `data = { reads = [3, 5], writes = 5 }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Data {
    pub(super) reads: [u32; 2],
    pub(super) writes: u32,
}

/// The keys that stand in for `--describe`, together.
#[derive(Debug)]
pub(super) struct StandIn {
    pub(super) state: Value,
    pub(super) data: Option<Spanned<Data>>,
    pub(super) role: Value,
    pub(super) streams: List,
    pub(super) undrain: Value,
    pub(super) gpu: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rollout {
    pub(super) mode: Value,
    pub(super) window: Value,
    pub(super) jitter: Value,
    pub(super) error_rate: Value,
    pub(super) error_least: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Timing {
    pub(super) announce: Value,
    pub(super) detection: Value,
    pub(super) hold: Value,
    pub(super) hold_requests: Value,
    pub(super) hold_bytes: Value,
    pub(super) ready_window: Value,
    pub(super) ready_max: Value,
    pub(super) ready_probe: Value,
    pub(super) live_probe: Value,
    pub(super) live_expiry: Value,
    pub(super) bake: Value,
    pub(super) drain: Value,
    pub(super) drain_request: Value,
    pub(super) drain_stream: Value,
    pub(super) drain_upgrade: Value,
    pub(super) drain_job: Value,
    pub(super) stop_grace: Value,
    pub(super) host_drain_min: Value,
}
