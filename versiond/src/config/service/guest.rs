//! What the configuration says of a program that cannot say it itself: its command, its rendered files, how it
//! is stopped and found ready, and what stands in for `--describe`.

use std::collections::BTreeSet;
use std::str::FromStr;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use nix::sys::signal::Signal;
use supervisor_protocol::contract::{DataFormats, Role, StateKind};
use supervisor_protocol::{ServiceName, Sha256, VersionName};
use toml::Spanned;

use super::{CommandConfig, Contract, FileTemplate, Handed, ServiceConfig, ServiceError, StandIn, list, route};
use crate::config::host::truth;
use crate::config::setting::Source;
use crate::config::template::Template;
use crate::config::{ConfigError, file};

/// The largest template file, in bytes.
const MAX_TEMPLATE: u64 = 1 << 20;

/// `command`, `command_sha256` and `version`.
pub(super) fn command(
    source: &mut Source<'_>,
    name: &ServiceName,
    command: file::List,
    sha256: file::Value,
    version: file::Value,
) -> Result<Option<CommandConfig>, ConfigError> {
    let key = |key: &str| format!("service.{name}.{key}");
    let sha256 = source.pick(&key("command_sha256"), &[], sha256, Sha256::from_str)?;
    let version = source.pick(&key("version"), &[], version, VersionName::from_str)?;
    let Some(at) = command.as_ref().map(|command| command.span().start) else {
        return match (sha256, &version) {
            (None, None) => Ok(None),
            (Some(_), _) => Err(needs_command(name, "command_sha256")),
            (None, Some(_)) => Err(needs_command(name, "version")),
        };
    };
    let argv = templates(source, key("command"), command)?;
    let program = argv.first().map(|first| first.source().to_owned()).unwrap_or_default();
    if !Utf8Path::new(&program).is_absolute() || !argv.first().is_some_and(Template::is_fixed) {
        return Err(source.refuse(key("command"), program, at, ServiceError::Program));
    }
    let version = match version {
        Some(version) => version,
        None => VersionName::new(name.as_str())
            .map_err(|error| source.refuse(key("command"), name.to_string(), at, error))?,
    };
    Ok(Some(CommandConfig { program: program.into(), argv, sha256, version }))
}

fn needs_command(name: &ServiceName, key: &str) -> ConfigError {
    ConfigError::Service { service: name.clone(), detail: format!("{key} without a command") }
}

/// Every item of a list as a template.
pub(super) fn templates(source: &mut Source<'_>, key: String, items: file::List) -> Result<Vec<Template>, ConfigError> {
    let mut templates = Vec::new();
    for item in list(source, key.clone(), items) {
        let at = item.span().start;
        let text = item.into_inner();
        match text.parse() {
            Ok(template) => templates.push(template),
            Err(error) => return Err(source.refuse(key, text, at, error)),
        }
    }
    Ok(templates)
}

/// `[[service.X.file]]`.
pub(super) fn rendered(
    source: &mut Source<'_>,
    name: &ServiceName,
    files: Vec<file::Rendered>,
) -> Result<Vec<FileTemplate>, ConfigError> {
    let key = |key: &str| format!("service.{name}.file.{key}");
    let mut all: Vec<FileTemplate> = Vec::new();
    for file in files {
        let at = file.path.span().start;
        let path = Utf8PathBuf::from(file.path.into_inner());
        let is_plain = path.components().all(|part| matches!(part, Utf8Component::Normal(_)));
        if path.as_str().is_empty() || !is_plain || all.iter().any(|known| known.path == path) {
            return Err(source.refuse(key("path"), path.into_string(), at, ServiceError::FilePath));
        }
        let (text, from, place) = match (file.template, file.source) {
            (Some(text), None) => {
                let place = text.span().start;
                (text.into_inner(), "template", place)
            }
            (None, Some(from)) => {
                let place = from.span().start;
                let from = from.into_inner();
                let read = read_template(Utf8Path::new(&from));
                (read.map_err(|error| source.refuse(key("source"), from.clone(), place, error))?, "source", place)
            }
            (None, None) | (Some(_), Some(_)) => {
                return Err(source.refuse(key("path"), path.into_string(), at, ServiceError::FileText));
            }
        };
        let template = text.parse().map_err(|error| source.refuse(key(from), path.to_string(), place, error))?;
        source.note(key("path"), path.to_string(), at);
        all.push(FileTemplate { path, template });
    }
    Ok(all)
}

fn read_template(path: &Utf8Path) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() || meta.len() > MAX_TEMPLATE {
        return Err(ServiceError::TemplateFile.into());
    }
    Ok(std::fs::read_to_string(path)?)
}

/// What stands in for `--describe`.
pub(super) fn stand_in(
    source: &mut Source<'_>,
    name: &ServiceName,
    file: file::StandIn,
) -> Result<StandIn, ConfigError> {
    let key = |key: &str| format!("service.{name}.{key}");
    let data = match file.data {
        None => None,
        Some(data) => {
            let at = data.span().start;
            let file::Data { reads: [first, last], writes } = data.into_inner();
            let shown = format!("reads {first} to {last}, writes {writes}");
            if first > last || !(first..=last).contains(&writes) {
                return Err(source.refuse(key("data"), shown, at, ServiceError::Data));
            }
            source.note(key("data"), shown, at);
            Some(DataFormats { reads: [first, last], writes })
        }
    };
    let mut streams = Vec::new();
    for class in list(source, key("streams"), file.streams) {
        let at = class.span().start;
        let text = class.into_inner();
        match route::stream_class(&text) {
            Some(class) => streams.push(class),
            None => return Err(source.refuse(key("streams"), text, at, ServiceError::Class)),
        }
    }
    Ok(StandIn {
        state: source.pick(&key("state"), &[], file.state, |text| match text {
            "none" => Ok(StateKind::None),
            "local" => Ok(StateKind::Local),
            "shared" => Ok(StateKind::Shared),
            _ => Err(ServiceError::State),
        })?,
        data,
        role: source.pick(&key("role"), &[], file.role, |text| match text {
            "server" => Ok(Role::Server),
            "worker" => Ok(Role::Worker),
            _ => Err(ServiceError::Role),
        })?,
        streams,
        undrain: source.pick(&key("undrain"), &[], file.undrain, truth)?,
        gpu: list(source, key("gpu"), file.gpu).into_iter().map(Spanned::into_inner).collect(),
    })
}

/// A signal that a program can be asked to stop by: its name, with or without `SIG`.
pub(super) fn stop_signal(text: &str) -> Result<Signal, ServiceError> {
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    match name.parse() {
        Ok(Signal::SIGKILL | Signal::SIGSTOP) | Err(_) => Err(ServiceError::StopSignal),
        Ok(signal) => Ok(signal),
    }
}

/// A path that is asked whether the program is ready.
pub(super) fn ready_path(text: &str) -> Result<String, ServiceError> {
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if is_path { Ok(text.to_owned()) } else { Err(ServiceError::ReadyPath) }
}

/// A truth as upstream's variables write it.
pub(super) fn flag(text: &str) -> Result<bool, ServiceError> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(ServiceError::Flag),
    }
}

/// Names with commas between them.
pub(super) fn names(text: &str) -> Result<BTreeSet<String>, std::convert::Infallible> {
    Ok(text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// What only holds between the keys of one service.
pub(super) fn agree(name: &ServiceName, service: &ServiceConfig) -> Result<(), ConfigError> {
    let refuse = |detail: String| Err(ConfigError::Service { service: name.clone(), detail });
    let ServiceConfig { contract, stand_in, ready_path, notify, files, .. } = service;
    if *contract == Contract::V1 {
        let said = [
            ("ready_path", ready_path.is_some()),
            ("state", stand_in.state.is_some()),
            ("data", stand_in.data.is_some()),
            ("role", stand_in.role.is_some()),
            ("streams", !stand_in.streams.is_empty()),
            ("undrain", stand_in.undrain.is_some()),
        ];
        if let Some((key, _)) = said.iter().find(|(_, is_set)| *is_set) {
            return refuse(format!("{key} beside contract = \"v1\": the child says so itself"));
        }
    }
    if *notify && *contract != Contract::None {
        return refuse("notify is for contract = \"none\": others say it over their admin listener".to_owned());
    }
    if service.handed.is_some() && *contract != Contract::V1 && ready_path.is_none() && !notify {
        let detail = "listen = \"fd\" or \"unix\" without a ready_path or notify: a socket that is handed over takes \
            connections before the program does";
        return refuse(detail.to_owned());
    }
    if service.handed == Some(Handed::Unix) && *contract == Contract::Older {
        return refuse("listen = \"unix\" beside contract = \"older\": such a child is asked at a port".to_owned());
    }
    if stand_in.role == Some(Role::Worker) && service.route.is_some() {
        return refuse("a worker has no route".to_owned());
    }
    let known: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut named = service.args.iter().chain(service.environment.all.values());
    let in_files = files.iter().map(|file| &file.template);
    let missing = |template: &Template| template.files().into_iter().find(|file| !known.contains(file.as_str()));
    match named.find_map(missing).or_else(|| in_files.into_iter().find_map(missing)) {
        Some(file) => refuse(format!("{{file:{file}}} names no [[service.{name}.file]]")),
        None => Ok(()),
    }
}
