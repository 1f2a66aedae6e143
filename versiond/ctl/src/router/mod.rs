//! What a router is asked: `versionctl hosts` and `lookup`, and the drain of a host that cannot say itself that it
//! is to be drained.

mod drain;

use http::Method;
use supervisor_protocol::admin::describe_load;
use supervisor_protocol::router::{HostStatus, Hosts, LookupReport};

use crate::args::Output;
use crate::client::ANSWER;
use crate::command::Admin;
use crate::failure::Failure;
use crate::text::{age, out, out_json, table};

pub(crate) use drain::{Waiting, drain, undrain};

/// Names the router's admin API.
pub(crate) const VARIABLE: &str = "VERSIOND_ROUTER";
/// Names the file with its token.
pub(crate) const TOKEN_VARIABLE: &str = "VERSIOND_ROUTER_TOKEN_FILE";
/// Where a router is asked when nothing is said.
pub(crate) const DEFAULT: &str = "http://127.0.0.1:8404";

/// Which router.
#[derive(Debug, clap::Args)]
pub(crate) struct RouterAt {
    /// The router's admin API; else VERSIOND_ROUTER, else `http://127.0.0.1:8404`.
    #[arg(long, value_name = "URL")]
    pub(crate) router: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HostsArgs {
    #[command(flatten)]
    at: RouterAt,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LookupArgs {
    /// The path of a request, such as `/devshard/v2/sessions/77`.
    path: String,
    #[command(flatten)]
    at: RouterAt,
    #[command(flatten)]
    output: Output,
}

impl HostsArgs {
    pub(crate) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let told = admin.router(&self.at)?.send::<Hosts>(Method::GET, "/v1/hosts", ANSWER).await?;
        if self.output.json {
            out_json(&told.json);
        } else {
            out(&hosts(&told.body.hosts));
        }
        Ok(())
    }
}

impl LookupArgs {
    /// That nobody would be chosen is a failure, and what is known of it is printed all the same.
    pub(crate) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let path = format!("/v1/lookup?path={}", encoded(&self.path));
        let told = admin.router(&self.at)?.send::<LookupReport>(Method::GET, &path, ANSWER).await?;
        if self.output.json {
            out_json(&told.json);
        } else {
            out(&lookup(&told.body));
        }
        match told.body.refused {
            Some(refused) => Err(Failure::NoChoice(refused)),
            None => Ok(()),
        }
    }
}

/// The table of hosts, and below it why some may not be chosen.
fn hosts(hosts: &[HostStatus]) -> String {
    if hosts.is_empty() {
        return "no hosts: no pool has a member\n".to_owned();
    }
    let header = ["POOL", "HOST", "ADDRESS", "HEALTH", "ROLE", "SHARE", "DRAIN", "IN FLIGHT", "OLDEST"];
    let mut text = table(&header, hosts.iter().map(row));
    let outs = hosts.iter().filter_map(|host| Some((host, host.out.as_ref()?)));
    for (at, (host, reason)) in outs.enumerate() {
        let begin = if at == 0 { "\n" } else { "" };
        text.push_str(&format!("{begin}  {} {}: {} [{}]\n", host.pool, name(host), reason.text, reason.code));
    }
    text
}

fn row(host: &HostStatus) -> Vec<String> {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let is_idle = host.inflight == 0;
    let drain = host.drain.as_ref().map(|drain| if drain.of_router { "router" } else { "host" }.to_owned());
    vec![
        host.pool.clone(),
        or_dash(host.id.clone()),
        host.address.clone(),
        host.health.clone(),
        host.role.clone().unwrap_or_else(|| "out".to_owned()),
        format!("{:.1} %", host.share_percent),
        or_dash(drain),
        if is_idle { "-".to_owned() } else { describe_load(&host.by_class) },
        if is_idle { "-".to_owned() } else { age(host.oldest_ms) },
    ]
}

fn lookup(report: &LookupReport) -> String {
    let mut text = format!("path     {}\n", report.path);
    let named = [("pool", &report.pool), ("key", &report.key)];
    let version = report.version.as_ref().map(ToString::to_string);
    for (label, value) in named.into_iter().chain([("version", &version)]) {
        if let Some(value) = value {
            text.push_str(&format!("{label:<8} {value}\n"));
        }
    }
    for (place, candidate) in report.candidates.iter().enumerate() {
        let label = if place == 0 { "host" } else { "next" };
        text.push_str(&format!("{label:<8} {}  {}  {}\n", candidate.id, candidate.address, candidate.role));
    }
    for out in &report.out {
        let name = out.id.as_deref().unwrap_or(&out.address);
        text.push_str(&format!("out      {name}: {} [{}]\n", out.reason.text, out.reason.code));
    }
    for alarm in &report.alarms {
        text.push_str(&format!("alarm    {} [{}]\n", alarm.text, alarm.code));
    }
    text
}

/// What people call a host.
fn name(host: &HostStatus) -> &str {
    host.id.as_deref().unwrap_or(&host.address)
}

/// As a part of a path or of a query: everything that could end it there, or mean something, is written as `%XX`.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let written =
        text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    written.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_could_end_a_part_of_a_path_is_encoded() {
        assert_eq!(encoded("/v1/x?a=b&c d"), "%2Fv1%2Fx%3Fa%3Db%26c%20d");
        assert_eq!(encoded("gpu-1.rack_2~"), "gpu-1.rack_2~");
    }
}
