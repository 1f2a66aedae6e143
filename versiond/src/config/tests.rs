use std::time::Duration;

use supervisor_protocol::StreamClass;
use supervisor_protocol::time::DurationError;
use versiond_core::catalog::{Removals, ServiceShape};
use versiond_core::errors::ErrorRule;
use versiond_core::window::Window;

use super::*;

fn read_text(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    build::build(Utf8Path::new("versiond.toml"), text, &env)
}

/// With what is required already there; `text` begins at line 4.
fn with(text: &str) -> Result<Config, ConfigError> {
    read_text(&format!("host.id = \"gpu-07\"\ncatalog.source = \"file:/tmp/c.json\"\n\n{text}"), &[])
}

fn line(error: &ConfigError) -> usize {
    let (ConfigError::Syntax { line, .. } | ConfigError::Value { origin: Origin::File { line, .. }, .. }) = error
    else {
        panic!("no line: {error:?}")
    };
    *line
}

#[test]
fn the_design_s_example_reads_as_it_is_meant() {
    let config = read_text(
        r#"
[host]
id = "gpu-07"
listen = "0.0.0.0:8080"
admin = "unix:/run/versiond/admin.sock"
metrics = "127.0.0.1:9464"
state_dir = "/var/lib/versiond"
child_ports = "20000-20999"
shutdown_budget = "25m"
status_allow = ["127.0.0.0/8"]
trusted_proxies = ["10.1.0.0/16", "10.2.0.1"]

[catalog]
source = "https://api.example/versions"
poll = "30s"
service = "devshardd"
removals = "explicit"

[service.devshardd]
route = "/devshard/{version}"
route_aliases = ["/{version}"]
args = ["--port", "{port}", "--data-dir", "{data_dir}"]
entry = "devshardd"
env = { RUST_LOG = "info", WORKERS = 4 }
[[service.devshardd.class]]
match = "/jobs/*"
class = "job"

[timing]
announce = "none"
drain_job = "5m"
hold_requests = 10
hold_bytes = "16 MiB"
"#,
        &[],
    )
    .unwrap();
    assert_eq!(config.host.id.as_str(), "gpu-07");
    assert_eq!((config.host.status_allow.len(), config.host.trusted_proxies.len()), (1, 2));
    assert_eq!(config.catalog.removals, Removals::Explicit);
    let service = &config.services[&ServiceName::new("devshardd").unwrap()];
    assert_eq!(service.shape, ServiceShape::Versioned { first_segment: true });
    let rule = &service.classes[0];
    assert_eq!(rule.class, StreamClass::Job);
    assert!(rule.path.matches("/jobs/1").is_some());
    assert!(rule.path.matches("/job").is_none());
    assert_eq!(service.environment.all["WORKERS"].source(), "4");
    assert_eq!(config.timing.announce, None);
    assert_eq!(config.timing.drain_class.job, Duration::from_secs(300));
    assert_eq!((config.timing.hold_requests, config.timing.hold_bytes), (10, 16 << 20));
    let setting = config.settings.iter().find(|setting| setting.key == "catalog.poll").unwrap();
    assert_eq!(setting.origin, Origin::File { path: "versiond.toml".into(), line: 15 });
}

#[test]
fn the_shape_follows_from_every_route() {
    let shape = |text: &str| {
        let config = with(&format!("[service.a]\n{text}")).unwrap();
        config.services[&ServiceName::new("a").unwrap()].shape
    };
    assert_eq!(shape(""), ServiceShape::Single);
    assert_eq!(shape("route = \"/a\""), ServiceShape::Single);
    assert_eq!(shape("route = \"/a/{version}\""), ServiceShape::Versioned { first_segment: false });
    assert_eq!(shape("route = \"/{version}\""), ServiceShape::Versioned { first_segment: true });
}

/// F36: no unit, zero, or a number where a duration belongs, in the file or in the environment.
#[test]
fn f36_a_bare_number_or_zero_is_refused_with_its_line() {
    for (text, expected) in [
        ("30", DurationError::Unit),
        ("\"30\"", DurationError::Unit),
        ("\"0s\"", DurationError::Zero),
        ("0", DurationError::Unit),
        ("-1", DurationError::Number),
        ("\"\"", DurationError::Number),
        ("true", DurationError::Number),
    ] {
        for key in ["hold", "drain", "announce", "stop_grace", "ready_probe"] {
            let error = with(&format!("[timing]\n{key} = {text}\n")).unwrap_err();
            assert_eq!(line(&error), 5, "{key} = {text}");
            let ConfigError::Value { source, .. } = &error else { panic!("{error:?}") };
            assert_eq!(source.downcast_ref::<DurationError>(), Some(&expected), "{key} = {text}");
        }
    }
    let base = "host.id = \"h\"\ncatalog.source = \"file:/c\"\n";
    for (name, value) in
        [("VERSIOND_POLL_INTERVAL", "30"), ("VERSIOND_CATALOG_POLL", "0s"), ("VERSIOND_DRAIN_TIMEOUT", "")]
    {
        let error = read_text(base, &[(name, value)]).unwrap_err();
        let ConfigError::Value { origin, .. } = error else { panic!("{error:?}") };
        assert_eq!(origin, Origin::Env(name.to_owned()));
    }
}

/// F34, at the only way into the daemon.
#[test]
fn f34_load_refuses_a_budget_whose_phases_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().join("versiond.toml")).unwrap();
    let text =
        |budget: &str| format!("[host]\nid = \"h\"\nshutdown_budget = \"{budget}\"\n[catalog]\nsource = \"file:/c\"\n");
    std::fs::write(&path, text("11m")).unwrap();
    assert!(matches!(load(Some(&path), &Env::new()), Err(ConfigError::Budget(_))));
    std::fs::write(&path, text("13m")).unwrap();
    assert!(load(Some(&path), &Env::new()).is_ok());
}

#[test]
fn unknown_keys_are_refused_with_their_line() {
    for text in ["hots = 1", "[host]\nlisen = \"x\"", "[service.a]\nroot = \"/\"", "[timing]\nbak = \"1s\""] {
        let error = read_text(&format!("\n\n\n{text}"), &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Syntax { .. }), "{text}: {error:?}");
        assert_eq!(line(&error), 3 + text.lines().count(), "{text}");
    }
}

#[test]
fn f59_peers_are_several_hosts_of_which_this_is_one() {
    let peers = |list: &str| {
        read_text(&format!("[host]\nid = \"gpu-1\"\npeers = {list}\n[catalog]\nsource = \"file:/c\"\n"), &[])
    };
    let config = peers("[\"gpu-1=10.0.0.1:8080\", \"gpu-2=gpu-2.internal:8081\"]").unwrap();
    let known: Vec<_> = config.host.peers.iter().map(|peer| (peer.id.as_str(), peer.address.as_str())).collect();
    assert_eq!(known, [("gpu-1", "10.0.0.1:8080"), ("gpu-2", "gpu-2.internal:8081")]);
    assert!(peers("[]").unwrap().host.peers.is_empty());
    for (list, said) in [
        ("[\"gpu-2=10.0.0.2:8080\"]", "gpu-1 is missing"),
        ("[\"gpu-1=10.0.0.1:8080\", \"gpu-1=10.0.0.2:8080\"]", "gpu-1 comes twice"),
        ("[\"gpu-1=10.0.0.1:8080\", \"gpu-2=10.0.0.1:8080\"]", "10.0.0.1:8080 comes twice"),
        ("[\"gpu-1=10.0.0.1\"]", "no `id=address:port`"),
        ("[\"gpu-1\"]", "no `id=address:port`"),
        ("[\"gpu-1=:80\"]", "no `id=address:port`"),
    ] {
        let error = peers(list).unwrap_err();
        assert!(chain(&error).contains(said), "{list}: {}", chain(&error));
        assert_eq!(line(&error), 3, "{list}");
    }
}

#[test]
fn wrong_values_are_refused_with_their_line() {
    for text in [
        "[host]\nlisten = \"8080\"",
        "[host]\nadmin = \"127.0.0.1:1\"",
        "[host]\nstate_dir = \"relative\"",
        "[host]\nchild_ports = \"9-1\"",
        "[host]\nthreads = 0",
        "[host]\nstatus_allow = [\"everyone\"]",
        "[host]\ntrusted_proxies = [\"10.0.0.0/33\"]",
        "[service.a]\nroute = \"a\"",
        "[service.a]\nroute = \"/healthz/{version}\"",
        "[service.a]\nargs = [\"{prot}\"]",
        "[service.a]\nenv = { SUPERVISOR_NONCE = \"x\" }",
        "[service.a]\ninherit = [\"NOTIFY_SOCKET\"]",
        "[service.a]\nenv_file = \"/nonexistent/env\"",
        "[service.a]\nstart_estimate = \"4\"",
        "[service.a.rollout]\nmode = \"slow\"",
        "[service.a.rollout]\nwindow = \"Tue 09:00-16:00 CET\"",
        "[service.a.rollout]\njitter = 60",
        "[service.a.rollout]\nerror_rate = 5",
        "[service.a.rollout]\nerror_rate = \"5\"",
        "[service.a.rollout]\nerror_rate = \"0%\"",
        "[service.a.rollout]\nerror_rate = \"100.1%\"",
        "[service.a.rollout]\nerror_rate = \"0.05%\"",
        "[service.a.rollout]\nerror_rate = \"-5%\"",
        "[service.a.rollout]\nerror_rate = \".5%\"",
        "[service.a.rollout]\nerror_least = 0",
        "[service.a.rollout]\nerror_least = \"many\"",
        "[timing]\nhold_requests = 0",
        "[timing]\nhold_bytes = 1000",
        "[timing]\nhold_bytes = \"0MiB\"",
        "[timing]\nhold_bytes = \"99999999999GiB\"",
    ] {
        // `[host]` cannot be opened a second time: the required values stand elsewhere for these.
        let env = [("VERSIOND_HOST_ID", "h"), ("VERSIOND_CATALOG_SOURCE", "file:/c")];
        let error = read_text(&format!("\n\n{text}\n"), &env).unwrap_err();
        assert!(matches!(error, ConfigError::Value { .. }), "{text}: {error:?}");
        assert_eq!(line(&error), 4, "{text}");
    }
}

#[test]
fn a_rollout_is_automatic_unless_it_says_otherwise() {
    let rollout = |text: &str| {
        let config = with(&format!("[service.a]\n{text}")).unwrap();
        config.services[&ServiceName::new("a").unwrap()].rollout.clone()
    };
    let default = Rollout { mode: RolloutMode::Auto, window: None, jitter: Duration::from_secs(60), errors: None };
    assert_eq!(rollout(""), default);
    assert_eq!(
        rollout("rollout = { mode = \"staged\", window = \"Tue 09:00-16:00 UTC\", jitter = \"5s\" }"),
        Rollout {
            mode: RolloutMode::Staged,
            window: Some(Window::parse("Tue 09:00-16:00 UTC").unwrap()),
            jitter: Duration::from_secs(5),
            errors: None,
        }
    );
    assert_eq!(rollout("rollout.jitter = \"none\"").jitter, Duration::ZERO);
    assert_eq!(rollout("rollout.error_least = 5").errors, None, "without a rate it is off");
    for (text, permille, least) in [
        ("error_rate = \"5%\"", 50, 20),
        ("error_rate = \"0.5%\", error_least = 200", 5, 200),
        ("error_rate = \"100%\", error_least = \"1\"", 1_000, 1),
    ] {
        assert_eq!(rollout(&format!("rollout = {{ {text} }}")).errors, Some(ErrorRule { permille, least }), "{text}");
    }
    let error = with("[service.a.rollout]\nwindow = \"Tue 09:00-16:00 Europe/Berlin\"").unwrap_err();
    assert_eq!(
        chain(&error),
        "versiond.toml:5: service.a.rollout.window = \"Tue 09:00-16:00 Europe/Berlin\" is refused: \
         \"Europe/Berlin\" is not available: the only time zone is UTC"
    );
    assert!(matches!(with("[service.a.rollout]\nmod = \"auto\""), Err(ConfigError::Syntax { line: 5, .. })));
}

#[test]
fn the_environment_wins_and_upstream_s_names_are_aliases() {
    let text = "host.id = \"h\"\nhost.listen = \"0.0.0.0:1\"\ncatalog.source = \"file:/c\"\ncatalog.poll = \"5s\"\n";
    let config = read_text(
        text,
        &[
            ("VERSIOND_LISTEN", "127.0.0.1:2"),
            ("VERSIOND_ORACLE_URL", "https://o.example/versions"),
            ("VERSIOND_POLL_INTERVAL", "7s"),
            ("VERSIOND_BIN_DIR", "/opt/versiond/bin"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.host.listen.port(), 2);
    assert_eq!(config.catalog.source.to_string(), "https://o.example/versions");
    assert_eq!(config.catalog.poll, Duration::from_secs(7));
    assert_eq!(config.timing.catalog_poll, Duration::from_secs(7));
    let origin = |key: &str| &config.settings.iter().find(|setting| setting.key == key).unwrap().origin;
    assert_eq!(*origin("catalog.source"), Origin::Env("VERSIOND_ORACLE_URL".to_owned()));
    assert_eq!(*origin("host.metrics"), Origin::Default);
    assert_eq!(config.remarks.len(), 1, "{:?}", config.remarks);
    // Its own name wins over the alias.
    let both = [("VERSIOND_CATALOG_POLL", "1s"), ("VERSIOND_POLL_INTERVAL", "7s")];
    assert_eq!(read_text(text, &both).unwrap().catalog.poll, Duration::from_secs(1));
}

#[test]
fn the_environment_of_children_is_only_what_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    std::fs::write(&file, "# a comment\nA=file\nB=\"quoted value\"\n\nC=c=c\n").unwrap();
    let text = format!(
        "host.id = \"h\"\ncatalog.source = \"file:/c\"\n[service.a]\ninherit = [\"A\", \"D\", \"MISSING\"]\nenv_file = {:?}\nenv = {{ C = \"env\" }}\n",
        file
    );
    let config = read_text(&text, &[("A", "parent"), ("D", "parent"), ("SECRET", "s")]).unwrap();
    let environment = &config.services[&ServiceName::new("a").unwrap()].environment;
    let expected = [("A", "file"), ("B", "quoted value"), ("C", "env"), ("D", "parent")];
    let read: Vec<_> = environment.all.iter().map(|(name, value)| (name.as_str(), value.source())).collect();
    assert_eq!(read, expected);
    assert_eq!(environment.stated, ["C".to_owned()].into());
    assert!(config.settings.iter().all(|setting| !setting.value.contains("quoted")));
}

#[test]
fn one_service_is_the_catalog_s_default_and_routes_belong_to_one() {
    let config = with("[service.only]\nroute = \"/{version}\"").unwrap();
    assert_eq!(config.catalog.service, Some(ServiceName::new("only").unwrap()));
    let config = with("[service.a]\n[service.b]\n").unwrap();
    assert_eq!(config.catalog.service, None);
    let clash = with("[service.a]\nroute = \"/x\"\n[service.b]\nroute = \"/y\"\nroute_aliases = [\"/x\"]");
    assert!(matches!(clash, Err(ConfigError::Service { .. })), "{clash:?}");
}

#[test]
fn what_is_required_is_named() {
    let error = read_text("host.id = \"h\"\n", &[]).unwrap_err();
    assert!(matches!(error, ConfigError::Missing { key: "catalog.source", .. }), "{error:?}");
}

#[test]
fn the_default_host_id_hides_the_machine_id() {
    let machine = "3d1219c7c4c5404aaa1f6d2a48adfda4";
    let id = host::host_id_of(machine);
    assert_eq!(id.len(), 12);
    assert_eq!(id, host::host_id_of(machine));
    assert_ne!(id, host::host_id_of("3d1219c7c4c5404aaa1f6d2a48adfda5"));
    assert!(!machine.contains(&id));
}

#[test]
fn how_children_are_kept_apart_is_read_and_a_value_that_means_nothing_is_refused_with_its_line() {
    const SOURCE: &str = "catalog.source = \"file:/c\"";
    let text = "[service.a]\nuser = \"keeper\"\ncredentials = { k = \"/etc/k\", l = \"systemd:loaded\" }\n\
        [service.a.limits]\nmemory_max = \"2GiB\"\ncpu_max = \"150%\"\npids_max = 64\n";
    let config = read_text(&format!("{SOURCE}\n{text}"), &[]).unwrap();
    let isolation = &config.services.values().next().unwrap().isolation;
    assert_eq!((isolation.user.as_deref(), isolation.group.as_deref()), (Some("keeper"), None));
    let sources: Vec<String> = isolation.credentials.values().map(ToString::to_string).collect();
    assert_eq!(sources, ["/etc/k", "systemd:loaded"]);
    let limits = isolation.limits;
    assert_eq!((limits.memory_max, limits.cpu_max, limits.pids_max), (Some(2 << 30), Some(1_500), Some(64)));
    for wrong in [
        "user = \"a b\"",
        "credentials = { k = \"relative\" }",
        "credentials = { \"../k\" = \"/etc/k\" }",
        "limits.memory_max = \"2\"",
        "limits.cpu_max = 2",
        "limits.pids_max = 0",
    ] {
        let error = read_text(&format!("{SOURCE}\n[service.a]\n{wrong}\n"), &[]).unwrap_err();
        assert_eq!(line(&error), 3, "{wrong}: {error:?}");
    }
    assert!(
        read_text(&format!("{SOURCE}\n[service.a]\ngroup = \"keepers\"\n"), &[]).is_err(),
        "a group without a user"
    );
    let leaked = config.settings.iter().find(|setting| setting.key.contains("credentials.k")).unwrap();
    assert_eq!(leaked.value, "/etc/k");
}
