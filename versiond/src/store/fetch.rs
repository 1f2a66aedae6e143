//! From an artifact's mirrors to bytes on the disk that are the ones that were named. Nothing is
//! opened before its hash has been checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::Digest;
use supervisor_protocol::Sha256;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use versiond_core::catalog::Artifact;

use super::folder::Scratch;
use super::pace::{Measure, TooSlow};
use super::{Limits, Progress, StoreError, Unusable};
use crate::catalog::http::{self, Client, FetchError};

/// How many bytes pass between two reports.
const REPORT_EVERY: u64 = 256 << 10;

/// Tries the mirrors in order; returns the file with the verified bytes.
pub(super) async fn fetch(
    client: &Client,
    artifact: &Artifact,
    scratch: &Scratch,
    limits: Limits,
    verify: bool,
    progress: &Progress<'_>,
) -> Result<PathBuf, StoreError> {
    let mut worst = None;
    for url in &artifact.urls {
        let target = scratch.archive();
        match from_mirror(client, artifact, url, &target, limits, verify, progress).await {
            Ok(()) => return Ok(target),
            // Of several failures the one that says most about the artifact is told.
            Err(error) => match &worst {
                Some(StoreError::HashMismatch { .. } | StoreError::Unusable(_)) => {}
                Some(StoreError::Disk { .. } | StoreError::Client { .. } | StoreError::Fetch { .. }) | None => {
                    worst = Some(error);
                }
            },
        }
    }
    Err(worst.unwrap_or_else(|| StoreError::Fetch {
        place: "the artifact".to_owned(),
        source: Arc::new(FetchError::Address("an empty list".to_owned())),
    }))
}

async fn from_mirror(
    client: &Client,
    artifact: &Artifact,
    url: &str,
    target: &Path,
    limits: Limits,
    verify: bool,
    progress: &Progress<'_>,
) -> Result<(), StoreError> {
    let cap = limits.archive;
    let disk = |source| StoreError::disk(target, source);
    let failed = |source| StoreError::Fetch { place: http::shown(url), source: Arc::new(source) };
    let mut to = Sink::create(target, cap, progress).await?;
    if let Some(path) = url.strip_prefix("file:") {
        // Only a catalog that is a local file may name one, which its reader has seen to.
        let path = Path::new(path.strip_prefix("//").unwrap_or(path));
        let mut from = File::open(path).await.map_err(|source| StoreError::disk(path, source))?;
        to.total = from.metadata().await.ok().map(|metadata| metadata.len()).or(artifact.size);
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            match from.read(&mut buffer).await.map_err(|source| StoreError::disk(path, source))? {
                0 => break,
                read => to.take(&buffer[..read]).await?,
            }
        }
    } else {
        let mut response = client.get(url).await.map_err(failed)?;
        to.total = response.content_length().or(artifact.size);
        if to.total.is_some_and(|total| total > cap) {
            return Err(Unusable::TooLarge { cap }.into());
        }
        let mut measure = Measure::new(limits.pace);
        loop {
            let chunk = measure
                .wait(response.chunk())
                .await
                .map_err(|TooSlow(pace)| failed(FetchError::Slow { bytes: pace.bytes, within: pace.within }))?;
            let Some(chunk) = chunk.map_err(|error| failed(http::exchange(error)))? else { break };
            measure.count(chunk.len());
            to.take(&chunk).await?;
        }
    }
    let found = to.finish().await.map_err(disk)?;
    if verify && found != artifact.sha256 {
        return Err(StoreError::HashMismatch { expected: artifact.sha256, found });
    }
    Ok(())
}

/// A file that is hashed and counted while it is written.
struct Sink<'p> {
    path: PathBuf,
    file: BufWriter<File>,
    hash: sha2::Sha256,
    received: u64,
    reported: u64,
    total: Option<u64>,
    cap: u64,
    progress: &'p Progress<'p>,
}

impl<'p> Sink<'p> {
    async fn create(path: &Path, cap: u64, progress: &'p Progress<'p>) -> Result<Self, StoreError> {
        let file = File::create(path).await.map_err(|source| StoreError::disk(path, source))?;
        progress(0, None);
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 18, file),
            hash: sha2::Sha256::new(),
            received: 0,
            reported: 0,
            total: None,
            cap,
            progress,
        })
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.received += bytes.len() as u64;
        if self.received > self.cap {
            return Err(Unusable::TooLarge { cap: self.cap }.into());
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).await.map_err(|source| StoreError::disk(&self.path, source))?;
        if self.received - self.reported >= REPORT_EVERY {
            self.reported = self.received;
            (self.progress)(self.received, self.total);
        }
        Ok(())
    }

    async fn finish(mut self) -> std::io::Result<Sha256> {
        self.file.flush().await?;
        (self.progress)(self.received, self.total);
        Ok(Sha256(self.hash.finalize().into()))
    }
}
