//! The store's housekeeping: looks at what is there, asks what may go, and takes it away. Nothing outside the
//! store is ever touched; slots' data least of all.

use std::fs;
use std::path::Path;

use supervisor_protocol::admin::{GcKept, GcRemoved, GcReport, KeptFor};
use supervisor_protocol::{SCHEMA, Sha256, Tick};

use super::disk::{Disk, gone};
use super::folder::{self, RECORD, SCRATCH};
use super::keep::{Found, Uses, Verdict, Wholeness, judge};
use super::lease::{InUse, Leases};
use super::{StoreError, partial};

/// Whether something is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only say what would be.
    DryRun,
    Remove,
}

/// Every artifact's folder, whole or not. What has no hash for a name is not the store's.
pub(super) fn look(store: &Path) -> std::io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for item in fs::read_dir(store)? {
        let path = item?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Sha256>().ok());
        let Some(sha256) = name.filter(|_| path.is_dir()) else { continue };
        let is_whole = folder::record(&path, sha256).is_ok_and(|record| record.is_some());
        let (wholeness, dated) =
            if is_whole { (Wholeness::Whole, path.join(RECORD)) } else { (Wholeness::Incomplete, path.clone()) };
        let age = super::age(&dated).unwrap_or_default();
        found.push(Found { sha256, bytes: folder::size(&path), wholeness, age });
    }
    found.sort_by_key(|folder| folder.sha256);
    Ok(found)
}

/// Removes what nothing needs. `uses` were looked up at `since`: what was asked for later stays.
pub(super) fn collect(
    disk: &dyn Disk,
    store: &Path,
    leases: &Leases,
    uses: &Uses,
    since: Tick,
    mode: Mode,
) -> Result<GcReport, StoreError> {
    let failed = |source| StoreError::disk(store, source);
    let found = look(store).map_err(failed)?;
    let mut report = GcReport { schema: SCHEMA, dry_run: mode == Mode::DryRun, removed: Vec::new(), kept: Vec::new() };
    for (folder, verdict) in found.iter().zip(judge(&found, uses)) {
        let Found { sha256, bytes, .. } = *folder;
        let mut keep = |why| report.kept.push(GcKept { sha256, bytes, why });
        match verdict {
            Verdict::Keep(why) => keep(why),
            Verdict::Remove(why) => match remove(disk, store, leases, sha256, since, mode) {
                Ok(()) => report.removed.push(GcRemoved { sha256, bytes, why }),
                Err(stays) => keep(vec![stays]),
            },
        }
    }
    if mode == Mode::Remove {
        partial::prune(disk, store, partial::Bounds::default());
        sweep(disk, store).map_err(failed)?;
    }
    Ok(report)
}

fn remove(
    disk: &dyn Disk,
    store: &Path,
    leases: &Leases,
    sha256: Sha256,
    since: Tick,
    mode: Mode,
) -> Result<(), KeptFor> {
    let stuck = |error: std::io::Error| KeptFor::Stuck { detail: error.to_string() };
    let removal = leases.remove(disk, sha256, since).map_err(stays)?;
    if mode == Mode::DryRun {
        return Ok(());
    }
    // Gone for readers at once; what a crash leaves of it is swept.
    let aside = store.join(format!("{SCRATCH}{:016x}", rand::random::<u64>()));
    disk.rename(&store.join(sha256.to_string()), &aside).map_err(stuck)?;
    gone(disk.remove_folder(&aside)).map_err(stuck)?;
    removal.done(disk).map_err(stuck)
}

fn stays(in_use: InUse) -> KeptFor {
    match in_use {
        InUse::Here => KeptFor::JustAsked,
        InUse::Elsewhere => KeptFor::UsedElsewhere,
        InUse::Unknown(error) => KeptFor::Stuck { detail: error.to_string() },
    }
}

/// Removes what interrupted runs left unfinished.
pub(super) fn sweep(disk: &dyn Disk, store: &Path) -> std::io::Result<()> {
    for item in fs::read_dir(store)? {
        let path = item?.path();
        let is_scratch = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SCRATCH));
        if is_scratch && folder::is_abandoned(&path) {
            gone(disk.remove_folder(&path))?;
        }
    }
    Ok(())
}
