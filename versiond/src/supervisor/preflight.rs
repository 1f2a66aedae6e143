//! What a build is, found out before anything that serves is touched: by `--describe`, by the flags of the older
//! contract, or by the configuration that stands in for a program that knows of neither.
//!
//! Everything but a plain "I do not know this flag" fails closed, and is asked again later. Must not live here:
//! what follows from the facts (that is `versiond-core`).

use std::sync::Arc;
use std::time::Duration;

use supervisor_protocol::contract::{Describe, Listen, Role, StateKind};
use supervisor_protocol::{ServiceName, SlotId, VersionName};
use versiond_core::generation::Facts;

use crate::config::{Contract, Handed};
use crate::process::oneshot::{self, Answer, DescribeError, OneshotError};
use crate::process::{Sealed, Spawner};
use crate::supervisor::ServiceSpec;

/// How a child is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// By its admin socket.
    V1,
    /// By a port: a second one, or without an admin API the one that serves.
    Older { admin_api: bool },
    /// Not at all.
    None,
}

/// A build that may be started: its bytes, and how its life is to be.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    pub(crate) sealed: Arc<Sealed>,
    pub(crate) spoken: Spoken,
    /// The socket on which it serves, where that is bound before its start and handed over to it.
    pub(crate) handed: Option<Handed>,
    /// As it was when the build was looked at.
    pub(crate) spec: Arc<ServiceSpec>,
}

/// What came of the question what a build is.
pub(crate) struct Found {
    pub(crate) facts: Facts,
    pub(crate) build: Build,
    pub(crate) schema: Schema,
}

/// What a build has done for the schema of a database that several hosts share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schema {
    /// It is up to date for it.
    Done,
    /// It is too old to know the step.
    Unknown,
    /// There is none, or its children see to it.
    Apart,
}

/// Why a build may not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PreflightError {
    #[error("--describe")]
    Describe(#[source] DescribeError),
    #[error("{flag}")]
    Older {
        flag: &'static str,
        #[source]
        source: OneshotError,
    },
    #[error("it calls itself {found:?}; the service is {service}")]
    OtherName { found: String, service: ServiceName },
    #[error("it speaks protocol {found:?}; the slot is {slot}")]
    OtherProtocol { found: String, slot: VersionName },
    #[error("its admin API is {found:?}; 1 is known here")]
    OtherAdminApi { found: String },
    #[error("its storage mode is {found:?}; postgres, sqlite and hybrid are known here")]
    OtherStorage { found: String },
    #[error("several hosts share one database here, and it {found}")]
    NotShared { found: String },
    #[error("it is to listen on a Unix socket, and does not say that it can")]
    NoUnixSocket,
}

impl PreflightError {
    /// Whether the build was asked, and is not what may run here: asked again it would say the same.
    pub(crate) fn is_verdict(&self) -> bool {
        match self {
            PreflightError::OtherName { .. }
            | PreflightError::OtherProtocol { .. }
            | PreflightError::OtherAdminApi { .. }
            | PreflightError::OtherStorage { .. }
            | PreflightError::NotShared { .. }
            | PreflightError::NoUnixSocket => true,
            PreflightError::Describe(_) | PreflightError::Older { .. } => false,
        }
    }
}

const BINARY: &str = "--print-binary-version";
const PROTOCOL: &str = "--print-protocol-version";
const ADMIN_API: &str = "--print-admin-api-version";
const STORAGE: &str = "--print-storage-mode";
const SCHEMA: &str = "--initialize-postgres-schema";

/// The one admin API of older children.
const KNOWN_API: &str = "1";
/// How long a build may take to bring the schema of a database up to date: unlike a question, work.
const SCHEMA_WITHIN: Duration = Duration::from_secs(60);

/// Asks a build what it is.
pub(crate) async fn ask(
    spawner: &Spawner,
    slot: &SlotId,
    sealed: Arc<Sealed>,
    spec: Arc<ServiceSpec>,
) -> Result<Found, PreflightError> {
    let mut handed = spec.handed;
    let mut described = |described: Describe| {
        let takes = |way| described.role == Role::Server && described.listen.contains(&way);
        if spec.handed == Some(Handed::Unix) && !takes(Listen::Unix) {
            return Err(PreflightError::NoUnixSocket);
        }
        if handed.is_none() && takes(Listen::Fd) {
            handed = Some(Handed::Tcp);
        }
        Ok((of_described(described, &spec), Spoken::V1, Schema::Apart))
    };
    let (facts, spoken, schema) = match spec.contract {
        Contract::V1 => {
            let answer = describe(spawner, &sealed, &question_env(&spec, &slot.name)).await?;
            if answer.name != slot.service.as_str() {
                return Err(PreflightError::OtherName { found: answer.name, service: slot.service.clone() });
            }
            described(answer)?
        }
        Contract::Older => older(spawner, slot, &sealed, &spec).await?,
        Contract::None => (of_none(&slot.name, &spec), Spoken::None, Schema::Apart),
        Contract::Auto => match oneshot::describe(spawner, &sealed, &question_env(&spec, &slot.name)).await {
            Ok(answer) => described(answer)?,
            Err(DescribeError::Unsupported) => {
                let env = question_env(&spec, &slot.name);
                match questions(spawner, &sealed, &env).await? {
                    answers if answers.is_silent() => (of_none(&slot.name, &spec), Spoken::None, Schema::Apart),
                    answers => judged(spawner, slot, &sealed, &spec, &answers).await?,
                }
            }
            Err(error) => return Err(PreflightError::Describe(error)),
        },
    };
    Ok(Found { facts, build: Build { sealed, spoken, handed, spec }, schema })
}

async fn describe(
    spawner: &Spawner,
    sealed: &Arc<Sealed>,
    env: &[(String, String)],
) -> Result<Describe, PreflightError> {
    oneshot::describe(spawner, sealed, env).await.map_err(PreflightError::Describe)
}

fn of_described(described: Describe, spec: &ServiceSpec) -> Facts {
    Facts {
        binary_version: described.version,
        role: described.role,
        state: described.state,
        undrain: described.undrain,
        data: described.data,
        exclusive: described.needs.gpu_memory_mib > 0 || !spec.stand_in.gpu.is_empty(),
    }
}

/// A program that knows of no supervisor: its version is the slot's name, its state what the configuration says,
/// and where that says nothing the most careful.
fn of_none(slot: &VersionName, spec: &ServiceSpec) -> Facts {
    Facts {
        binary_version: slot.to_string(),
        role: spec.role(),
        state: spec.stand_in.state.unwrap_or(StateKind::Local),
        // It is told nothing of a drain, so that there is nothing to take back.
        undrain: spec.stand_in.undrain.unwrap_or(false),
        data: spec.stand_in.data,
        exclusive: !spec.stand_in.gpu.is_empty(),
    }
}

/// What an older child answers; `None` = it does not know the flag.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Answers {
    binary: Option<String>,
    protocol: Option<String>,
    admin_api: Option<String>,
    storage: Option<String>,
}

impl Answers {
    fn is_silent(&self) -> bool {
        *self == Answers::default()
    }
}

async fn older(
    spawner: &Spawner,
    slot: &SlotId,
    sealed: &Arc<Sealed>,
    spec: &ServiceSpec,
) -> Result<(Facts, Spoken, Schema), PreflightError> {
    let answers = questions(spawner, sealed, &question_env(spec, &slot.name)).await?;
    judged(spawner, slot, sealed, spec, &answers).await
}

async fn questions(
    spawner: &Spawner,
    sealed: &Arc<Sealed>,
    env: &[(String, String)],
) -> Result<Answers, PreflightError> {
    let ask = async |flag: &'static str| match oneshot::ask(spawner, sealed, flag, env).await {
        Ok(Answer::Said(line)) => Ok(Some(line)),
        Ok(Answer::Unsupported) => Ok(None),
        Err(source) => Err(PreflightError::Older { flag, source }),
    };
    Ok(Answers {
        binary: ask(BINARY).await?,
        protocol: ask(PROTOCOL).await?,
        admin_api: ask(ADMIN_API).await?,
        storage: ask(STORAGE).await?,
    })
}

async fn judged(
    spawner: &Spawner,
    slot: &SlotId,
    sealed: &Arc<Sealed>,
    spec: &ServiceSpec,
    answers: &Answers,
) -> Result<(Facts, Spoken, Schema), PreflightError> {
    let is_ha = spec.is_ha(&slot.name);
    let (facts, spoken) = judge(&slot.name, answers, spec, is_ha)?;
    if !is_ha {
        return Ok((facts, spoken, Schema::Apart));
    }
    // Its children reach the database with the whole environment, and so does this.
    let env = fixed_env(spec, &slot.name, |_| true);
    let knows = oneshot::act(spawner, sealed, SCHEMA, &env, SCHEMA_WITHIN).await;
    let knows = knows.map_err(|source| PreflightError::Older { flag: SCHEMA, source })?;
    Ok((facts, spoken, if knows { Schema::Done } else { Schema::Unknown }))
}

/// What the answers say. Pure.
fn judge(
    slot: &VersionName,
    answers: &Answers,
    spec: &ServiceSpec,
    is_ha: bool,
) -> Result<(Facts, Spoken), PreflightError> {
    if let Some(found) = answers.protocol.clone().filter(|found| found != slot.as_str()) {
        return Err(PreflightError::OtherProtocol { found, slot: slot.clone() });
    }
    let admin_api = match &answers.admin_api {
        None => false,
        Some(known) if known == KNOWN_API => true,
        Some(found) => return Err(PreflightError::OtherAdminApi { found: found.clone() }),
    };
    let state = match answers.storage.as_deref() {
        Some("postgres") => Some(StateKind::Shared),
        Some("sqlite" | "hybrid") => Some(StateKind::Local),
        Some(found) => return Err(PreflightError::OtherStorage { found: found.to_owned() }),
        None => None,
    };
    if is_ha && state != Some(StateKind::Shared) {
        let found = match &answers.storage {
            Some(mode) => format!("keeps its state in {mode}"),
            None => "cannot say where it keeps its state".to_owned(),
        };
        return Err(PreflightError::NotShared { found });
    }
    let facts = Facts {
        binary_version: answers.binary.clone().unwrap_or_else(|| slot.to_string()),
        role: spec.role(),
        state: state.or(spec.stand_in.state).unwrap_or(StateKind::Local),
        // The older contract has no way to take a drain back.
        undrain: false,
        data: spec.stand_in.data,
        exclusive: !spec.stand_in.gpu.is_empty(),
    };
    Ok((facts, Spoken::Older { admin_api }))
}

/// What a question is asked with: what stands in the configuration itself, and so is no secret. Without it a build
/// could not say where it will keep its state.
fn question_env(spec: &ServiceSpec, slot: &VersionName) -> Vec<(String, String)> {
    fixed_env(spec, slot, |name| spec.environment.stated.contains(name))
}

fn fixed_env(spec: &ServiceSpec, slot: &VersionName, with: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let fixed = spec.environment.all.iter().filter(|(name, value)| value.is_fixed() && with(name));
    let filling = crate::config::Filling {
        port: 0,
        data_dir: std::path::Path::new(""),
        version: slot.as_str(),
        generation: 0,
        files: std::path::Path::new(""),
    };
    let mut env: Vec<_> = fixed.map(|(name, value)| (name.clone(), value.fill(&filling))).collect();
    env.push(ha(spec, slot));
    env
}

/// How an older child is told whether several hosts share its database.
pub(crate) fn ha(spec: &ServiceSpec, slot: &VersionName) -> (String, String) {
    ("GONKA_HA".to_owned(), spec.is_ha(slot).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Env};

    /// The service that `text` describes.
    fn spec(text: &str) -> ServiceSpec {
        let folder = tempfile::tempdir().unwrap();
        let file = camino::Utf8PathBuf::from_path_buf(folder.path().join("versiond.toml")).unwrap();
        let text =
            format!("host.id = \"h\"\ncatalog.source = \"file:/c\"\n[service.a]\nroute = \"/a/{{version}}\"\n{text}");
        std::fs::write(&file, text).unwrap();
        let config = config::read(Some(&file), &Env::new()).unwrap();
        ServiceSpec::new(config.services.values().next().unwrap(), &config.host, None)
    }

    fn said(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn slot() -> VersionName {
        VersionName::new("v1").unwrap()
    }

    #[test]
    fn an_older_child_is_what_it_says_and_else_the_most_careful() {
        let spec = spec("contract = \"older\"\n");
        let full = Answers {
            binary: said("0.2.13-rc1"),
            protocol: said("v1"),
            admin_api: said("1"),
            storage: said("postgres"),
        };
        let (facts, spoken) = judge(&slot(), &full, &spec, false).unwrap();
        assert_eq!(spoken, Spoken::Older { admin_api: true });
        assert_eq!((facts.binary_version.as_str(), facts.state), ("0.2.13-rc1", StateKind::Shared));
        assert_eq!((facts.role, facts.undrain), (Role::Server, false));
        let (facts, spoken) = judge(&slot(), &Answers::default(), &spec, false).unwrap();
        assert_eq!(spoken, Spoken::Older { admin_api: false });
        assert_eq!((facts.binary_version.as_str(), facts.state), ("v1", StateKind::Local));
        for mode in ["sqlite", "hybrid"] {
            let answers = Answers { storage: said(mode), ..full.clone() };
            assert_eq!(judge(&slot(), &answers, &spec, false).unwrap().0.state, StateKind::Local, "{mode}");
        }
    }

    /// F08, F09: what an older child says is believed, what it cannot say is the configuration's to say.
    #[test]
    fn f08_f09_an_answer_that_is_not_understood_or_does_not_fit_is_refused() {
        let spec = spec("contract = \"older\"\nstate = \"shared\"\n");
        let judge = |answers: Answers, is_ha| judge(&slot(), &answers, &spec, is_ha);
        let only = Answers::default;
        assert_eq!(judge(only(), false).unwrap().0.state, StateKind::Shared);
        assert_eq!(judge(Answers { storage: said("sqlite"), ..only() }, false).unwrap().0.state, StateKind::Local);
        let refused = |answers, is_ha| judge(answers, is_ha).unwrap_err();
        use PreflightError as E;
        assert!(matches!(refused(Answers { protocol: said("v2"), ..only() }, false), E::OtherProtocol { .. }));
        assert!(matches!(refused(Answers { admin_api: said("2"), ..only() }, false), E::OtherAdminApi { .. }));
        assert!(matches!(refused(Answers { storage: said("redis"), ..only() }, false), E::OtherStorage { .. }));
        // With one database for several hosts, the configuration's word is not enough.
        assert!(matches!(refused(only(), true), E::NotShared { .. }));
        assert!(matches!(refused(Answers { storage: said("hybrid"), ..only() }, true), E::NotShared { .. }));
        assert!(judge(Answers { storage: said("postgres"), ..only() }, true).is_ok());
    }

    #[test]
    fn a_program_that_knows_of_no_supervisor_is_what_the_configuration_says() {
        let facts = of_none(&slot(), &spec("contract = \"none\"\n"));
        assert_eq!((facts.binary_version.as_str(), facts.state), ("v1", StateKind::Local));
        assert_eq!((facts.role, facts.undrain, facts.exclusive), (Role::Server, false, false));
        let said = "contract = \"none\"\nstate = \"none\"\nundrain = true\ngpu = [\"0\"]\ndata = { reads = [3, 5], writes = 5 }\n";
        let facts = of_none(&slot(), &spec(said));
        assert_eq!((facts.state, facts.undrain, facts.exclusive), (StateKind::None, true, true));
        assert_eq!(facts.data.map(|data| (data.reads, data.writes)), Some(([3, 5], 5)));
    }

    /// F42: what comes from elsewhere than the configuration may be a secret, and is asked nothing with.
    #[test]
    fn f42_a_question_is_asked_without_what_may_be_secret() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join("env");
        std::fs::write(&secrets, "PGPASSWORD=hunter2\nMODE=file\n").unwrap();
        let spec = spec(&format!(
            "contract = \"older\"\nenv_file = {secrets:?}\nenv = {{ PGHOST = \"db\", AT = \"{{port}}\" }}\nha = true\nnon_ha_versions = \"v0\"\n"
        ));
        let names = |env: Vec<(String, String)>| env.into_iter().map(|(name, value)| format!("{name}={value}"));
        let asked: Vec<String> = names(question_env(&spec, &slot())).collect();
        assert_eq!(asked, ["PGHOST=db", "GONKA_HA=true"]);
        let works: Vec<String> = names(fixed_env(&spec, &VersionName::new("v0").unwrap(), |_| true)).collect();
        assert_eq!(works, ["MODE=file", "PGHOST=db", "PGPASSWORD=hunter2", "GONKA_HA=false"]);
    }
}
