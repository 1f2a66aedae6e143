//! The state of following one source: takes readings, keeps before it believes, and says what is in
//! force. Waits for the disk, never for the network; time is a parameter.

use std::sync::Arc;

use camino::Utf8PathBuf;
use supervisor_protocol::admin::CatalogStatus;
use supervisor_protocol::{Reason, Tick, time::millis};
use versiond_core::catalog::{ParseContext, Tracker, parse};

use super::CatalogView;
use super::keep::{self, Kept};
use super::source::SourceError;
use crate::config::{Config, chain};

pub(super) struct Follower {
    path: Utf8PathBuf,
    source: String,
    context: ParseContext,
    tracker: Tracker,
    /// What is on the disk.
    kept: Option<Kept>,
    is_known: bool,
    read_at: Option<Tick>,
    reason: Option<Reason>,
}

impl Follower {
    /// Goes on from what was kept. A file that cannot be used is worth a warning, not a refusal to start:
    /// the source will say it again.
    pub(super) fn open(config: &Config) -> Self {
        let mut follower = Self {
            path: config.host.state_dir.join("catalog.json"),
            source: config.catalog.source.to_string(),
            context: config.parse_context(),
            tracker: Tracker::new(config.catalog.removals, config.catalog.allow_empty),
            kept: None,
            is_known: false,
            read_at: None,
            reason: Some(Reason::NoCatalog { detail: "the source has not been read yet".to_owned() }),
        };
        match keep::read(&follower.path) {
            Ok(None) => {}
            Ok(Some(kept)) => follower.restore(kept),
            Err(error) => tracing::warn!(error = chain(&error), "the kept catalog cannot be used"),
        }
        follower
    }

    fn restore(&mut self, kept: Kept) {
        let same_source = kept.source == self.source;
        let latest = if same_source { parse(kept.document.to_string().as_bytes(), &self.context).ok() } else { None };
        self.tracker = self.tracker.clone().restored(latest, kept.believed.clone());
        self.kept = Some(kept);
        self.is_known = true;
        self.reason = None;
    }

    /// Takes one reading. Whatever is wrong with it, or with the disk, what was in force stays.
    pub(super) fn take(&mut self, reading: Result<Vec<u8>, SourceError>, now: Tick) {
        let before = self.reason.clone();
        self.reason = match reading {
            Err(error) => Some(self.unread(chain(&error))),
            Ok(bytes) => self.take_document(&bytes, now).err(),
        };
        match &self.reason {
            Some(reason) if before.as_ref().map(Reason::code) != Some(reason.code()) => {
                tracing::warn!(source = super::http::shown(&self.source), code = reason.code(), "{reason}");
            }
            None if before.is_some() => {
                tracing::info!(
                    source = super::http::shown(&self.source),
                    revision = self.tracker.revision(),
                    "the catalog is read"
                );
            }
            Some(_) | None => {}
        }
    }

    fn take_document(&mut self, bytes: &[u8], now: Tick) -> Result<(), Reason> {
        let document = parse(bytes, &self.context).map_err(|error| self.unread(chain(&error)))?;
        let next = self.tracker.observe(document, now).map_err(|error| self.unread(chain(&error)))?;
        self.read_at = Some(now);
        let raw = serde_json::from_slice(bytes).map_err(|error| self.unread(chain(&error)))?;
        let kept = Kept::new(self.source.clone(), raw, next.believed());
        if self.kept.as_ref() != Some(&kept) {
            keep::write(&self.path, &kept).map_err(|error| Reason::LedgerUnwritable { detail: chain(&error) })?;
        }
        self.kept = Some(kept);
        self.tracker = next;
        self.is_known = true;
        Ok(())
    }

    fn unread(&self, detail: String) -> Reason {
        if self.is_known { Reason::CatalogUnreachable { detail } } else { Reason::NoCatalog { detail } }
    }

    /// What is in force.
    pub(super) fn view(&self, now: Tick) -> CatalogView {
        CatalogView {
            desired: Arc::new(self.tracker.desired()),
            is_known: self.is_known,
            status: CatalogStatus {
                source: super::http::shown(&self.source),
                revision: self.tracker.revision(),
                read_ms_ago: self.read_at.map(|read_at| millis(now.since(read_at))),
                reason: self.reason.clone(),
            },
            read_at: self.read_at,
        }
    }
}
