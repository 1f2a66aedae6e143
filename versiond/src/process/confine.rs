//! What a process is kept in, made before it is forked: its control group and its user.

use std::sync::Arc;

use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};

use super::cgroup::Group;

/// What a process is kept in. By default its process group alone, under the supervisor's own user.
#[derive(Debug, Clone, Default)]
pub struct Confine {
    /// Its control group, which nothing else is in. It is removed after the last of its processes.
    pub group: Option<Arc<Group>>,
    pub account: Option<Account>,
}

/// A user as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    uid: u32,
    gid: u32,
    /// Beside `gid`.
    groups: Vec<u32>,
}

impl Account {
    #[must_use]
    pub fn new(uid: Uid, gid: Gid, groups: impl IntoIterator<Item = Gid>) -> Self {
        Self { uid: uid.as_raw(), gid: gid.as_raw(), groups: groups.into_iter().map(Gid::as_raw).collect() }
    }

    #[must_use]
    pub fn uid(&self) -> Uid {
        Uid::from_raw(self.uid)
    }

    #[must_use]
    pub fn gid(&self) -> Gid {
        Gid::from_raw(self.gid)
    }

    #[must_use]
    pub fn groups(&self) -> Vec<Gid> {
        self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect()
    }
}
