//! A disk that fails at one operation after the other: full, or read-only from then on.

use super::mirror::Mirror;
use super::*;
use crate::store::disk::Output;

/// Fails from the given operation on.
#[derive(Debug, Clone)]
struct Failing {
    left: Arc<Mutex<usize>>,
    kind: io::ErrorKind,
}

struct FailingFile {
    file: Box<dyn Output>,
    disk: Failing,
}

impl Failing {
    fn pass(&self) -> io::Result<()> {
        let mut left = self.left.lock();
        match left.checked_sub(1) {
            Some(less) => {
                *left = less;
                Ok(())
            }
            None => Err(self.kind.into()),
        }
    }

    fn file(&self, file: io::Result<Box<dyn Output>>) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(FailingFile { file: file?, disk: self.clone() }))
    }
}

impl Write for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What fits is written, as a disk does that fills up.
        let fits = if self.disk.pass().is_err() { bytes.len() / 2 } else { bytes.len() };
        let written = self.file.write(&bytes[..fits])?;
        if fits < bytes.len() && written == 0 { Err(self.disk.kind.into()) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Output for FailingFile {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.pass()
    }
}

impl Disk for Failing {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.pass().and_then(|()| RealDisk.make_folder(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        self.pass().and_then(|()| self.file(RealDisk.create(path)))
    }

    fn resume(&self, path: &Path, from: u64) -> io::Result<Box<dyn Output>> {
        self.pass().and_then(|()| self.file(RealDisk.resume(path, from)))
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.pass().and_then(|()| RealDisk.set_mode(path, mode))
    }

    fn sync_file(&self, _: &Path) -> io::Result<()> {
        self.pass()
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.pass()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass().and_then(|()| RealDisk.rename(from, to))
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.pass().and_then(|()| RealDisk.exchange(one, other))
    }

    // A full disk takes a removal.
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        if self.kind == io::ErrorKind::ReadOnlyFilesystem {
            self.pass()?
        }
        RealDisk.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        if self.kind == io::ErrorKind::ReadOnlyFilesystem {
            self.pass()?
        }
        RealDisk.remove_folder(path)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free(path)
    }
}

/// F45: whichever operation is the first to fail, what is in the store stays as it is, the error is the disk's,
/// and the next attempt on a disk that works comes to the end.
#[tokio::test]
async fn f45_a_disk_that_fails_at_any_operation_spoils_nothing_and_is_made_up_for() {
    let mirror = Mirror::start().await;
    let kept = artifact(b"\x7fELF kept", &[mirror.body("/kept", b"\x7fELF kept")]);
    let archive = zipped(&[("README", b"hello"), ("demo", &[7; 300_000])]);
    let wanted = Artifact { entry: Some("demo".to_owned()), ..artifact(&archive, &[mirror.body("/a", &archive)]) };
    let client = Client::new(HERE, SILENCE, None).unwrap();
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::ReadOnlyFilesystem] {
        let mut failures = 0;
        loop {
            let folder = TempDir::new().unwrap();
            let installed = get(&open(&folder), &kept, None).await.unwrap();
            let disk = Failing { left: Arc::new(Mutex::new(failures)), kind };
            let path = folder.path().join("store");
            let store = Store::open_on(Arc::new(disk), &path, true, client.clone()).unwrap();
            let came = get(&store, &wanted, None).await;
            assert_eq!(std::fs::read(&installed.path).unwrap(), b"\x7fELF kept");
            assert_eq!(get(&store, &kept, None).await.unwrap(), installed, "after {failures} operations");
            if let Ok(came) = came {
                assert_eq!(std::fs::read(came.path).unwrap(), [7; 300_000]);
                break;
            }
            assert!(matches!(came, Err(StoreError::Disk { .. })), "{came:?} after {failures} operations");
            drop(store);
            let again = open(&folder);
            assert_eq!(std::fs::read(get(&again, &wanted, None).await.unwrap().path).unwrap(), [7; 300_000]);
            assert_eq!(names(&folder).len(), 2, "after {failures} operations");
            failures += 1;
            assert!(failures < 200, "it never comes to an end");
        }
        assert!(failures > 10, "only {failures} operations");
    }
}
