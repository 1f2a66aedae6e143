//! Files that an operator puts in the place of artifacts. The file's hash is its identity, so that a
//! changed file is a swap; the configuration that names it is its approval.

use supervisor_protocol::{Reason, SlotId};
use versiond_core::catalog::{Artifact, Desired, Intent, Local};

use super::files::Files;
use crate::config::{Override, chain};

/// Every override, with what its file was when it was last looked at.
pub(super) struct Overrides {
    given: Vec<Override>,
    found: Vec<Result<Local, String>>,
    files: Files,
}

impl Overrides {
    /// Looks at every file. Blocking.
    pub(super) fn new(given: &[Override]) -> Self {
        let mut overrides = Self { given: given.to_vec(), found: Vec::new(), files: Files::default() };
        overrides.look();
        overrides
    }

    /// Looks again. Blocking where a file has changed.
    pub(super) fn look(&mut self) {
        let Self { given, found, files } = self;
        *found = given
            .iter()
            .map(|given| files.look(&given.file).map_err(|error| format!("{}: {}", given.file, chain(&error))))
            .collect();
    }

    /// What is wanted, with the files in their places.
    pub(super) fn apply(&self, mut desired: Desired) -> Desired {
        let forced = self.given.iter().filter_map(|given| {
            let name = given.forced.clone()?;
            Some(SlotId { service: given.service.clone(), name })
        });
        for slot in forced {
            desired.slots.entry(slot).or_default();
        }
        for (slot, intent) in &mut desired.slots {
            // The first one wins: the file before the environment.
            let mut given = self.given.iter().zip(&self.found);
            if let Some((given, found)) = given.find(|(given, _)| given.is_for(slot)) {
                *intent = Intent { override_file: Some(given.file.to_string()), ..replaced(found, &desired.deny) };
            }
        }
        desired
    }
}

fn replaced(found: &Result<Local, String>, deny: &std::collections::BTreeSet<supervisor_protocol::Sha256>) -> Intent {
    match found {
        Ok(local) if deny.contains(&local.sha256) => {
            Intent { blocked: Some(Reason::Denied { sha256: local.sha256.to_string() }), ..Intent::default() }
        }
        Ok(Local { path, sha256, size }) => {
            let urls = vec![format!("file:{path}")];
            let artifact = Artifact { sha256: *sha256, urls, size: Some(*size), entry: None, irreversible: false };
            Intent { artifact: Some(artifact), ..Intent::default() }
        }
        // What serves goes on: the catalog's word is not what the operator wants here.
        Err(detail) => {
            let detail = format!("the override cannot be used: {detail}");
            Intent { blocked: Some(Reason::Unservable { detail }), ..Intent::default() }
        }
    }
}
