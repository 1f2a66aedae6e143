//! `versiond check`: validates without binding anything, and shows what holds where.

use std::process::ExitCode;

use camino::Utf8Path;

use crate::config::{self, Env};

/// The command.
pub fn main(path: Option<&Utf8Path>, env: &Env) -> ExitCode {
    match config::load(path, env) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
