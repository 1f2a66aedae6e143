//! `[service.X.rollout]`: when a change of the catalog may begin on this host.
//!
//! Must not live here: what a mode means for a slot (that is `versiond-core`).

use std::time::Duration;

use supervisor_protocol::time::parse_duration;
use versiond_core::errors::ErrorRule;
use versiond_core::window::Window;

use super::setting::Source;
use super::{ConfigError, file};

/// How changes of a service begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    pub mode: RolloutMode,
    /// Absent = at any time.
    pub window: Option<Window>,
    /// The longest pause of a host before a swap that excludes its predecessor.
    pub jitter: Duration,
    /// When errors take a build on trial back. Absent = never.
    pub errors: Option<ErrorRule>,
}

/// Who begins a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RolloutMode {
    /// The host itself, as soon as it may.
    #[default]
    Auto,
    /// Everything is got ready, and waits for an operator's yes.
    Staged,
    /// Nothing is done before an operator's yes.
    Manual,
}

/// The mode is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rollout is \"auto\", \"staged\" or \"manual\"")]
struct ModeError;

/// The rate, or the number of answers that it needs, is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum ErrorsError {
    #[error("a rate is a percentage above 0 and up to 100 with at most one decimal, as \"5%\" or \"0.5%\"")]
    Rate,
    #[error("a number of answers is a whole number above 0")]
    Least,
}

pub(super) fn rollout(
    source: &mut Source<'_>,
    key: impl Fn(&str) -> String,
    file: file::Rollout,
) -> Result<Rollout, ConfigError> {
    let key = |name: &str| key(&format!("rollout.{name}"));
    let permille = source.pick(&key("error_rate"), &[], file.error_rate, permille)?;
    let least = source.pick_or(&key("error_least"), &[], file.error_least, "20", |text| {
        text.parse().ok().filter(|least| *least > 0).ok_or(ErrorsError::Least)
    })?;
    Ok(Rollout {
        mode: source.pick_or(&key("mode"), &[], file.mode, "auto", |text| match text {
            "auto" => Ok(RolloutMode::Auto),
            "staged" => Ok(RolloutMode::Staged),
            "manual" => Ok(RolloutMode::Manual),
            _ => Err(ModeError),
        })?,
        window: source.pick(&key("window"), &[], file.window, Window::parse)?,
        jitter: source.pick_or(&key("jitter"), &[], file.jitter, "60s", |text| match text {
            "none" => Ok(Duration::ZERO),
            _ => parse_duration(text),
        })?,
        errors: permille.map(|permille| ErrorRule { permille, least }),
    })
}

/// A percentage, in thousandths.
fn permille(text: &str) -> Result<u32, ErrorsError> {
    let (whole, tenths) =
        text.strip_suffix('%').map(|rate| rate.split_once('.').unwrap_or((rate, "0"))).ok_or(ErrorsError::Rate)?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(tenths) || tenths.len() != 1 || whole.len() > 3 {
        return Err(ErrorsError::Rate);
    }
    let number = |text: &str| text.parse::<u32>().map_err(|_| ErrorsError::Rate);
    let permille = 10 * number(whole)? + number(tenths)?;
    if (1..=1_000).contains(&permille) { Ok(permille) } else { Err(ErrorsError::Rate) }
}
