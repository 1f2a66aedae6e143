//! The environment of a service's children: `inherit`, then `env_file`, then `env`. Values are not noted,
//! since they may be secrets.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use supervisor_protocol::ServiceName;
use toml::Spanned;

use super::{Environment, ServiceError, list};
use crate::config::host::any;
use crate::config::setting::{Scalar, Source};
use crate::config::template::Template;
use crate::config::{ConfigError, Env};

pub(super) fn environment(
    source: &mut Source<'_>,
    name: &ServiceName,
    inherit: Option<Spanned<Vec<Spanned<String>>>>,
    env_file: Option<Spanned<Scalar>>,
    env: BTreeMap<String, Spanned<Scalar>>,
) -> Result<Environment, ConfigError> {
    let key = |key: &str| format!("service.{name}.{key}");
    let mut environment = Environment::default();
    for variable in list(source, key("inherit"), inherit) {
        let at = variable.span().start;
        let variable = variable.into_inner();
        if is_own(&variable) {
            return Err(source.refuse(key("inherit"), variable, at, ServiceError::OwnVariable));
        }
        if let Some(value) = source.env.get(&variable) {
            environment.all.insert(variable, Template::literal(value));
        }
    }
    let at = env_file.as_ref().map_or(0, |path| path.span().start);
    if let Some(path) = source.pick(&key("env_file"), &[], env_file, any)?.map(Utf8PathBuf::from) {
        let read = read_env_file(&path).map_err(|error| source.refuse(key("env_file"), path.into_string(), at, error));
        environment.all.extend(read?.iter().map(|(name, value)| (name.clone(), Template::literal(value))));
    }
    for (variable, value) in env {
        let at = value.span().start;
        if is_own(&variable) {
            return Err(source.refuse(key("env"), variable, at, ServiceError::OwnVariable));
        }
        let key = key(&format!("env.{variable}"));
        let template: Template = match value.into_inner().0.parse() {
            Ok(template) => template,
            Err(error) => return Err(source.refuse(key, "(hidden)".to_owned(), at, error)),
        };
        source.note(key, "(set)".to_owned(), at);
        if template.is_fixed() {
            environment.stated.insert(variable.clone());
        } else {
            environment.stated.remove(&variable);
        }
        environment.all.insert(variable, template);
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
    const OLDER: [&str; 5] = [
        "DEVSHARD_ADMIN_ADDR",
        "DEVSHARD_SHUTDOWN_GRACE",
        "DEVSHARD_BINARY_LOG_VERSION",
        "NOTIFY_SOCKET",
        "CREDENTIALS_DIRECTORY",
    ];
    variable.starts_with("SUPERVISOR_") || variable.starts_with("LISTEN_") || OLDER.contains(&variable)
}
