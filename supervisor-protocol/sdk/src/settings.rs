//! What a child is told: its command line and its environment, read without touching either. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use supervisor_protocol::time::{DurationError, parse_duration};
use supervisor_protocol::{Generation, NameError, Nonce, ServiceName, VersionName, env};

/// How long the child may take after its stop signal when nobody says.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(600);

/// A flag of the child's own that takes a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) value: &'static str,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Describe,
    Drain(Drain),
    Run(Box<Run>),
}

/// `--drain [--wait]`: a message to the child that already runs here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    pub(crate) admin: PathBuf,
    pub(crate) wait: bool,
    pub(crate) timeout: Option<Duration>,
}

/// How to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) address: IpAddr,
    pub(crate) port: Option<u16>,
    /// To which process a listening socket was handed over: this one, or one that is none of our business.
    pub(crate) listen_pid: Option<u32>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) flags: BTreeMap<&'static str, String>,
    pub(crate) identity: Identity,
    pub(crate) supervised: bool,
    pub(crate) admin: Option<PathBuf>,
    pub(crate) grace: Duration,
    pub(crate) probe: Option<SocketAddr>,
}

/// Who this child is to its supervisor. Everything is absent without one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    pub service: Option<ServiceName>,
    /// The slot's version name.
    pub version: Option<VersionName>,
    pub generation: Option<Generation>,
    /// Echoed by `GET /ready`.
    pub nonce: Option<Nonce>,
}

/// Why the command line or the environment was refused. The exit code is 64.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum UsageError {
    #[error("unknown flag `{0}`")]
    UnknownFlag(String),
    #[error("unexpected argument `{0}`")]
    Argument(String),
    #[error("`{0}` needs a value")]
    MissingValue(String),
    #[error("`{0}` takes no value")]
    NoValue(&'static str),
    #[error("`{flag} {value}` is not {expected}")]
    Value { flag: String, value: String, expected: &'static str },
    #[error("`--port` is missing")]
    NoPort,
    #[error("`--drain` needs `--admin PATH`, or {} in the environment", env::ADMIN)]
    NoAdmin,
    #[error("`{0}` belongs with `--drain`")]
    OnlyWithDrain(&'static str),
    #[error("{0}: `{1}` is not a number")]
    Number(&'static str, String),
    #[error("{0}: `{1}` is not an address with a port")]
    Address(&'static str, String),
    #[error("{0}")]
    Name(&'static str, #[source] NameError),
    #[error("{0}")]
    Duration(&'static str, #[source] DurationError),
}

/// Reads the command line (without the program's name) and the environment.
/// `needs_port`: whether running without `--port` is a mistake.
pub(crate) fn parse(
    args: impl IntoIterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
    flags: &[Flag],
    needs_port: bool,
) -> Result<Command, UsageError> {
    let given = Given::read(args, flags)?;
    if given.help {
        return Ok(Command::Help);
    }
    if given.describe {
        return Ok(Command::Describe);
    }
    let admin = given.admin.or_else(|| env(env::ADMIN)).filter(|path| !path.is_empty()).map(PathBuf::from);
    if given.drain {
        let admin = admin.ok_or(UsageError::NoAdmin)?;
        return Ok(Command::Drain(Drain { admin, wait: given.wait, timeout: given.timeout }));
    }
    if given.wait {
        return Err(UsageError::OnlyWithDrain("--wait"));
    }
    if given.timeout.is_some() {
        return Err(UsageError::OnlyWithDrain("--timeout"));
    }
    if needs_port && given.port.is_none() {
        return Err(UsageError::NoPort);
    }
    let name = |what: &'static str| move |source| UsageError::Name(what, source);
    let identity = Identity {
        service: env(env::SERVICE).map(ServiceName::new).transpose().map_err(name(env::SERVICE))?,
        version: env(env::VERSION).map(VersionName::new).transpose().map_err(name(env::VERSION))?,
        generation: env(env::GENERATION)
            .map(|text| text.parse().map(Generation).map_err(|_| UsageError::Number(env::GENERATION, text)))
            .transpose()?,
        nonce: env(env::NONCE).map(Nonce::new).transpose().map_err(name(env::NONCE))?,
    };
    let grace = env(env::SHUTDOWN_GRACE).map(|text| parse_duration(&text)).transpose();
    let probe = env(env::PROBE_ADDR)
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|_| UsageError::Address(env::PROBE_ADDR, text)))
        .transpose()?;
    Ok(Command::Run(Box::new(Run {
        address: given.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port: given.port,
        listen_pid: env(env::LISTEN_PID).and_then(|pid| pid.parse().ok()),
        data_dir: given.data_dir.or_else(|| env(env::DATA_DIR)).filter(|path| !path.is_empty()).map(PathBuf::from),
        flags: given.own,
        identity,
        supervised: env(env::CONTRACT).is_some(),
        admin,
        grace: grace.map_err(|source| UsageError::Duration(env::SHUTDOWN_GRACE, source))?.unwrap_or(DEFAULT_GRACE),
        probe,
    })))
}

/// The manual in a few lines.
pub(crate) fn usage(program: &str, flags: &[Flag]) -> String {
    let own: String = flags.iter().map(|flag| format!(" [{} {}]", flag.name, flag.value)).collect();
    format!(
        "usage: {program} --port N [--data-dir PATH] [--address IP] [--admin SOCKET]{own}\n       \
         {program} --describe\n       \
         {program} --drain [--wait [--timeout 90s]] [--admin SOCKET]\n"
    )
}

#[derive(Default)]
struct Given {
    help: bool,
    describe: bool,
    drain: bool,
    wait: bool,
    timeout: Option<Duration>,
    admin: Option<String>,
    address: Option<IpAddr>,
    port: Option<u16>,
    data_dir: Option<String>,
    own: BTreeMap<&'static str, String>,
}

impl Given {
    fn read(args: impl IntoIterator<Item = String>, flags: &[Flag]) -> Result<Self, UsageError> {
        let mut given = Given::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if !arg.starts_with("--") || arg.len() == 2 {
                return Err(if arg.starts_with('-') {
                    UsageError::UnknownFlag(arg)
                } else {
                    UsageError::Argument(arg)
                });
            }
            let (flag, inline) = match arg.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (arg, None),
            };
            let switch = |name: &'static str| if inline.is_some() { Err(UsageError::NoValue(name)) } else { Ok(true) };
            let mut value =
                || inline.clone().or_else(|| args.next()).ok_or_else(|| UsageError::MissingValue(flag.clone()));
            let bad = |value: String, expected| UsageError::Value { flag: flag.clone(), value, expected };
            match flag.as_str() {
                "--help" => given.help = switch("--help")?,
                "--describe" => given.describe = switch("--describe")?,
                "--drain" => given.drain = switch("--drain")?,
                "--wait" => given.wait = switch("--wait")?,
                "--timeout" => {
                    let text = value()?;
                    given.timeout = Some(parse_duration(&text).map_err(|_| bad(text, "a duration with unit"))?);
                }
                "--admin" => given.admin = Some(value()?),
                "--address" => {
                    let text = value()?;
                    given.address = Some(text.parse().map_err(|_| bad(text, "an IP address"))?);
                }
                "--port" => {
                    let text = value()?;
                    given.port = Some(text.parse().map_err(|_| bad(text, "a port"))?);
                }
                "--data-dir" => given.data_dir = Some(value()?),
                _ => match flags.iter().find(|known| known.name == flag) {
                    Some(known) => {
                        given.own.insert(known.name, value()?);
                    }
                    None => return Err(UsageError::UnknownFlag(flag)),
                },
            }
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[Flag { name: "--ready-after", value: "MS" }];

    fn read(args: &str, env: &[(&str, &str)]) -> Result<Command, UsageError> {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        parse(args.split_whitespace().map(str::to_owned), env, FLAGS, true)
    }

    #[test]
    fn a_supervised_start_is_read_from_both_places() {
        let env = [
            (env::CONTRACT, "1"),
            (env::VERSION, "v1"),
            (env::GENERATION, "7"),
            (env::NONCE, "abc"),
            (env::ADMIN, "/run/a.sock"),
            (env::SHUTDOWN_GRACE, "90s"),
        ];
        let Ok(Command::Run(run)) = read("--port 20001 --data-dir=/d --ready-after 5", &env) else { panic!() };
        assert_eq!((run.port, run.address.to_string().as_str()), (Some(20001), "127.0.0.1"));
        assert_eq!(run.identity.generation, Some(Generation(7)));
        assert_eq!(run.grace, Duration::from_secs(90));
        assert_eq!(run.data_dir, Some("/d".into()));
        assert_eq!(run.flags["--ready-after"], "5");
        assert!(run.supervised && run.admin.is_some() && run.probe.is_none());
    }

    #[test]
    fn f36_a_mistake_is_refused_and_named_and_has_no_default() {
        let unknown = UsageError::UnknownFlag("--print-binary-version".to_owned());
        assert_eq!(read("--print-binary-version", &[]), Err(unknown));
        assert_eq!(read("", &[]), Err(UsageError::NoPort));
        assert_eq!(read("--port", &[]), Err(UsageError::MissingValue("--port".to_owned())));
        assert!(matches!(read("--port 70000", &[]), Err(UsageError::Value { .. })));
        assert_eq!(read("--port 1 --wait", &[]), Err(UsageError::OnlyWithDrain("--wait")));
        assert_eq!(read("--drain --wait", &[]), Err(UsageError::NoAdmin));
        assert_eq!(read("--describe=yes", &[]), Err(UsageError::NoValue("--describe")));
        for (grace, why) in [("600", DurationError::Unit), ("0s", DurationError::Zero)] {
            let refused = read("--port 1", &[(env::SHUTDOWN_GRACE, grace)]);
            assert_eq!(refused, Err(UsageError::Duration(env::SHUTDOWN_GRACE, why)));
        }
        assert!(matches!(read("--port 1", &[(env::NONCE, "a b")]), Err(UsageError::Name(..))));
        assert!(matches!(read("--port 1", &[(env::PROBE_ADDR, "9090")]), Err(UsageError::Address(..))));
    }

    #[test]
    fn a_drain_speaks_to_the_socket_it_is_told_or_given() {
        let expected = |path: &str| Command::Drain(Drain { admin: path.into(), wait: true, timeout: None });
        assert_eq!(read("--drain --wait --admin /a", &[(env::ADMIN, "/b")]), Ok(expected("/a")));
        assert_eq!(read("--drain --wait", &[(env::ADMIN, "/b")]), Ok(expected("/b")));
    }
}
