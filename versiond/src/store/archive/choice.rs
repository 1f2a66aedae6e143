//! Which member of an archive is the program. Pure: members are shown one after the other.

use super::{MOST_MEMBERS, Unusable};

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// A link, a device, a pipe, a file with holes.
    Other,
    /// A file that only a password opens.
    Encrypted,
}

/// The search for the member that `entry` names.
#[derive(Debug)]
pub(super) struct Choice<'e> {
    entry: Option<&'e str>,
    seen: usize,
    /// Members with the whole path that was named.
    exact: Found,
    /// Members with its base name, or all when none was named.
    alike: Found,
}

#[derive(Debug, Default)]
struct Found {
    count: usize,
    first: Option<Member>,
}

#[derive(Debug, Clone)]
struct Member {
    index: usize,
    name: String,
    kind: Kind,
}

/// Whether a member is the one that `entry` names: by its whole path, or by its base name.
pub(in crate::store) fn is_named(member: &str, entry: &str) -> bool {
    member == entry || base(member) == base(entry)
}

impl<'e> Choice<'e> {
    pub(super) fn new(entry: Option<&'e str>) -> Self {
        Self { entry, seen: 0, exact: Found::default(), alike: Found::default() }
    }

    /// Looks at the next member. An archive with a name that leads out of it is refused whole, wherever the
    /// program is.
    pub(super) fn consider(&mut self, index: usize, name: &[u8], kind: Kind) -> Result<(), Unusable> {
        self.seen += 1;
        if self.seen > MOST_MEMBERS {
            return Err(Unusable::TooManyMembers { cap: MOST_MEMBERS });
        }
        let name = String::from_utf8_lossy(name);
        let name = name.strip_prefix("./").unwrap_or(&name);
        if leads_out(name) {
            return Err(Unusable::Escapes(name.to_owned()));
        }
        if kind == Kind::Folder {
            return Ok(());
        }
        let found = match self.entry {
            Some(entry) if name == entry => &mut self.exact,
            Some(entry) if !is_named(name, entry) => return Ok(()),
            Some(_) | None => &mut self.alike,
        };
        found.count += 1;
        found.first.get_or_insert_with(|| Member { index, name: name.to_owned(), kind });
        Ok(())
    }

    /// The one member that is the program: its index and its name.
    pub(super) fn made(self) -> Result<(usize, String), Unusable> {
        // The whole path names one member of several with the same base name.
        let found = if self.exact.count > 0 { self.exact } else { self.alike };
        let Some(member) = found.first else {
            return Err(self.entry.map_or(Unusable::NoEntryNamed(0), |entry| Unusable::NoMember(entry.to_owned())));
        };
        if found.count > 1 {
            return Err(match self.entry {
                Some(entry) => Unusable::Ambiguous { entry: entry.to_owned(), count: found.count },
                None => Unusable::NoEntryNamed(found.count),
            });
        }
        match member.kind {
            Kind::File => Ok((member.index, member.name)),
            Kind::Folder | Kind::Other => Err(Unusable::NotAFile(member.name)),
            Kind::Encrypted => Err(Unusable::Encrypted(member.name)),
        }
    }
}

fn leads_out(name: &str) -> bool {
    name.starts_with('/') || name.contains(['\\', '\0']) || name.split('/').any(|part| part == "..")
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
