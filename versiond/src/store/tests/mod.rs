//! The store against mirrors on loopback: [`mirror`] answers, [`power`] cuts the power.

mod counted;
mod faults;
mod install;
mod mirror;
mod power;
mod recorded;
mod resume;
mod shared;

use std::io::{Cursor, Write};

use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use super::*;

/// What may be fetched from loopback and from files.
const HERE: UrlRules = UrlRules { http: false, file: true, loopback: true, private: false };

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(<sha2::Sha256 as sha2::Digest>::digest(bytes).into())
}

fn artifact(bytes: &[u8], urls: &[String]) -> Artifact {
    Artifact { sha256: sha256(bytes), urls: urls.to_vec(), size: None, entry: None, irreversible: false }
}

/// A zip archive; a name that begins with `link:` is a symbolic link.
pub(super) fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        match name.strip_prefix("link:") {
            Some(name) => {
                zip.add_symlink(name, String::from_utf8_lossy(bytes), SimpleFileOptions::default()).unwrap();
            }
            None => {
                zip.start_file(*name, SimpleFileOptions::default()).unwrap();
                zip.write_all(bytes).unwrap();
            }
        }
    }
    zip.finish().unwrap().into_inner()
}

fn open(folder: &TempDir) -> Store {
    Store::open(&folder.path().join("store"), true, HERE).unwrap()
}

async fn get(store: &Store, artifact: &Artifact, entry: Option<&str>) -> Result<Installed, StoreError> {
    store.ensure(artifact, entry, &|_, _| {}).await
}

/// The artifacts in the store, whole or not, and what attempts have left.
fn names(folder: &TempDir) -> Vec<String> {
    let items = std::fs::read_dir(folder.path().join("store")).unwrap();
    let names = items.map(|item| item.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| ![".leases", ".partial", MEMORY, ".memory.new"].contains(&name.as_str())).collect();
    names.sort();
    names
}
