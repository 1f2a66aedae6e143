//! `[service.X]`.

use std::str::FromStr;

use camino::{Utf8Path, Utf8PathBuf};
use router_core::route::RoutePattern;
use supervisor_protocol::time::parse_duration;
use supervisor_protocol::{ServiceName, StreamClass};
use toml::Spanned;
use versiond_core::catalog::ServiceShape;

use super::host::any;
use super::rollout::rollout;
use super::setting::Source;
use super::{ConfigError, Env, ServiceConfig, file};

/// Which contract a service's children speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Contract {
    /// Found out by asking; in this release the same as [`Contract::V1`].
    #[default]
    Auto,
    V1,
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
    #[error("contract is \"auto\" or \"v1\"; \"older\" and \"none\" are not available in this release")]
    Contract,
    #[error("a class pattern begins with '/' and may end with '*'")]
    Pattern,
    #[error("a class is request, stream, upgrade or job")]
    Class,
    #[error("{0} is a path of the host itself")]
    OwnPath(String),
    #[error("the placeholders are {{port}}, {{data_dir}} and {{version}}")]
    Placeholder,
    #[error("this name is the supervisor's to set")]
    OwnVariable,
    #[error("line {0} is not NAME=value")]
    EnvFile(usize),
}

const DEFAULT_ARGS: [&str; 4] = ["--port", "{port}", "--data-dir", "{data_dir}"];
const PLACEHOLDERS: [&str; 3] = ["port", "data_dir", "version"];
/// First segments on which the data listener answers for the host.
const OWN_PATHS: [&str; 3] = ["healthz", "readyz", "drain"];

pub(super) fn service(
    source: &mut Source<'_>,
    name: &ServiceName,
    file: file::Service,
) -> Result<ServiceConfig, ConfigError> {
    let key = |key: &str| format!("service.{name}.{key}");
    let route = source.pick(&key("route"), &[], file.route, route)?;
    let mut route_aliases = Vec::new();
    for alias in list(source, key("route_aliases"), file.route_aliases) {
        let at = alias.span().start;
        let text = alias.into_inner();
        let parsed = self::route(&text).map_err(|error| source.refuse(key("route_aliases"), text, at, error))?;
        route_aliases.push(parsed);
    }
    if route.is_none() && !route_aliases.is_empty() {
        let detail = "route_aliases without a route".to_owned();
        return Err(ConfigError::Service { service: name.clone(), detail });
    }
    let args = match file.args {
        None => {
            source.default_to(&key("args"), &DEFAULT_ARGS.join(" "));
            DEFAULT_ARGS.map(str::to_owned).to_vec()
        }
        given @ Some(_) => {
            let mut args = Vec::new();
            for arg in list(source, key("args"), given) {
                let at = arg.span().start;
                let text = arg.into_inner();
                if has_other_placeholder(&text) {
                    return Err(source.refuse(key("args"), text, at, ServiceError::Placeholder));
                }
                args.push(text);
            }
            args
        }
    };
    let environment = environment(source, name, file.inherit, file.env_file, file.env)?;
    let contract = source.pick_or(&key("contract"), &[], file.contract, "auto", |text| match text {
        "auto" => Ok(Contract::Auto),
        "v1" => Ok(Contract::V1),
        _ => Err(ServiceError::Contract),
    })?;
    let entry = source.pick(&key("entry"), &[], file.entry, any)?;
    let mut classes = Vec::new();
    for rule in file.class {
        classes.push(class(source, name, rule)?);
    }
    let rollout = rollout(source, key, file.rollout)?;
    let start_estimate = source.pick(&key("start_estimate"), &[], file.start_estimate, parse_duration)?;
    let shape = shape(route.iter().chain(&route_aliases));
    Ok(ServiceConfig {
        route,
        route_aliases,
        shape,
        args,
        environment,
        contract,
        entry,
        classes,
        rollout,
        start_estimate,
    })
}

fn shape<'r>(routes: impl Iterator<Item = &'r RoutePattern>) -> ServiceShape {
    let mut shape = ServiceShape::Single;
    for route in routes.filter(|route| route.has_version()) {
        let first = first_segment(route) == "{version}";
        shape = match shape {
            ServiceShape::Single => ServiceShape::Versioned { first_segment: first },
            ServiceShape::Versioned { first_segment } => {
                ServiceShape::Versioned { first_segment: first_segment || first }
            }
        };
    }
    shape
}

fn route(text: &str) -> Result<RoutePattern, Box<dyn std::error::Error + Send + Sync>> {
    let pattern = RoutePattern::parse(text)?;
    let first = first_segment(&pattern);
    if OWN_PATHS.iter().any(|own| own.eq_ignore_ascii_case(&first)) {
        return Err(ServiceError::OwnPath(format!("/{first}")).into());
    }
    Ok(pattern)
}

fn first_segment(pattern: &RoutePattern) -> String {
    pattern.to_string().trim_start_matches('/').split('/').next().unwrap_or_default().to_owned()
}

fn class(source: &mut Source<'_>, name: &ServiceName, rule: file::Class) -> Result<ClassRule, ConfigError> {
    let key = |key: &str| format!("service.{name}.class.{key}");
    let (at, class_at) = (rule.pattern.span().start, rule.class.span().start);
    let (pattern, class) = (rule.pattern.into_inner(), rule.class.into_inner());
    let below = pattern.strip_suffix("/*").unwrap_or(&pattern);
    let path = match below.parse::<RoutePattern>() {
        Ok(path) if !below.contains('*') && !path.has_version() => path,
        Ok(_) | Err(_) => return Err(source.refuse(key("match"), pattern, at, ServiceError::Pattern)),
    };
    let Some(found) = StreamClass::ALL.into_iter().find(|known| known.as_str() == class) else {
        return Err(source.refuse(key("class"), class, class_at, ServiceError::Class));
    };
    source.note(format!("service.{name}.class"), format!("{pattern} is {found}"), at);
    Ok(ClassRule { path, class: found })
}

/// The environment of the service's children: `inherit`, then `env_file`, then `env`. Values are not
/// noted, since they may be secrets.
fn environment(
    source: &mut Source<'_>,
    name: &ServiceName,
    inherit: Option<Spanned<Vec<Spanned<String>>>>,
    env_file: Option<Spanned<super::setting::Scalar>>,
    env: std::collections::BTreeMap<String, Spanned<super::setting::Scalar>>,
) -> Result<Env, ConfigError> {
    let key = |key: &str| format!("service.{name}.{key}");
    let mut environment = Env::new();
    for variable in list(source, key("inherit"), inherit) {
        let at = variable.span().start;
        let variable = variable.into_inner();
        if is_own(&variable) {
            return Err(source.refuse(key("inherit"), variable, at, ServiceError::OwnVariable));
        }
        if let Some(value) = source.env.get(&variable) {
            environment.insert(variable, value.clone());
        }
    }
    let at = env_file.as_ref().map_or(0, |path| path.span().start);
    if let Some(path) = source.pick(&key("env_file"), &[], env_file, any)?.map(Utf8PathBuf::from) {
        let read = read_env_file(&path).map_err(|error| source.refuse(key("env_file"), path.into_string(), at, error));
        environment.extend(read?);
    }
    for (variable, value) in env {
        let at = value.span().start;
        if is_own(&variable) {
            return Err(source.refuse(key("env"), variable, at, ServiceError::OwnVariable));
        }
        source.note(key(&format!("env.{variable}")), "(set)".to_owned(), at);
        environment.insert(variable, value.into_inner().0);
    }
    Ok(environment)
}

fn read_env_file(path: &Utf8Path) -> Result<Env, Box<dyn std::error::Error + Send + Sync>> {
    let mut environment = Env::new();
    for (index, line) in std::fs::read_to_string(path)?.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(ServiceError::EnvFile(index + 1))?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(ServiceError::EnvFile(index + 1).into());
        }
        if is_own(name) {
            return Err(ServiceError::OwnVariable.into());
        }
        let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
        environment.insert(name.to_owned(), quoted.unwrap_or(value).to_owned());
    }
    Ok(environment)
}

/// Whether a variable is part of the contract, so that only the supervisor may set it.
fn is_own(variable: &str) -> bool {
    variable.starts_with("SUPERVISOR_") || variable.starts_with("LISTEN_") || variable == "NOTIFY_SOCKET"
}

fn has_other_placeholder(arg: &str) -> bool {
    arg.split('{').skip(1).any(|rest| match rest.split_once('}') {
        Some((inner, _)) => {
            let is_word = !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            is_word && !PLACEHOLDERS.contains(&inner)
        }
        None => false,
    })
}

fn list(source: &mut Source<'_>, key: String, list: Option<Spanned<Vec<Spanned<String>>>>) -> Vec<Spanned<String>> {
    let Some(list) = list else { return Vec::new() };
    let at = list.span().start;
    let items = list.into_inner();
    let shown = items.iter().map(|item| item.get_ref().as_str()).collect::<Vec<_>>().join(" ");
    source.note(key, shown, at);
    items
}

/// Checks what only holds between services.
pub(super) fn together(services: &std::collections::BTreeMap<ServiceName, ServiceConfig>) -> Result<(), ConfigError> {
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
