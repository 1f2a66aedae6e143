//! What is there to take over. Only reads.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use supervisor_protocol::{Sha256, VersionName};

use super::{ImportError, Refused};
use crate::store::hash;

const NOTE: &str = "install.json";

/// Something to take over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Program(Program),
    Data(VersionName),
}

/// A path, and what is taken over of it.
pub(super) type Judged = (PathBuf, Result<Found, Refused>);

/// A program whose bytes are the ones that its installer noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) archive_sha256: Sha256,
    pub(super) entry_sha256: Sha256,
    pub(super) member: Option<String>,
}

/// `install.json`, the commit mark of upstream's installs.
#[derive(Debug, Deserialize)]
struct Note {
    archive_sha256: Sha256,
    binary_sha256: Sha256,
}

/// Everything below `directory`, by its path.
pub(super) fn look(directory: &Path) -> Result<Vec<Judged>, ImportError> {
    let (bin, data) = (directory.join("bin"), directory.join("data"));
    if !bin.is_dir() && !data.is_dir() {
        return Err(ImportError::Nothing(directory.to_owned()));
    }
    let mut found = Vec::new();
    for folder in items(&bin)?.into_iter().filter(|path| path.is_dir()) {
        if let Err(refused) = version(&folder) {
            found.push((folder, Err(refused)));
            continue;
        }
        for install in items(&folder)?.into_iter().filter(|path| path.is_dir()) {
            // Anything else is what an interrupted install has left.
            if install.join(NOTE).is_file() {
                found.push(installed(&install)?);
            }
        }
        // As it was before there was a folder for each hash.
        if let Some(flat) = flat(&folder)? {
            found.push(flat);
        }
    }
    for folder in items(&data)?.into_iter().filter(|path| path.is_dir() && !is_hidden(path)) {
        let name = version(&folder).map(Found::Data);
        found.push((folder, name));
    }
    Ok(found)
}

/// A process that has something of `directory` on its command line.
pub(super) fn user_of(directory: &Path) -> Option<(u32, PathBuf)> {
    let own = std::process::id();
    let pids = fs::read_dir("/proc").ok()?.filter_map(|item| item.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own).find_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
        let paths = words.map(|word| word.rsplit_once('=').map_or(word, |(_, value)| value));
        let inside = |path: &&str| ["bin", "data"].iter().any(|part| Path::new(path).starts_with(directory.join(part)));
        paths.filter(|path| path.starts_with('/')).find(inside).map(|path| (pid, PathBuf::from(path)))
    })
}

fn installed(install: &Path) -> Result<Judged, ImportError> {
    let files = programs(install)?;
    let [program] = &files[..] else { return Ok((install.to_owned(), Err(Refused::Programs(files.len())))) };
    let found = noted(&install.join(NOTE)).and_then(|note| {
        let folder = install.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !folder.eq_ignore_ascii_case(&note.archive_sha256.to_string()) {
            return Err(Refused::OtherArchive { folder, noted: note.archive_sha256 });
        }
        verified(program, &note)
    });
    Ok((program.clone(), found))
}

fn flat(folder: &Path) -> Result<Option<Judged>, ImportError> {
    let files = programs(folder)?;
    let [program] = &files[..] else {
        return Ok((files.len() > 1).then(|| (folder.to_owned(), Err(Refused::Programs(files.len())))));
    };
    let note = folder.join(NOTE);
    let found = if note.is_file() {
        noted(&note).and_then(|note| verified(program, &note))
    } else {
        // Nothing says which archive it came from: it is an artifact by itself.
        hash(program)
            .map_err(Refused::Read)
            .map(|own| Found::Program(Program { archive_sha256: own, entry_sha256: own, member: None }))
    };
    Ok(Some((program.clone(), found)))
}

fn noted(path: &Path) -> Result<Note, Refused> {
    let bytes = fs::read(path).map_err(Refused::Read)?;
    serde_json::from_slice(&bytes).map_err(|error| Refused::Note(error.to_string()))
}

fn verified(program: &Path, note: &Note) -> Result<Found, Refused> {
    let found = hash(program).map_err(Refused::Read)?;
    if found != note.binary_sha256 {
        return Err(Refused::Tampered { noted: note.binary_sha256, found });
    }
    let member = program.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Found::Program(Program { archive_sha256: note.archive_sha256, entry_sha256: found, member }))
}

/// The files of a folder that can be its program: neither notes nor what an interrupted install has left.
fn programs(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let is_program = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        is_file && name != NOTE && !name.contains(".tmp.") && !is_hidden(path)
    };
    Ok(items(folder)?.into_iter().filter(is_program).collect())
}

fn version(folder: &Path) -> Result<VersionName, Refused> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    VersionName::new(name.as_ref()).map_err(Refused::Name)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// What is in a folder, in order; nothing when it is not there.
fn items(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let read = |source| ImportError::Read { path: folder.to_owned(), source };
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let items = fs::read_dir(folder).map_err(read)?;
    let mut paths = items.map(|item| item.map(|item| item.path())).collect::<Result<Vec<_>, _>>().map_err(read)?;
    paths.sort();
    Ok(paths)
}
