//! `[service.X]`.

mod environment;
mod guest;
mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use camino::Utf8PathBuf;
use nix::sys::signal::Signal;
use router_core::route::RoutePattern;
use router_dataplane::HttpVersion;
use supervisor_protocol::contract::{DataFormats, Role, StateKind};
use supervisor_protocol::time::parse_duration;
use supervisor_protocol::{ServiceName, Sha256, StreamClass, VersionName};
use toml::Spanned;
use versiond_core::catalog::ServiceShape;

use super::host::{any, truth};
use super::rollout::{Rollout, rollout};
use super::setting::Source;
use super::template::Template;
use super::{ConfigError, IsolationConfig, file, isolation};

/// `[service.X]`
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Absent for a worker.
    pub route: Option<RoutePattern>,
    pub route_aliases: Vec<RoutePattern>,
    /// A path segment of a route is the version name, and the first one.
    pub shape: ServiceShape,
    pub classes: Vec<ClassRule>,
    /// What is run, when that is not the catalog's to say.
    pub command: Option<CommandConfig>,
    /// Of a command everything, its name first; else what follows the name.
    pub args: Vec<Template>,
    pub environment: Environment,
    /// Rendered anew for each generation.
    pub files: Vec<FileTemplate>,
    pub contract: Contract,
    pub stand_in: StandIn,
    /// How long a child takes to start, until five starts have shown it.
    pub start_estimate: Option<Duration>,
    /// Asked instead of the contract's own path.
    pub ready_path: Option<String>,
    /// It says `READY=1` on its notification socket.
    pub notify: bool,
    /// The socket on which it serves, where that is bound before its start and handed over to it, whatever it says
    /// itself.
    pub handed: Option<Handed>,
    /// What its children speak where requests come to them.
    pub protocol: HttpVersion,
    pub stop_signal: Signal,
    /// Several hosts share one database, as the older contract is told.
    pub ha: bool,
    /// Slots in which that is not so.
    pub non_ha: BTreeSet<String>,
    /// The member of an archive that is the program.
    pub entry: Option<String>,
    pub isolation: IsolationConfig,
    pub rollout: Rollout,
}

/// Which socket is handed over to a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// Of its port, on loopback.
    Tcp,
    /// Without a port: a request costs less on its way.
    Unix,
}

/// Which contract a service's children speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Contract {
    /// Found out by asking.
    #[default]
    Auto,
    V1,
    /// That of the public upstream.
    Older,
    /// None: a program that knows of no supervisor.
    None,
}

/// A program that the configuration itself names and so approves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandConfig {
    pub program: Utf8PathBuf,
    pub argv: Vec<Template>,
    /// What the program must hash to.
    pub sha256: Option<Sha256>,
    /// The name of its one slot.
    pub version: VersionName,
}

/// The environment of a service's children.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    pub all: BTreeMap<String, Template>,
    /// Those that stand in the configuration itself, and so hold no secret.
    pub stated: BTreeSet<String>,
}

/// One `[[service.X.file]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTemplate {
    /// Below the folder of the generation's files.
    pub path: Utf8PathBuf,
    pub template: Template,
}

/// What stands in for `--describe` where a program cannot say it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StandIn {
    pub state: Option<StateKind>,
    pub data: Option<DataFormats>,
    pub role: Option<Role>,
    pub streams: Vec<StreamClass>,
    pub undrain: Option<bool>,
    /// The GPUs that it needs for itself.
    pub gpu: Vec<String>,
}

/// One `[[service.X.class]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassRule {
    /// The path below which it holds, as the child sees it: whole segments.
    pub path: RoutePattern,
    pub class: StreamClass,
}

/// Why a value of a service was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ServiceError {
    #[error("contract is \"auto\", \"v1\", \"older\" or \"none\"")]
    Contract,
    #[error("a class pattern begins with '/' and may end with '*'")]
    Pattern,
    #[error("a class is request, stream, upgrade or job")]
    Class,
    #[error("{0} is a path of the host itself")]
    OwnPath(String),
    #[error("this name is the supervisor's to set")]
    OwnVariable,
    #[error("line {0} is not NAME=value")]
    EnvFile(usize),
    #[error("a command begins with the absolute path of a program; there is no shell and no PATH")]
    Program,
    #[error("a rendered file has a path of its own below the generation's folder, without `..`")]
    FilePath,
    #[error("a rendered file has either a template or a source")]
    FileText,
    #[error("a template is a regular file of at most 1 MiB")]
    TemplateFile,
    #[error("state is \"none\", \"local\" or \"shared\"")]
    State,
    #[error("role is \"server\" or \"worker\"")]
    Role,
    #[error("data is {{ reads = [FIRST, LAST], writes = N }}, where what is written can be read")]
    Data,
    #[error("a stop signal is one that a program can take, as in \"SIGTERM\" or \"QUIT\"")]
    StopSignal,
    #[error("true or false")]
    Flag,
    #[error("listen is \"port\", \"fd\" or \"unix\"")]
    Listen,
    #[error("protocol is \"http1\" or \"http2\"")]
    Protocol,
    #[error("a ready path begins with '/'")]
    ReadyPath,
}

/// Of older children: not to be taken for one that the operator has chosen.
const USUAL_READY_PATH: &str = "/ready";
const DEFAULT_ARGS: [&str; 4] = ["--port", "{port}", "--data-dir", "{data_dir}"];

pub(super) fn service(
    source: &mut Source<'_>,
    name: &ServiceName,
    file: file::Service,
) -> Result<ServiceConfig, ConfigError> {
    let key = |key: &str| format!("service.{name}.{key}");
    let refuse = |detail: &str| ConfigError::Service { service: name.clone(), detail: detail.to_owned() };
    let route = source.pick(&key("route"), &[], file.route, route::route)?;
    let mut route_aliases = Vec::new();
    for alias in list(source, key("route_aliases"), file.route_aliases) {
        let at = alias.span().start;
        let text = alias.into_inner();
        let parsed = route::route(&text).map_err(|error| source.refuse(key("route_aliases"), text, at, error))?;
        route_aliases.push(parsed);
    }
    if route.is_none() && !route_aliases.is_empty() {
        return Err(refuse("route_aliases without a route"));
    }
    let mut classes = Vec::new();
    for rule in file.class {
        classes.push(route::class(source, name, rule)?);
    }
    let command = guest::command(source, name, file.command, file.command_sha256, file.version)?;
    let args = match (&command, file.args) {
        (Some(command), None) => command.argv.clone(),
        (Some(_), Some(_)) => return Err(refuse("args beside a command: the command is the whole of it")),
        (None, None) => {
            source.default_to(&key("args"), &DEFAULT_ARGS.join(" "));
            DEFAULT_ARGS.into_iter().filter_map(|arg| arg.parse().ok()).collect()
        }
        (None, given @ Some(_)) => guest::templates(source, key("args"), given)?,
    };
    // Upstream has one service, whose bytes come from its catalog.
    let of_catalog = |name: &'static str| if command.is_none() { vec![name] } else { Vec::new() };
    let entry = source.pick(&key("entry"), &of_catalog("VERSIOND_BINARY_NAME"), file.entry, any)?;
    let ready_path = of_catalog("VERSIOND_READY_PATH");
    let ready_path = source.pick(&key("ready_path"), &ready_path, file.ready_path, guest::ready_path)?;
    if command.is_some() && entry.is_some() {
        return Err(refuse("entry beside a command: it names a member of an archive"));
    }
    let usual = if command.is_some() { "none" } else { "auto" };
    let service = ServiceConfig {
        shape: route::shape(route.iter().chain(&route_aliases)),
        route,
        route_aliases,
        classes,
        args,
        environment: environment::environment(source, name, file.inherit, file.env_file, file.env)?,
        files: guest::rendered(source, name, file.file)?,
        contract: source.pick_or(&key("contract"), &[], file.contract, usual, |text| match text {
            "auto" => Ok(Contract::Auto),
            "v1" => Ok(Contract::V1),
            "older" => Ok(Contract::Older),
            "none" => Ok(Contract::None),
            _ => Err(ServiceError::Contract),
        })?,
        stand_in: guest::stand_in(
            source,
            name,
            file::StandIn {
                state: file.state,
                data: file.data,
                role: file.role,
                streams: file.streams,
                undrain: file.undrain,
                gpu: file.gpu,
            },
        )?,
        isolation: isolation::isolation(
            source,
            name,
            isolation::File { user: file.user, group: file.group, credentials: file.credentials, limits: file.limits },
        )?,
        start_estimate: source.pick(&key("start_estimate"), &[], file.start_estimate, parse_duration)?,
        rollout: rollout(source, key, file.rollout)?,
        ready_path: ready_path.filter(|path| path != USUAL_READY_PATH),
        notify: source.pick(&key("notify"), &[], file.notify, truth)?.unwrap_or_default(),
        handed: source
            .pick(&key("listen"), &[], file.listen, |text| match text {
                "port" => Ok(None),
                "fd" => Ok(Some(Handed::Tcp)),
                "unix" => Ok(Some(Handed::Unix)),
                _ => Err(ServiceError::Listen),
            })?
            .flatten(),
        protocol: source
            .pick(&key("protocol"), &[], file.protocol, |text| match text {
                "http1" => Ok(HttpVersion::Http1),
                "http2" => Ok(HttpVersion::Http2),
                _ => Err(ServiceError::Protocol),
            })?
            .unwrap_or_default(),
        stop_signal: source
            .pick(&key("stop_signal"), &[], file.stop_signal, guest::stop_signal)?
            .unwrap_or(Signal::SIGTERM),
        ha: source.pick(&key("ha"), &["GONKA_HA"], file.ha, guest::flag)?.unwrap_or_default(),
        non_ha: source
            .pick(&key("non_ha_versions"), &["VERSIOND_NON_HA_VERSIONS"], file.non_ha_versions, guest::names)?
            .unwrap_or_default(),
        entry,
        command,
    };
    guest::agree(name, &service)?;
    Ok(service)
}

/// Checks what only holds between services.
pub(super) fn together(services: &BTreeMap<ServiceName, ServiceConfig>) -> Result<(), ConfigError> {
    let mut seen: Vec<(&RoutePattern, &ServiceName)> = Vec::new();
    for (name, service) in services {
        for route in service.routes() {
            if let Some((_, other)) = seen.iter().find(|(known, _)| *known == route) {
                let detail = format!("the route {route} is also that of [service.{other}]");
                return Err(ConfigError::Service { service: name.clone(), detail });
            }
            seen.push((route, name));
        }
    }
    Ok(())
}

/// The name of a service as the file's section gives it.
pub(super) fn name(source: &Source<'_>, section: &Spanned<String>) -> Result<ServiceName, ConfigError> {
    let text = section.get_ref();
    ServiceName::from_str(text)
        .map_err(|error| source.refuse("service".to_owned(), text.clone(), section.span().start, error))
}

fn list(source: &mut Source<'_>, key: String, list: file::List) -> Vec<Spanned<String>> {
    let Some(list) = list else { return Vec::new() };
    let at = list.span().start;
    let items = list.into_inner();
    let shown = items.iter().map(|item| item.get_ref().as_str()).collect::<Vec<_>>().join(" ");
    source.note(key, shown, at);
    items
}

impl ServiceConfig {
    /// The route and its aliases.
    pub fn routes(&self) -> impl Iterator<Item = &RoutePattern> {
        self.route.iter().chain(&self.route_aliases)
    }
}
