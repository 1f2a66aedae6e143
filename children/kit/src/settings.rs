//! Settings from the environment, each with its name in every complaint.
//!
//! A secret is never a value of a variable: `NAME_FILE` names the file that holds it.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What is wrong with a variable.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    #[error("{0} is not set")]
    Missing(&'static str),
    #[error("{name}: {problem}")]
    Invalid { name: &'static str, problem: String },
    #[error("{name}: {path} cannot be read")]
    Unreadable {
        name: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

type Read = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Where variables are read.
pub struct Settings {
    read: Box<Read>,
}

impl Settings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    /// Those that `read` knows. An empty one counts as not set.
    #[must_use]
    pub fn new(read: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { read: Box::new(read) }
    }

    /// The text of a variable, if it is set.
    #[must_use]
    pub fn text(&self, name: &'static str) -> Option<String> {
        (self.read)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The text of a variable that must be set.
    pub fn needed(&self, name: &'static str) -> Result<String, SettingError> {
        self.text(name).ok_or(SettingError::Missing(name))
    }

    /// The value of a variable, if it is set.
    pub fn value<T>(&self, name: &'static str) -> Result<Option<T>, SettingError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let read = |text: String| text.parse().map_err(|error: T::Err| invalid(name, format!("{error}: `{text}`")));
        self.text(name).map(read).transpose()
    }

    /// A length of time with its unit (`30s`, `5m`, `250ms`, `1h`): a bare number is refused.
    pub fn duration(&self, name: &'static str) -> Result<Option<Duration>, SettingError> {
        let read = |text: String| duration(&text).map_err(|problem| invalid(name, format!("{problem}: `{text}`")));
        self.text(name).map(read).transpose()
    }

    /// What the file holds that this variable names, without white space at its ends. A path that begins at no root is
    /// that of a credential, in the folder that the supervisor gives (`CREDENTIALS_DIRECTORY`).
    pub fn file(&self, name: &'static str) -> Result<Option<String>, SettingError> {
        let Some(path) = self.text(name) else { return Ok(None) };
        let path = self.text("CREDENTIALS_DIRECTORY").map_or_else(PathBuf::new, PathBuf::from).join(path);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(source) => Err(SettingError::Unreadable { name, path, source }),
        }
    }
}

/// A complaint about a variable.
#[must_use]
pub const fn invalid(name: &'static str, problem: String) -> SettingError {
    SettingError::Invalid { name, problem }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| "not a length of time")?;
    let ms = match &text[digits..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "" => return Err("a length of time needs its unit, as in 30s"),
        _ => return Err("not a length of time: ms, s, m and h are known"),
    };
    match ms {
        Some(0) => Err("zero is no length of time"),
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err("too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &'static str) -> Settings {
        Settings::new(move |name| (name == "DEVSHARD_X").then(|| value.to_owned()))
    }

    #[test]
    fn a_length_of_time_has_a_unit() {
        let read = |text| of(text).duration("DEVSHARD_X").map_err(|error| error.to_string());
        assert_eq!(read("250ms"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(read(" 5m "), Ok(Some(Duration::from_secs(300))));
        assert_eq!(read(""), Ok(None));
        for (text, problem) in [
            ("5", "DEVSHARD_X: a length of time needs its unit, as in 30s: `5`"),
            ("0s", "DEVSHARD_X: zero is no length of time: `0s`"),
            ("5 days", "DEVSHARD_X: not a length of time: ms, s, m and h are known: `5 days`"),
            ("soon", "DEVSHARD_X: not a length of time: `soon`"),
            ("18446744073709551615h", "DEVSHARD_X: too long: `18446744073709551615h`"),
        ] {
            assert_eq!(read(text), Err(problem.to_owned()));
        }
    }

    #[test]
    fn a_complaint_names_the_variable() {
        assert_eq!(of("").needed("DEVSHARD_X").unwrap_err().to_string(), "DEVSHARD_X is not set");
        let error = of("many").value::<u16>("DEVSHARD_X").unwrap_err();
        assert_eq!(error.to_string(), "DEVSHARD_X: invalid digit found in string: `many`");
        let both = Settings::new(|name| Some(if name == "DEVSHARD_X" { "key" } else { "/given" }.to_owned()));
        assert_eq!(both.file("DEVSHARD_X").unwrap_err().to_string(), "DEVSHARD_X: /given/key cannot be read");
        let error = of("/nowhere/key").file("DEVSHARD_X").unwrap_err();
        assert_eq!(error.to_string(), "DEVSHARD_X: /nowhere/key cannot be read");
    }
}
