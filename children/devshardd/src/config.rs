//! What a session host is told, by its environment. Every complaint names the variable.

use std::path::{Path, PathBuf};
use std::time::Duration;

use children_kit::database::Options;
use children_kit::log::chain;
use children_kit::settings::{SettingError, Settings, invalid};
use devshard_core::auth::{Address, Key, KeyError};
use devshard_core::ids::Epoch;
use supervisor_sdk::StateKind;

use crate::engine::Engine;
use crate::engine::echo::Echo;
use crate::engine::openai::OpenAi;
use crate::escrows::Escrows;
use crate::storage::Fault;

const MODE: &str = "DEVSHARD_STORAGE_MODE";
const URL: &str = "DEVSHARD_DATABASE_URL";
const URL_FILE: &str = "DEVSHARD_DATABASE_URL_FILE";
const POOL: &str = "PG_POOL_MAX_CONNS";
const ENGINE: &str = "DEVSHARD_ENGINE";
const ECHO_EVERY: &str = "DEVSHARD_ECHO_EVERY";
const ECHO_JOURNAL: &str = "DEVSHARD_ECHO_JOURNAL";
const MODEL_WITHIN: &str = "DEVSHARD_MODEL_WITHIN";
const KEY_FILE: &str = "DEVSHARD_KEY_FILE";
const ESCROWS_FILE: &str = "DEVSHARD_ESCROWS_FILE";
const EPOCH: &str = "DEVSHARD_EPOCH";
const VALIDATION: &str = "DEVSHARD_VALIDATION";
const LEASE_TTL: &str = "DEVSHARD_VALIDATION_LEASE_TTL";
const RETRY: &str = "DEVSHARD_VALIDATION_RETRY_INTERVAL";
const KEEP_EPOCHS: &str = "DEVSHARD_KEEP_EPOCHS";
const PEERS: &str = "DEVSHARD_PEERS";
#[cfg(feature = "faults")]
const FAULT: &str = "DEVSHARD_FAULT";

/// How long one question to the database may take.
const QUESTION: Duration = Duration::from_secs(5);
/// How long a database is waited for at the start: the window of the supervisor is what ends it.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);
const CONNECTIONS: u32 = 4;

/// Where sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In a file of this host.
    Local,
    /// In Postgres, with others.
    Shared,
}

/// Whether inferences of other members are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    Off,
    /// The model is asked once more, and must say the same.
    Rerun,
}

/// Everything.
#[derive(Debug)]
pub struct Config {
    pub mode: Mode,
    pub database: Options,
    pub engine: Engine,
    pub within: Duration,
    pub key: Key,
    pub escrows: Escrows,
    pub validation: Validation,
    /// How long a check is believed to be under way.
    pub validation_ttl: Duration,
    /// Between two looks at what is to be checked in sessions that are silent.
    pub validation_every: Duration,
    /// Epochs that are kept; `None`: all.
    pub keep_epochs: Option<u64>,
    /// Other session hosts that must see the same database.
    pub peers: Vec<String>,
    pub fault: Fault,
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error("there is no folder for what is kept: --data-dir")]
    NoFolder,
    #[error("{KEY_FILE}: hosts that share a database have their key from a file")]
    NoKey,
    #[error("{name}: {path} does not hold a key")]
    Key {
        name: &'static str,
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    #[error("{path} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Mode {
    /// As it is set; `sqlite` and `postgres` are the upstream's words.
    pub fn of(settings: &Settings) -> Result<Mode, SettingError> {
        match settings.text(MODE).as_deref() {
            None | Some("local" | "sqlite") => Ok(Mode::Local),
            Some("shared" | "postgres") => Ok(Mode::Shared),
            Some(other) => Err(invalid(MODE, format!("local and shared are known: `{other}`"))),
        }
    }

    /// As the supervisor has it.
    #[must_use]
    pub const fn state(self) -> StateKind {
        match self {
            Mode::Local => StateKind::Local,
            Mode::Shared => StateKind::Shared,
        }
    }
}

impl Config {
    /// Reads it; what this host alone needs and nobody has set is kept in `data_dir`.
    pub fn of(settings: &Settings, data_dir: Option<&Path>) -> Result<Config, ConfigError> {
        let mode = Mode::of(settings)?;
        let url = match settings.file(URL_FILE)?.or_else(|| settings.text(URL)) {
            Some(url) => url,
            // The rest is in PGHOST, PGUSER and their like.
            None if mode == Mode::Shared => "postgres://".to_owned(),
            None => {
                let file = data_dir.ok_or(ConfigError::NoFolder)?.join("devshard.db");
                format!("sqlite:{}?mode=rwc", file.display())
            }
        };
        let fits = url.starts_with("postgres") == (mode == Mode::Shared);
        if !fits {
            return Err(invalid(URL, format!("not a database of {MODE}")).into());
        }
        let connections = settings.value(POOL)?.unwrap_or(CONNECTIONS).max(1);
        let key = key(settings, mode, data_dir)?;
        let me = key.address().ok_or(ConfigError::Key { name: KEY_FILE, path: PathBuf::new(), source: KeyError })?;
        Ok(Config {
            mode,
            database: Options { url, connections, within: QUESTION, patience: PATIENCE },
            engine: engine(settings)?,
            within: settings.duration(MODEL_WITHIN)?.unwrap_or(Duration::from_secs(600)),
            escrows: escrows(settings, &me)?,
            key,
            validation: validation(settings)?,
            validation_ttl: settings.duration(LEASE_TTL)?.unwrap_or(Duration::from_secs(1_800)),
            validation_every: settings.duration(RETRY)?.unwrap_or(Duration::from_secs(300)),
            keep_epochs: keep_epochs(settings)?,
            peers: settings.text(PEERS).map(|text| words(&text)).unwrap_or_default(),
            fault: fault(settings)?,
        })
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn engine(settings: &Settings) -> Result<Engine, SettingError> {
    match settings.text(ENGINE).as_deref() {
        None | Some("echo") => {
            let every = settings.duration(ECHO_EVERY)?.unwrap_or(Duration::from_millis(20));
            let journal = settings.text(ECHO_JOURNAL).map(PathBuf::from);
            let echo = Echo::new(every, journal).map_err(|error| invalid(ECHO_JOURNAL, error.to_string()))?;
            Ok(Engine::Echo(echo))
        }
        Some(url) => OpenAi::new(url)
            .map(Engine::OpenAi)
            .map_err(|error| invalid(ENGINE, format!("`echo`, or {error}: `{url}`"))),
    }
}

fn escrows(settings: &Settings, me: &Address) -> Result<Escrows, SettingError> {
    match settings.file(ESCROWS_FILE)? {
        Some(text) => Escrows::read(&text, me).map_err(|error| invalid(ESCROWS_FILE, chain(&error))),
        None => Ok(Escrows::FirstSigner { epoch: Epoch(settings.value(EPOCH)?.unwrap_or(0)) }),
    }
}

fn keep_epochs(settings: &Settings) -> Result<Option<u64>, SettingError> {
    match settings.value(KEEP_EPOCHS)? {
        Some(0) => Err(invalid(KEEP_EPOCHS, "one is kept at least".to_owned())),
        kept => Ok(kept),
    }
}

fn validation(settings: &Settings) -> Result<Validation, SettingError> {
    match settings.text(VALIDATION).as_deref() {
        None | Some("off") => Ok(Validation::Off),
        Some("rerun") => Ok(Validation::Rerun),
        Some(other) => Err(invalid(VALIDATION, format!("off and rerun are known: `{other}`"))),
    }
}

/// The key of this host. One that is alone makes its own.
fn key(settings: &Settings, mode: Mode, data_dir: Option<&Path>) -> Result<Key, ConfigError> {
    if let Some(text) = settings.file(KEY_FILE)? {
        let path = settings.text(KEY_FILE).map(PathBuf::from).unwrap_or_default();
        return Key::from_hex(&text).map_err(|source| ConfigError::Key { name: KEY_FILE, path, source });
    }
    if mode == Mode::Shared {
        return Err(ConfigError::NoKey);
    }
    let path = data_dir.ok_or(ConfigError::NoFolder)?.join("host.key");
    match std::fs::read_to_string(&path) {
        Ok(text) => Key::from_hex(&text).map_err(|source| ConfigError::Key { name: KEY_FILE, path, source }),
        Err(_) => {
            let key = loop {
                // Of 2^256 numbers a few are no key.
                if let Ok(key) = Key::from_bytes(&rand::random()) {
                    break key;
                }
            };
            let written = write_secret(&path, &key.to_hex());
            written.map_err(|source| ConfigError::Write { path, source })?;
            Ok(key)
        }
    }
}

fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(not(feature = "faults"))]
#[allow(clippy::unnecessary_wraps, reason = "with faults it can fail")]
fn fault(_: &Settings) -> Result<Fault, SettingError> {
    Ok(Fault::None)
}

#[cfg(feature = "faults")]
fn fault(settings: &Settings) -> Result<Fault, SettingError> {
    match settings.text(FAULT).as_deref() {
        None => Ok(Fault::None),
        Some("no-claim") => Ok(Fault::NoClaim),
        Some(other) => Err(invalid(FAULT, format!("no-claim is known: `{other}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &'static [(&str, &str)], folder: &Path) -> Result<Config, String> {
        let settings = Settings::new(move |name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        });
        Config::of(&settings, Some(folder)).map_err(|error| error.to_string())
    }

    #[test]
    fn alone_it_needs_nothing_but_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let config = of(&[], folder.path()).unwrap();
        assert_eq!(config.mode, Mode::Local);
        assert!(config.database.url.starts_with("sqlite:"), "{}", config.database.url);
        // The key that it makes stays, and is nobody else's to read.
        let again = of(&[], folder.path()).unwrap();
        assert_eq!(config.key.address(), again.key.address());
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(folder.path().join("host.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for (pairs, expected) in [
            (&[("DEVSHARD_STORAGE_MODE", "hybrid")][..], "DEVSHARD_STORAGE_MODE: local and shared are known: `hybrid`"),
            (
                &[("DEVSHARD_STORAGE_MODE", "shared")],
                "DEVSHARD_KEY_FILE: hosts that share a database have their key from a file",
            ),
            (
                &[("DEVSHARD_DATABASE_URL", "postgres://x")],
                "DEVSHARD_DATABASE_URL: not a database of DEVSHARD_STORAGE_MODE",
            ),
            (&[("DEVSHARD_ENGINE", "vllm")], "DEVSHARD_ENGINE: `echo`, or not a URL of an endpoint: `vllm`"),
            (&[("DEVSHARD_ECHO_EVERY", "20")], "DEVSHARD_ECHO_EVERY: a length of time needs its unit, as in 30s: `20`"),
            (&[("DEVSHARD_KEEP_EPOCHS", "0")], "DEVSHARD_KEEP_EPOCHS: one is kept at least"),
            (&[("DEVSHARD_VALIDATION", "maybe")], "DEVSHARD_VALIDATION: off and rerun are known: `maybe`"),
            (&[("PG_POOL_MAX_CONNS", "many")], "PG_POOL_MAX_CONNS: invalid digit found in string: `many`"),
        ] {
            assert_eq!(of(pairs, folder.path()).map(drop), Err(expected.to_owned()));
        }
    }
}
