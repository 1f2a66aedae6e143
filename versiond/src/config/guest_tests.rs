//! What `[service.X]` says of programs that cannot say it themselves.

use std::time::Duration;

use nix::sys::signal::Signal;
use supervisor_protocol::contract::{Role, StateKind};
use versiond_core::catalog::Services;

use super::*;

/// The service that `text` describes; it begins at line 4.
fn service(text: &str) -> Result<ServiceConfig, ConfigError> {
    let text = format!("host.id = \"h\"\ncatalog.source = \"file:/c\"\n[service.vllm]\n{text}");
    let config = build::build(Utf8Path::new("versiond.toml"), &text, &Env::new())?;
    Ok(config.services.into_values().next().unwrap())
}

#[test]
fn the_design_s_command_reads_as_it_is_meant() {
    let service = service(
        r#"
command = ["/opt/vllm/bin/vllm", "serve", "--port", "{port}"]
route = "/v1"
ready_path = "/health"
state = "none"
start_estimate = "4m"
gpu = ["0"]
stop_signal = "QUIT"
env = { PORT = "{port}", CONF = "{file:etc/vllm.json}" }
[[service.vllm.file]]
path = "etc/vllm.json"
template = '{"port": {port}}'
"#,
    )
    .unwrap();
    let command = service.command.as_ref().unwrap();
    assert_eq!((command.program.as_str(), command.version.as_str()), ("/opt/vllm/bin/vllm", "vllm"));
    assert_eq!((service.args.len(), service.contract), (4, Contract::None));
    assert_eq!(service.ready_path.as_deref(), Some("/health"));
    assert_eq!((service.stand_in.state, service.stand_in.role), (Some(StateKind::None), None));
    assert_eq!(service.start_estimate, Some(Duration::from_secs(240)));
    assert_eq!((service.stand_in.gpu.clone(), service.stop_signal), (vec!["0".to_owned()], Signal::SIGQUIT));
    assert_eq!(service.files[0].path.as_str(), "etc/vllm.json");
    assert_eq!(service.environment.stated, std::collections::BTreeSet::new());
}

#[test]
fn a_command_is_outside_the_catalog() {
    let text = "host.id = \"h\"\ncatalog.source = \"file:/c\"\n[service.a]\n[service.b]\ncommand = [\"/bin/b\"]\n";
    let config = build::build(Utf8Path::new("versiond.toml"), text, &Env::new()).unwrap();
    let name = |text: &str| ServiceName::new(text).unwrap();
    assert_eq!(config.catalog.service, Some(name("a")));
    let Services::Configured(services) = config.parse_context().services else { panic!("it is of a host") };
    assert_eq!(services.into_keys().collect::<Vec<_>>(), [name("a")]);
}

#[test]
fn a_catalog_is_needed_unless_every_service_is_a_command() {
    let read = |text: &str| build::build(Utf8Path::new("v.toml"), &format!("host.id = \"h\"\n{text}"), &Env::new());
    let one = "[service.b]\ncommand = [\"/bin/b\"]\n";
    assert_eq!(read(one).unwrap().catalog.source, CatalogSource::Nowhere);
    for text in ["", "[service.a]\n", &format!("[service.a]\n{one}")] {
        assert!(matches!(read(text), Err(ConfigError::Missing { key: "catalog.source", .. })), "{text}");
    }
}

#[test]
fn each_contract_has_its_word_and_its_usual_case() {
    let contract = |text: &str| service(text).unwrap().contract;
    assert_eq!(contract(""), Contract::Auto);
    assert_eq!(contract("command = [\"/bin/a\"]"), Contract::None);
    for (word, expected) in
        [("auto", Contract::Auto), ("v1", Contract::V1), ("older", Contract::Older), ("none", Contract::None)]
    {
        assert_eq!(contract(&format!("contract = \"{word}\"")), expected);
    }
    let worker = service("contract = \"none\"\nrole = \"worker\"\ndata = { reads = [3, 5], writes = 4 }\n").unwrap();
    assert_eq!(worker.stand_in.role, Some(Role::Worker));
    assert_eq!(worker.stand_in.data.map(|data| data.writes), Some(4));
}

#[test]
fn wrong_values_are_refused_with_their_line() {
    for text in [
        "contract = \"v2\"",
        "command = [\"vllm\"]",
        "command = [\"{data_dir}/vllm\"]",
        "command = []",
        "command = [\"/bin/a\", \"{prot}\"]",
        "command = [\"/bin/a\"]\ncommand_sha256 = \"12\"",
        "env = { A = \"{prot}\" }",
        "stop_signal = \"KILL\"",
        "stop_signal = \"SIGNONE\"",
        "ready_path = \"health\"",
        "ready_path = \"/a b\"",
        "state = \"some\"",
        "role = \"none\"",
        "streams = [\"all\"]",
        "undrain = \"maybe\"",
        "start_estimate = \"4\"",
        "data = { reads = [5, 3], writes = 4 }",
        "data = { reads = [3, 5], writes = 6 }",
        "file = [{ path = \"../a\", template = \"\" }]",
        "file = [{ path = \"/a\", template = \"\" }]",
        "file = [{ path = \"a\" }]",
        "file = [{ path = \"a\", template = \"\", source = \"/b\" }]",
        "file = [{ path = \"a\", source = \"/nonexistent/b\" }]",
        "file = [{ path = \"a\", template = \"{prot}\" }]",
        "file = [{ path = \"a\", template = \"\" }, { path = \"a\", template = \"\" }]",
    ] {
        let error = service(text).unwrap_err();
        let ConfigError::Value { origin: Origin::File { line, .. }, .. } = &error else { panic!("{text}: {error:?}") };
        assert_eq!(*line, 3 + text.lines().count(), "{text}");
    }
}

#[test]
fn keys_that_contradict_each_other_are_refused_by_name() {
    for (text, named) in [
        ("command_sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"", "command_sha256"),
        ("version = \"v1\"", "version"),
        ("command = [\"/bin/a\"]\nargs = [\"x\"]", "args"),
        ("command = [\"/bin/a\"]\nentry = \"x\"", "entry"),
        ("contract = \"v1\"\nstate = \"none\"", "state"),
        ("contract = \"v1\"\nready_path = \"/r\"", "ready_path"),
        ("contract = \"older\"\nnotify = true", "notify"),
        ("contract = \"none\"\nrole = \"worker\"\nroute = \"/w\"", "worker"),
        ("command = [\"/bin/a\", \"{file:b}\"]", "{file:b}"),
        ("file = [{ path = \"a\", template = \"{file:b}\" }]", "{file:b}"),
    ] {
        let error = service(text).unwrap_err();
        let ConfigError::Service { detail, .. } = &error else { panic!("{text}: {error:?}") };
        assert!(detail.contains(named), "{text}: {detail}");
    }
}

/// F42: a variable that the supervisor sets cannot be set for it.
#[test]
fn f42_the_variables_of_every_contract_are_the_supervisors_to_set() {
    for name in ["SUPERVISOR_ADMIN", "DEVSHARD_ADMIN_ADDR", "NOTIFY_SOCKET", "LISTEN_FDS"] {
        for text in [format!("env = {{ {name} = \"x\" }}"), format!("inherit = [\"{name}\"]")] {
            assert!(matches!(service(&text), Err(ConfigError::Value { .. })), "{text}");
        }
    }
}
