//! A disk that notes what is done to it, and every state that a loss of power may make of that: names come and
//! go in any combination until their folder is synchronised, bytes are lost, torn or zeroes until their file is.

use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::store::disk::Output;

/// An operation, by paths below the recorded folder and by the number of a file.
#[derive(Debug, Clone)]
pub(super) enum Op {
    MakeFolder(PathBuf),
    /// Opened or made, and cut off.
    Open(PathBuf, usize, u64),
    Write(usize, Vec<u8>),
    SyncFile(usize),
    SyncPath(PathBuf),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    Exchange(PathBuf, PathBuf),
    RemoveFile(PathBuf),
    RemoveFolder(PathBuf),
}

/// A disk that notes what is done to it. Nothing waits for the real one.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    root: PathBuf,
    pub(super) ops: Arc<Mutex<Vec<Op>>>,
    files: Arc<Mutex<usize>>,
}

struct RecordedFile {
    file: Box<dyn Output>,
    number: usize,
    ops: Arc<Mutex<Vec<Op>>>,
}

impl Write for RecordedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.ops.lock().push(Op::Write(self.number, bytes[..written].to_vec()));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Output for RecordedFile {
    fn sync(&mut self) -> io::Result<()> {
        self.ops.lock().push(Op::SyncFile(self.number));
        Ok(())
    }
}

impl Recorded {
    pub(super) fn new(root: &Path) -> Recorded {
        Recorded { root: root.to_owned(), ops: Arc::default(), files: Arc::default() }
    }

    /// Notes an operation that has been done.
    fn done<T>(&self, result: io::Result<T>, op: impl FnOnce() -> Op) -> io::Result<T> {
        if result.is_ok() {
            self.ops.lock().push(op());
        }
        result
    }

    fn below(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap().to_owned()
    }

    fn opened(&self, file: io::Result<Box<dyn Output>>, path: &Path, from: u64) -> io::Result<Box<dyn Output>> {
        let file = file?;
        let mut files = self.files.lock();
        *files += 1;
        self.ops.lock().push(Op::Open(self.below(path), *files, from));
        Ok(Box::new(RecordedFile { file, number: *files, ops: self.ops.clone() }))
    }
}

impl Disk for Recorded {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.done(RealDisk.make_folder(path), || Op::MakeFolder(self.below(path)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        self.opened(RealDisk.create(path), path, 0)
    }

    fn resume(&self, path: &Path, from: u64) -> io::Result<Box<dyn Output>> {
        self.opened(RealDisk.resume(path, from), path, from)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        RealDisk.set_mode(path, mode)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.done(Ok(()), || Op::SyncPath(self.below(path)))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.done(Ok(()), || Op::SyncFolder(self.below(path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.done(RealDisk.rename(from, to), || Op::Rename(self.below(from), self.below(to)))
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.done(RealDisk.exchange(one, other), || Op::Exchange(self.below(one), self.below(other)))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.done(RealDisk.remove_file(path), || Op::RemoveFile(self.below(path)))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.done(RealDisk.remove_folder(path), || Op::RemoveFolder(self.below(path)))
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free(path)
    }
}

/// What is under a path; a file by its number among all that ever were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

type Names = BTreeMap<PathBuf, Node>;

/// Bytes as they are, and as they were when they were last synchronised.
#[derive(Debug, Clone, Default)]
struct Bits {
    now: Vec<u8>,
    synced: Vec<u8>,
}

/// What a disk makes of bytes that were not synchronised.
#[derive(Debug, Clone, Copy)]
enum Unsynced {
    Lost,
    Torn,
    Zeroes,
    Kept,
}

/// A tree of files as it may be found after the power has come back.
pub(super) type State = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Applies an operation on names, as far as what it works on is there.
fn rename_all(names: &mut Names, op: &Op, created: Option<usize>) {
    let moved = |names: &mut Names, from: &Path, to: &Path| {
        let inside: Vec<PathBuf> = names.keys().filter(|path| path.starts_with(from)).cloned().collect();
        let taken: Vec<(PathBuf, Node)> = inside
            .into_iter()
            .filter_map(|path| {
                let below = path.strip_prefix(from).unwrap();
                let target = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
                Some((target, names.remove(&path)?))
            })
            .collect();
        names.extend(taken);
    };
    let has_parent = |names: &Names, path: &Path| {
        path.parent().is_none_or(|parent| parent.as_os_str().is_empty() || names.contains_key(parent))
    };
    match op {
        Op::MakeFolder(path) if has_parent(names, path) => drop(names.insert(path.clone(), Node::Folder)),
        Op::Open(path, ..) if has_parent(names, path) => {
            if let Some(file) = created {
                names.insert(path.clone(), Node::File(file));
            }
        }
        Op::Rename(from, to) if names.contains_key(from) && has_parent(names, to) => moved(names, from, to),
        Op::Exchange(one, other) if names.contains_key(one) && names.contains_key(other) => {
            let aside = PathBuf::from("aside");
            moved(names, one, &aside);
            moved(names, other, one);
            moved(names, &aside, other);
        }
        Op::RemoveFile(path) => drop(names.remove(path)),
        Op::RemoveFolder(path) => names.retain(|name, _| !name.starts_with(path)),
        // What it works on is not there.
        Op::MakeFolder(_) | Op::Open(..) | Op::Rename(..) | Op::Exchange(..) => {}
        Op::Write(..) | Op::SyncFile(_) | Op::SyncPath(_) | Op::SyncFolder(_) => {}
    }
}

/// Every state that the first operations may have left, on top of `before`.
pub(super) fn states(before: &State, ops: &[Op]) -> BTreeSet<State> {
    let mut bits: Vec<Bits> = Vec::new();
    let mut base = Names::new();
    for (path, bytes) in before {
        let node = bytes.as_ref().map_or(Node::Folder, |bytes| {
            bits.push(Bits { now: bytes.clone(), synced: bytes.clone() });
            Node::File(bits.len() - 1)
        });
        base.insert(path.clone(), node);
    }
    let mut now = base.clone();
    let mut open: BTreeMap<usize, usize> = BTreeMap::new();
    // Each with the file that it made, and whether it is on the disk for good.
    let mut changes: Vec<(&Op, Option<usize>, bool)> = Vec::new();
    let file_at = |names: &Names, path: &Path| match names.get(path) {
        Some(Node::File(file)) => Some(*file),
        Some(Node::Folder) | None => None,
    };
    for op in ops {
        match op {
            Op::Open(path, number, from) => {
                let there = file_at(&now, path);
                let file = there.unwrap_or_else(|| {
                    bits.push(Bits::default());
                    bits.len() - 1
                });
                bits[file].now.truncate(usize::try_from(*from).unwrap());
                open.insert(*number, file);
                if there.is_none() {
                    rename_all(&mut now, op, Some(file));
                    changes.push((op, Some(file), false));
                }
            }
            Op::Write(number, bytes) => bits[open[number]].now.extend_from_slice(bytes),
            Op::SyncFile(number) => bits[open[number]].synced = bits[open[number]].now.clone(),
            Op::SyncPath(path) => {
                let file = file_at(&now, path).unwrap();
                bits[file].synced = bits[file].now.clone();
            }
            Op::SyncFolder(folder) => {
                let is_in = |path: &PathBuf| path.parent() == Some(folder);
                // What a file was called before a move does not matter once the move is on the disk.
                let mut moved = Vec::new();
                for (change, ..) in &changes {
                    if let Op::Rename(from, to) = change
                        && is_in(to)
                    {
                        moved.push(from.clone());
                    }
                }
                for (change, _, is_durable) in &mut changes {
                    *is_durable |= match change {
                        Op::Rename(one, other) | Op::Exchange(one, other) => is_in(one) || is_in(other),
                        Op::Open(path, ..) => is_in(path) || moved.contains(path),
                        Op::MakeFolder(path) | Op::RemoveFile(path) | Op::RemoveFolder(path) => is_in(path),
                        Op::Write(..) | Op::SyncFile(_) | Op::SyncPath(_) | Op::SyncFolder(_) => false,
                    };
                }
            }
            Op::MakeFolder(_) | Op::Rename(..) | Op::Exchange(..) | Op::RemoveFile(_) | Op::RemoveFolder(_) => {
                rename_all(&mut now, op, None);
                changes.push((op, None, false));
            }
        }
    }
    let pending = changes.iter().filter(|(.., is_durable)| !is_durable).count();
    assert!(pending <= 12, "{pending} names wait for the disk: {changes:?}");
    let mut all = BTreeSet::new();
    for chosen in 0u32..1 << pending {
        let (mut names, mut place) = (base.clone(), 0);
        for (op, created, is_durable) in &changes {
            let is_chosen = *is_durable || {
                place += 1;
                chosen & (1 << (place - 1)) != 0
            };
            if is_chosen {
                rename_all(&mut names, op, *created);
            }
        }
        for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Zeroes, Unsynced::Kept] {
            let found = |file: usize| {
                let Bits { now, synced } = &bits[file];
                match unsynced {
                    Unsynced::Lost => synced.clone(),
                    Unsynced::Torn => now[..now.len().max(synced.len()) / 2 + synced.len().min(now.len()) / 2].to_vec(),
                    Unsynced::Zeroes if now != synced => vec![0; now.len()],
                    Unsynced::Zeroes | Unsynced::Kept => now.clone(),
                }
            };
            let bytes = |node: &Node| match node {
                Node::Folder => None,
                Node::File(file) if bits[*file].now == bits[*file].synced => Some(bits[*file].now.clone()),
                Node::File(file) => Some(found(*file)),
            };
            all.insert(names.iter().map(|(path, node)| (path.clone(), bytes(node))).collect());
        }
    }
    all
}

pub(super) fn read(root: &Path, below: &Path, into: &mut State) {
    for item in fs::read_dir(root.join(below)).unwrap() {
        let item = item.unwrap();
        let path = below.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            into.insert(path.clone(), None);
            read(root, &path, into);
        } else {
            into.insert(path, Some(fs::read(item.path()).unwrap()));
        }
    }
}

pub(super) fn build(state: &State) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (path, bytes) in state {
        let path = folder.path().join(path);
        match bytes {
            None => fs::create_dir(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
    }
    folder
}
