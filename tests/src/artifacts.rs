//! The artifacts that the catalog names: one zip for each build of the child.

use std::io::{Cursor, Write};

use anyhow::Context;
use bytes::Bytes;
use camino::Utf8Path;
use sha2::{Digest, Sha256 as Hasher};
use supervisor_protocol::Sha256;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::scenario::Build;

/// The member of each archive that is executed.
pub const ENTRY: &str = "demo-child";

/// One archive.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The last segment of its URL.
    pub file: &'static str,
    pub bytes: Bytes,
    pub sha256: Sha256,
}

/// The archives of a demo.
#[derive(Debug, Clone)]
pub struct Artifacts {
    pub a: Artifact,
    pub b: Artifact,
    pub stuck: Artifact,
}

impl Artifacts {
    /// Packs the binaries of this folder.
    pub fn pack(children: &Utf8Path) -> anyhow::Result<Self> {
        let pack = |binary: &str, file| pack(&children.join(binary), file);
        Ok(Self {
            a: pack("demo-child-a", "a.zip")?,
            b: pack("demo-child-b", "b.zip")?,
            stuck: pack("demo-child-stuck", "stuck.zip")?,
        })
    }

    /// The archive of a build.
    #[must_use]
    pub const fn of(&self, build: Build) -> &Artifact {
        match build {
            Build::A => &self.a,
            Build::B => &self.b,
        }
    }

    /// The bytes behind a file name, or behind that of the release of a revision: `7/a.zip`.
    #[must_use]
    pub fn by_file(&self, file: &str) -> Option<Bytes> {
        let (revision, file) = match file.split_once('/') {
            Some((revision, file)) => (Some(revision.parse().ok()?), file),
            None => (None, file),
        };
        let artifact = [&self.a, &self.b, &self.stuck].into_iter().find(|one| one.file == file)?;
        Some(revision.map_or_else(|| artifact.bytes.clone(), |revision| artifact.released(revision)))
    }
}

impl Artifact {
    /// The same archive as the release of one revision: with a comment, and so with a hash of its own. Going back to
    /// the very bytes that served before would bring their generation back, which is no swap to a new one.
    #[must_use]
    pub fn released(&self, revision: u64) -> Bytes {
        let comment = revision.to_string();
        // An archive without a comment ends with the comment's length, two bytes, little-endian.
        let length = u16::try_from(comment.len()).unwrap_or_default().to_le_bytes();
        let archive = self.bytes.len().saturating_sub(length.len());
        Bytes::from([&self.bytes[..archive], &length, comment.as_bytes()].concat())
    }
}

/// The SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(Hasher::digest(bytes).into())
}

fn pack(binary: &Utf8Path, file: &'static str) -> anyhow::Result<Artifact> {
    let program = std::fs::read(binary).with_context(|| format!("cannot read {binary}; `make demo` builds it"))?;
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(1))
        .unix_permissions(0o755);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file(ENTRY, options)?;
    archive.write_all(&program)?;
    let bytes = Bytes::from(archive.finish()?.into_inner());
    Ok(Artifact { file, sha256: sha256(&bytes), bytes })
}
