//! How the children of a service are kept apart: `user`, `group`, `credentials`, `limits`.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use supervisor_protocol::ServiceName;
use toml::Spanned;

use super::setting::{Scalar, Source};
use super::{ConfigError, file, host};
use crate::process::cgroup::Limits;

/// How the children of a service are kept apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IsolationConfig {
    /// Under whom they run; else as versiond itself.
    pub user: Option<String>,
    /// Their first group, when it is not the user's own.
    pub group: Option<String>,
    /// Files that they alone can read, by name.
    pub credentials: BTreeMap<String, CredentialSource>,
    pub limits: Limits,
}

/// Where a credential is read, at each start of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    File(Utf8PathBuf),
    /// What systemd has loaded for versiond under this name (`LoadCredential=`).
    Systemd(String),
}

impl std::fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CredentialSource::File(path) => write!(f, "{path}"),
            CredentialSource::Systemd(name) => write!(f, "{SYSTEMD}{name}"),
        }
    }
}

/// Why a value was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum IsolationError {
    #[error("the name or the number of a user or a group")]
    Account,
    #[error("a credential's name has letters, digits, '_', '-' and '.', and begins with none of the last two")]
    CredentialName,
    #[error("an absolute path, or `{SYSTEMD}NAME` for one that systemd has loaded")]
    CredentialSource,
    #[error("a whole percentage of one processor above zero, as in `150%`")]
    Cpu,
    #[error("a whole number above zero")]
    Count,
}

/// What the file says of it.
pub(super) struct File {
    pub(super) user: Option<Spanned<Scalar>>,
    pub(super) group: Option<Spanned<Scalar>>,
    pub(super) credentials: BTreeMap<String, Spanned<Scalar>>,
    pub(super) limits: file::Limits,
}

const SYSTEMD: &str = "systemd:";

pub(super) fn isolation(
    source: &mut Source<'_>,
    service: &ServiceName,
    file: File,
) -> Result<IsolationConfig, ConfigError> {
    let key = |key: &str| format!("service.{service}.{key}");
    let user = source.pick(&key("user"), &[], file.user, account)?;
    let group = source.pick(&key("group"), &[], file.group, account)?;
    if group.is_some() && user.is_none() {
        let detail = "group without a user".to_owned();
        return Err(ConfigError::Service { service: service.clone(), detail });
    }
    let credentials = credentials(source, &key("credentials"), file.credentials)?;
    let limits = Limits {
        memory_max: source.pick(&key("limits.memory_max"), &[], file.limits.memory_max, host::bytes)?,
        cpu_max: source.pick(&key("limits.cpu_max"), &[], file.limits.cpu_max, thousandths)?,
        pids_max: source.pick(&key("limits.pids_max"), &[], file.limits.pids_max, count)?,
    };
    Ok(IsolationConfig { user, group, credentials, limits })
}

fn credentials(
    source: &mut Source<'_>,
    key: &str,
    file: BTreeMap<String, Spanned<Scalar>>,
) -> Result<BTreeMap<String, CredentialSource>, ConfigError> {
    let mut credentials = BTreeMap::new();
    for (name, from) in file {
        let at = from.span().start;
        let text = from.into_inner().0;
        if !is_credential_name(&name) {
            return Err(source.refuse(key.to_owned(), name, at, IsolationError::CredentialName));
        }
        let found = match text.strip_prefix(SYSTEMD) {
            Some(loaded) if is_credential_name(loaded) => CredentialSource::Systemd(loaded.to_owned()),
            None if Utf8Path::new(&text).is_absolute() => CredentialSource::File(text.into()),
            Some(_) | None => {
                return Err(source.refuse(format!("{key}.{name}"), text, at, IsolationError::CredentialSource));
            }
        };
        // Where it comes from is no secret.
        source.note(format!("{key}.{name}"), found.to_string(), at);
        credentials.insert(name, found);
    }
    Ok(credentials)
}

fn account(text: &str) -> Result<String, IsolationError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.$".contains(&byte);
    let named = !text.is_empty() && !text.starts_with('-') && text.bytes().all(fits);
    if named { Ok(text.to_owned()) } else { Err(IsolationError::Account) }
}

fn is_credential_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    !name.is_empty() && name.len() <= 64 && !name.starts_with(['-', '.']) && name.bytes().all(fits)
}

fn thousandths(text: &str) -> Result<u32, IsolationError> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<u32>().ok());
    percent.filter(|percent| *percent > 0).and_then(|percent| percent.checked_mul(10)).ok_or(IsolationError::Cpu)
}

fn count(text: &str) -> Result<u64, IsolationError> {
    text.parse().ok().filter(|count| *count > 0).ok_or(IsolationError::Count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_or_a_name_that_means_nothing_is_refused() {
        assert_eq!((thousandths("150%"), thousandths("5 %")), (Ok(1_500), Ok(50)));
        for text in ["150", "0%", "-1%", "1.5%", "%", "999999999%"] {
            assert_eq!(thousandths(text), Err(IsolationError::Cpu), "{text}");
        }
        assert_eq!(
            (count("64"), count("0"), count("x")),
            (Ok(64), Err(IsolationError::Count), Err(IsolationError::Count))
        );
        assert!(account("devshardd").is_ok() && account("1000").is_ok());
        for text in ["", "-x", "a b", "a/b", "a:b"] {
            assert!(account(text).is_err(), "{text}");
        }
        assert!(is_credential_name("warm_key") && is_credential_name("a.pem"));
        for name in ["", ".", "..", "../a", "a/b", ".a", "-a"] {
            assert!(!is_credential_name(name), "{name}");
        }
    }
}
