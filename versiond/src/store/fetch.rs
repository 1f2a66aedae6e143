//! From an artifact's mirrors to bytes on the disk that are the ones that were named. Nothing is opened
//! before its hash has been checked.
//!
//! What has been received in part is gone on with, from the same mirror or another one: each is asked for
//! the rest, and believed when it has as many bytes in all, or still the same by its own word. What comes of
//! it is judged by the hash of the whole; if that is wrong, the same mirror is asked for everything once.

use std::io;
use std::path::Path;
use std::sync::Arc;

use reqwest::header::{self, HeaderMap};
use reqwest::{Response, StatusCode};
use sha2::Digest;
use supervisor_protocol::Sha256;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use versiond_core::catalog::Artifact;

use super::disk::{Disk, Output};
use super::memory::Failed;
use super::pace::{Measure, TooSlow};
use super::partial::{Note, Partial, Point};
use super::{Limits, Progress, StoreError, Unusable, blocking, folder};
use crate::catalog::http::{self, Client, FetchError};
use crate::metrics::Fetches;

/// How many bytes are written at a time, and pass between two reports.
const SPILL: usize = 256 << 10;

/// One fetch.
pub(super) struct Fetch<'f> {
    pub(super) client: &'f Client,
    pub(super) disk: &'f Arc<dyn Disk>,
    pub(super) artifact: &'f Artifact,
    pub(super) partial: &'f Partial,
    pub(super) limits: Limits,
    /// True but in a build that breaks the guard on purpose.
    pub(super) verify: bool,
    pub(super) progress: &'f Progress<'f>,
    pub(super) fetches: &'f Fetches,
}

/// Why a mirror's answer was of no use.
enum Missed {
    Failed(StoreError),
    /// What was there before does not fit: everything is to be asked for.
    Anew,
}

impl From<StoreError> for Missed {
    fn from(error: StoreError) -> Self {
        Missed::Failed(error)
    }
}

impl Fetch<'_> {
    /// Tries these mirrors in order until the partial holds the verified bytes, whose hash is returned.
    pub(super) async fn run(&self, mirrors: &[&str]) -> Result<Sha256, Failed> {
        let mut failed: Vec<(String, StoreError)> = Vec::new();
        for url in mirrors {
            match self.try_mirror(url).await {
                Ok(found) => return Ok(found),
                // No other mirror makes room on this disk.
                Err(error @ StoreError::Disk { .. }) => return Err(Failed { error, mirrors: failed }),
                Err(error) => failed.push(((*url).to_owned(), error)),
            }
        }
        // Of several failures the one that says most about the artifact is told.
        let says_most =
            |error: &&StoreError| matches!(error, StoreError::HashMismatch { .. } | StoreError::Unusable(_));
        let errors = || failed.iter().map(|(_, error)| error);
        let error = errors().find(says_most).or_else(|| errors().next()).cloned();
        let error = error.unwrap_or_else(|| StoreError::Fetch {
            place: "the artifact".to_owned(),
            source: Arc::new(FetchError::Address("an empty list".to_owned())),
        });
        Err(Failed { error, mirrors: failed })
    }

    async fn try_mirror(&self, url: &str) -> Result<Sha256, StoreError> {
        if let Some(path) = url.strip_prefix("file:") {
            // Only a catalog that is a local file may name one, which its reader has seen to.
            return self.copy(Path::new(path.strip_prefix("//").unwrap_or(path))).await;
        }
        let point = self.partial.point(url);
        let resumed = point.is_some();
        let found = match self.receive(url, point).await {
            Ok(found) if self.is_right(found) => return Ok(found),
            // Another mirror may have given the beginning.
            Ok(_) if resumed => None,
            Ok(found) => Some(found),
            Err(Missed::Anew) => None,
            Err(Missed::Failed(error)) => return Err(self.lacking_room(error)),
        };
        let found = match found {
            Some(found) => found,
            None => {
                self.partial.discard();
                match self.receive(url, None).await {
                    Ok(found) => found,
                    Err(Missed::Failed(error)) => return Err(self.lacking_room(error)),
                    Err(Missed::Anew) => return Err(self.failed(url, FetchError::Status(StatusCode::PARTIAL_CONTENT))),
                }
            }
        };
        if self.is_right(found) {
            return Ok(found);
        }
        self.partial.discard();
        Err(StoreError::HashMismatch { expected: self.artifact.sha256, found })
    }

    fn is_right(&self, found: Sha256) -> bool {
        found == self.artifact.sha256 || !self.verify
    }

    /// A disk without room gets back what the fetch has taken of it.
    fn lacking_room(&self, error: StoreError) -> StoreError {
        if let StoreError::Disk { source, .. } = &error
            && matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            self.partial.discard();
        }
        error
    }

    fn failed(&self, url: &str, source: FetchError) -> StoreError {
        StoreError::Fetch { place: http::shown(url), source: Arc::new(source) }
    }

    /// Receives all, or what comes behind a point.
    async fn receive(&self, url: &str, point: Option<Point>) -> Result<Sha256, Missed> {
        if let Some(whole) = point.as_ref().filter(|point| point.from == point.total) {
            // Everything was there, and could not be unpacked then.
            return Ok(self.sink(whole.from, None, Some(whole.total)).await?.finish().await?);
        }
        let answer = match &point {
            Some(point) => self.client.get_from(url, point.from, point.validator.as_deref()).await,
            None => self.client.get(url).await,
        };
        let mut response = answer.map_err(|error| self.failed(url, error))?;
        let (from, total) = match (&point, response.status()) {
            (Some(point), StatusCode::PARTIAL_CONTENT) => {
                let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
                if range.and_then(content_range) != Some((point.from, point.total)) {
                    return Err(Missed::Anew);
                }
                (point.from, Some(point.total))
            }
            (_, StatusCode::OK) => (0, response.content_length()),
            (_, _) => return Err(Missed::Anew),
        };
        self.make_room(from, total)?;
        let note = total.map(|total| Note::new(url, validator(&response), total));
        let mut sink = self.sink(from, note, total.or(self.artifact.size)).await?;
        let result = self.body(url, &mut response, &mut sink).await;
        match result {
            Ok(()) => Ok(sink.finish().await?),
            Err(error) => {
                // What has come is worth something.
                sink.spill().await?;
                Err(error.into())
            }
        }
    }

    async fn body(&self, url: &str, response: &mut Response, sink: &mut Sink<'_>) -> Result<(), StoreError> {
        let mut measure = Measure::new(self.limits.pace);
        loop {
            let chunk = measure.wait(response.chunk()).await.map_err(|TooSlow(pace)| {
                self.failed(url, FetchError::Slow { bytes: pace.bytes, within: pace.within })
            })?;
            let Some(chunk) = chunk.map_err(|error| self.failed(url, http::exchange(error)))? else { return Ok(()) };
            measure.count(chunk.len());
            sink.take(&chunk).await?;
        }
    }

    async fn copy(&self, path: &Path) -> Result<Sha256, StoreError> {
        let unread = |source| StoreError::Fetch {
            place: format!("file:{}", path.display()),
            source: Arc::new(FetchError::File(source)),
        };
        let mut from = File::open(path).await.map_err(unread)?;
        let total = from.metadata().await.map(|metadata| metadata.len()).map_err(unread)?;
        self.make_room(0, Some(total))?;
        let mut sink = self.sink(0, None, Some(total)).await?;
        let mut buffer = vec![0u8; SPILL];
        loop {
            match from.read(&mut buffer).await.map_err(unread)? {
                0 => break,
                read => sink.take(&buffer[..read]).await.map_err(|error| self.lacking_room(error))?,
            }
        }
        let found = sink.finish().await.map_err(|error| self.lacking_room(error))?;
        if self.is_right(found) {
            return Ok(found);
        }
        self.partial.discard();
        Err(StoreError::HashMismatch { expected: self.artifact.sha256, found })
    }

    /// Refuses what is too large, and what the disk has no room for beside the reserve.
    fn make_room(&self, from: u64, total: Option<u64>) -> Result<(), StoreError> {
        let Some(total) = total else { return Ok(()) };
        let Limits { archive: cap, reserve, .. } = self.limits;
        if total > cap {
            return Err(Unusable::TooLarge { cap }.into());
        }
        let folder = self.partial.path().parent().unwrap_or(self.partial.path());
        let free = self.disk.free(folder).map_err(|source| StoreError::disk(folder, source))?;
        let needed = total.saturating_sub(from);
        if free < needed.saturating_add(reserve) {
            let text = format!("{needed} bytes are needed beside the {reserve} that stay free, and {free} are there");
            return Err(StoreError::disk(folder, io::Error::new(io::ErrorKind::StorageFull, text)));
        }
        Ok(())
    }

    async fn sink(&self, from: u64, note: Option<Note>, total: Option<u64>) -> Result<Sink<'_>, StoreError> {
        let path = self.partial.path().to_owned();
        // A beginning that cannot be read again is none.
        let (hash, from) = blocking(move || Ok(folder::begin_hash(&path, from))).await?.unwrap_or_default();
        let opened = self.partial.receive(from, note.as_ref());
        let file = opened.map_err(|source| StoreError::disk(self.partial.path(), source))?;
        (self.progress)(from, total);
        Ok(Sink {
            path: self.partial.path(),
            writer: Some(Writer { file, hash, buffer: Vec::with_capacity(SPILL) }),
            received: from,
            total,
            cap: self.limits.archive,
            progress: self.progress,
            fetches: self.fetches,
        })
    }
}

/// A file that is hashed and counted while it is written, off the runtime's thread.
struct Sink<'p> {
    path: &'p Path,
    /// Lent to the blocking thread.
    writer: Option<Writer>,
    received: u64,
    total: Option<u64>,
    cap: u64,
    progress: &'p Progress<'p>,
    fetches: &'p Fetches,
}

struct Writer {
    file: Box<dyn Output>,
    hash: sha2::Sha256,
    buffer: Vec<u8>,
}

impl Sink<'_> {
    async fn take(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.received += bytes.len() as u64;
        self.fetches.received(bytes.len());
        if self.received > self.cap {
            return Err(Unusable::TooLarge { cap: self.cap }.into());
        }
        let Some(writer) = &mut self.writer else { return Err(self.lost()) };
        writer.buffer.extend_from_slice(bytes);
        if writer.buffer.len() >= SPILL { self.spill().await } else { Ok(()) }
    }

    async fn spill(&mut self) -> Result<(), StoreError> {
        let Some(mut writer) = self.writer.take() else { return Err(self.lost()) };
        let path = self.path.to_owned();
        let written = blocking(move || {
            writer.hash.update(&writer.buffer);
            writer.file.write_all(&writer.buffer).map_err(|source| StoreError::disk(&path, source))?;
            writer.buffer.clear();
            Ok(writer)
        });
        self.writer = Some(written.await?);
        (self.progress)(self.received, self.total);
        Ok(())
    }

    async fn finish(mut self) -> Result<Sha256, StoreError> {
        self.spill().await?;
        let Some(writer) = self.writer.take() else { return Err(self.lost()) };
        Ok(Sha256(writer.hash.finalize().into()))
    }

    /// After an error of writing.
    fn lost(&self) -> StoreError {
        StoreError::disk(self.path, io::ErrorKind::BrokenPipe.into())
    }
}

/// What a mirror calls the bytes that it has, if it says so in a way that names bytes.
fn validator(response: &Response) -> Option<String> {
    let value = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    strong(response.headers()).or_else(|| value(header::LAST_MODIFIED))
}

/// A weak tag says no more than that the meaning is the same.
fn strong(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(header::ETAG)?.to_str().ok()?;
    tag.starts_with('"').then(|| tag.to_owned())
}

/// `bytes 100-199/200`: from where, and how many there are.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, last) = range.split_once('-')?;
    let (from, last, total): (u64, u64, u64) = (from.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (from <= last && last.checked_add(1) == Some(total)).then_some((from, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_believed_only_when_it_is_the_rest_of_a_known_whole() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, 200)));
        for wrong in [
            "",
            "bytes",
            "bytes 100-199/*",
            "bytes */200",
            "bytes 100-150/200",
            "bytes 5-4/5",
            "items 0-1/2",
            "bytes 0-18446744073709551615/0",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_weak_tag_names_no_bytes() {
        let of = |tag: &str| strong(&HeaderMap::from_iter([(header::ETAG, tag.parse().unwrap())]));
        assert_eq!(of("\"a\""), Some("\"a\"".to_owned()));
        assert_eq!(of("W/\"a\""), None);
    }
}
