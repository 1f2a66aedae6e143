//! The state of following one source: takes readings, keeps before it believes, and says what is in
//! force. Waits for the disk, never for the network; time is a parameter.

use std::sync::Arc;

use camino::Utf8PathBuf;
use supervisor_protocol::admin::CatalogStatus;
use supervisor_protocol::catalog::CatalogOrigin;
use supervisor_protocol::{Reason, Tick, time::millis};
use versiond_core::catalog::{ParseContext, Snapshot, Tracker, parse};

use super::CatalogView;
use super::height::UnknownHeight;
use super::judge::Judge;
use super::keep::{self, Kept};
use super::overrides::Overrides;
use super::source::SourceError;
use crate::config::{Config, chain};

pub(super) struct Follower {
    path: Utf8PathBuf,
    source: String,
    judge: Judge,
    overrides: Overrides,
    /// What is on the disk.
    kept: Option<Kept>,
    origin: CatalogOrigin,
    read_at: Option<Tick>,
    reason: Option<Reason>,
    height_unknown: Option<String>,
    /// The next document is a first one.
    reset: bool,
}

impl Follower {
    /// Goes on from what was kept. A file that cannot be used is worth a warning, not a refusal to start:
    /// the source will say it again. Blocking where files stand in for artifacts.
    pub(super) fn open(config: &Config) -> Self {
        let fresh = Tracker::new(config.catalog.removals, config.catalog.allow_empty);
        let judge = Judge {
            context: config.parse_context(),
            trust: config.catalog.trust_key.clone(),
            tracker: fresh.clone(),
            fresh,
        };
        let mut follower = Self {
            path: config.host.state_dir.join("catalog.json"),
            source: config.catalog.source.to_string(),
            judge,
            overrides: Overrides::new(&config.catalog.overrides),
            kept: None,
            origin: CatalogOrigin::None,
            read_at: None,
            reason: Some(Reason::NoCatalog { detail: "the source has not been read yet".to_owned() }),
            height_unknown: None,
            reset: false,
        };
        match keep::read(&follower.path) {
            Ok(None) => {}
            Ok(Some(kept)) => follower.restore(kept),
            Err(error) => tracing::warn!(error = chain(&error), "the kept catalog cannot be used"),
        }
        follower
    }

    /// Reads what is kept once more, for a host that takes other services than before.
    pub(super) fn reconfigure(&mut self, context: ParseContext) {
        self.judge.context = context;
        if let Some(kept) = self.kept.clone() {
            self.judge.tracker = self.judge.fresh.clone();
            self.restore(kept);
        }
    }

    fn restore(&mut self, kept: Kept) {
        let same_author = kept.source == self.source && kept.trust_key == self.trust_key();
        let parsed = || parse(kept.document.to_string().as_bytes(), &self.judge.context).ok();
        let latest = if same_author { parsed() } else { None };
        self.judge.tracker = self.judge.tracker.clone().restored(latest, kept.believed.clone());
        self.kept = Some(kept);
        self.origin = if same_author { CatalogOrigin::Kept } else { CatalogOrigin::KeptOfAnother };
        self.reason = None;
    }

    /// What a Cosmovisor's folder came to before the restart.
    pub(super) fn kept_snapshot(&self) -> Option<Snapshot> {
        let kept = self.kept.as_ref().filter(|kept| kept.source == self.source)?;
        Snapshot::of_document(kept.document.to_string().as_bytes())
    }

    /// The greatest height that is known to be reached.
    pub(super) fn height(&self) -> Option<u64> {
        self.judge.tracker.height()
    }

    /// Takes the next document as a first one.
    pub(super) fn reset(&mut self) {
        self.reset = true;
    }

    /// Takes one reading. Whatever is wrong with it, or with the disk, what was in force stays.
    pub(super) fn take(
        &mut self,
        reading: Result<Vec<u8>, SourceError>,
        height: Result<u64, UnknownHeight>,
        now: Tick,
    ) {
        let before = self.reason.clone();
        self.overrides.look();
        let height = self.note_height(height);
        let taken = self.reach(height).and_then(|()| match reading {
            Ok(bytes) => self.take_document(&bytes, height, now),
            Err(error) => Err(self.unread(&error)),
        });
        self.reason = taken.err();
        match &self.reason {
            Some(reason) if before.as_ref().map(Reason::code) != Some(reason.code()) => {
                tracing::warn!(source = super::http::shown(&self.source), code = reason.code(), "{reason}");
            }
            None if before.is_some() => {
                tracing::info!(
                    source = super::http::shown(&self.source),
                    revision = self.judge.tracker.revision(),
                    "the catalog is read"
                );
            }
            Some(_) | None => {}
        }
    }

    fn note_height(&mut self, height: Result<u64, UnknownHeight>) -> Option<u64> {
        let unknown = match &height {
            Ok(_) | Err(UnknownHeight::NoSource) => None,
            Err(error) => Some(chain(error)),
        };
        if let (Some(why), None) = (&unknown, &self.height_unknown) {
            tracing::warn!(why, "the height is not known; what is in effect stays");
        }
        self.height_unknown = unknown;
        height.ok()
    }

    /// Follows the document in force to this height.
    fn reach(&mut self, height: Option<u64>) -> Result<(), Reason> {
        let next = self.judge.tracker.at_height(height);
        if let Some(kept) = &self.kept {
            self.keep(kept.believing(next.believed()))?;
        }
        self.judge.tracker = next;
        Ok(())
    }

    fn take_document(&mut self, bytes: &[u8], height: Option<u64>, now: Tick) -> Result<(), Reason> {
        let document = parse(bytes, &self.judge.context).map_err(|error| self.refused(chain(&error)))?;
        let tracker = &self.judge.tracker;
        let first = self.reset.then(|| tracker.reset(height));
        let next = first.as_ref().unwrap_or(tracker).observe(document, now);
        let next = next.map_err(|error| self.refused(chain(&error)))?;
        self.read_at = Some(now);
        let raw = serde_json::from_slice(bytes).map_err(|error| self.refused(chain(&error)))?;
        self.keep(Kept::new(self.source.clone(), self.trust_key(), raw, next.believed()))?;
        self.judge.tracker = next;
        self.origin = CatalogOrigin::Read;
        self.reset = false;
        Ok(())
    }

    /// Before anything is done by it.
    fn keep(&mut self, kept: Kept) -> Result<(), Reason> {
        if !self.kept.as_ref().is_some_and(|before| before.is_as_good_as(&kept)) {
            keep::write(&self.path, &kept).map_err(|error| Reason::LedgerUnwritable { detail: chain(&error) })?;
            self.kept = Some(kept);
        }
        Ok(())
    }

    fn trust_key(&self) -> Option<String> {
        self.judge.trust.as_ref().map(|key| key.as_str().to_owned())
    }

    fn unread(&self, error: &SourceError) -> Reason {
        match error {
            SourceError::Untrusted { .. } => Reason::Untrusted { detail: chain(error) },
            SourceError::File { .. }
            | SourceError::Http { .. }
            | SourceError::Timeout { .. }
            | SourceError::Cosmovisor { .. } => self.refused(chain(error)),
        }
    }

    fn refused(&self, detail: String) -> Reason {
        if self.is_known() { Reason::CatalogUnreachable { detail } } else { Reason::NoCatalog { detail } }
    }

    fn is_known(&self) -> bool {
        self.origin != CatalogOrigin::None
    }

    /// What is in force.
    pub(super) fn view(&self, now: Tick) -> CatalogView {
        CatalogView {
            desired: Arc::new(self.overrides.apply(self.judge.tracker.desired())),
            is_known: self.is_known(),
            status: CatalogStatus {
                source: super::http::shown(&self.source),
                revision: self.judge.tracker.revision(),
                read_ms_ago: self.read_at.map(|read_at| millis(now.since(read_at))),
                reason: self.reason.clone(),
            },
            read_at: self.read_at,
            origin: self.origin,
            reset: self.reset,
            height_unknown: self.height_unknown.clone(),
            document: self.kept.as_ref().map(|kept| Arc::new(kept.document.clone())),
            judge: Arc::new(self.judge.clone()),
        }
    }
}
