//! What was last known of a pool, on the disk: a router that is restarted while DNS is away still knows its
//! members.
//!
//! Must not live here: what is worth remembering (that is `router-core`).

use std::io::{self, Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use router_core::pool::Remembered;
use serde::{Deserialize, Serialize};
use supervisor_protocol::SCHEMA;
use tokio::sync::watch;

/// The file of one pool; or nothing, where no folder is configured.
pub(crate) struct Memory {
    path: Option<Utf8PathBuf>,
    latest: watch::Sender<Remembered>,
}

#[derive(Serialize, Deserialize)]
struct File {
    schema: u32,
    #[serde(flatten)]
    remembered: Remembered,
}

impl Memory {
    pub(crate) fn new(folder: Option<&Utf8Path>, pool: &str) -> Memory {
        let path = folder.map(|folder| folder.join(format!("pool-{pool}.json")));
        Memory { path, latest: watch::Sender::default() }
    }

    /// What was written down. A file that cannot be read is as good as none: the members say all of it again.
    pub(crate) fn recall(&self) -> Option<Remembered> {
        let path = self.path.as_ref()?;
        let read = std::fs::read(path).and_then(|bytes| Ok(serde_json::from_slice::<File>(&bytes)?));
        match read {
            Ok(File { schema: SCHEMA, remembered }) => {
                self.latest.send_replace(remembered.clone());
                Some(remembered)
            }
            Ok(File { schema, .. }) => {
                tracing::warn!(%path, schema, "written by another release; the members are asked again");
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%path, %error, "cannot be read; the members are asked again");
                None
            }
        }
    }

    /// What is to be written down from now on.
    pub(crate) fn keep(&self, remembered: &Remembered) {
        self.latest.send_if_modified(|latest| {
            let is_new = latest != remembered;
            if is_new {
                latest.clone_from(remembered);
            }
            is_new
        });
    }

    /// Writes the latest down, whenever it has changed. A disk that hangs holds nobody up but this.
    pub(crate) fn writer(&self) -> impl Future<Output = ()> + Send + use<> {
        let (path, mut latest) = (self.path.clone(), self.latest.subscribe());
        async move {
            let Some(path) = path else { return };
            while latest.changed().await.is_ok() {
                let (remembered, to) = (latest.borrow_and_update().clone(), path.clone());
                let written = tokio::task::spawn_blocking(move || write(&to, &remembered)).await;
                if let Ok(Err(error)) = written {
                    tracing::warn!(%path, %error, "what is known of the members is not written down");
                }
            }
        }
    }
}

/// Whole or not at all, also after a power cut.
fn write(path: &Utf8Path, remembered: &Remembered) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Utf8Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let text = serde_json::to_vec_pretty(&File { schema: SCHEMA, remembered: remembered.clone() })?;
    file.write_all(&text)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use router_core::members::{Address, MemberId};
    use router_core::placement::Weight;
    use router_core::pool::RememberedMember;

    use super::*;

    #[test]
    fn what_is_kept_is_recalled_and_what_cannot_be_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let member = RememberedMember {
            id: MemberId::new("gpu-1").unwrap(),
            address: Address::new("10.0.0.1:8080").unwrap(),
            weight: Weight::DEFAULT,
        };
        let remembered = Remembered { members: vec![member], ..Remembered::default() };
        assert_eq!(Memory::new(Some(path), "x").recall(), None);
        let file = path.join("pool-x.json");
        write(&file, &remembered).unwrap();
        assert_eq!(Memory::new(Some(path), "x").recall(), Some(remembered));
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 1, "nothing is left beside it");
        for damaged in ["", "{", "{\"schema\":99}"] {
            std::fs::write(&file, damaged).unwrap();
            assert_eq!(Memory::new(Some(path), "x").recall(), None, "{damaged}");
        }
    }

    #[tokio::test]
    async fn what_changes_is_written_by_its_writer_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let memory = Memory::new(Some(path), "x");
        let writer = tokio::spawn(memory.writer());
        let remembered = Remembered { holders: vec![(None, MemberId::new("gpu-1").unwrap())], ..Remembered::default() };
        memory.keep(&remembered);
        // The writer ends once nothing more can change, with everything written.
        drop(memory);
        writer.await.unwrap();
        assert_eq!(Memory::new(Some(path), "x").recall(), Some(remembered));
    }
}
