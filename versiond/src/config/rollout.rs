//! `[service.X.rollout]`: when a change of the catalog may begin on this host.
//!
//! Must not live here: what a mode means for a slot (that is `versiond-core`).

use std::time::Duration;

use supervisor_protocol::time::parse_duration;
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

pub(super) fn rollout(
    source: &mut Source<'_>,
    key: impl Fn(&str) -> String,
    file: file::Rollout,
) -> Result<Rollout, ConfigError> {
    let key = |name: &str| key(&format!("rollout.{name}"));
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
    })
}
