//! How far children are kept apart from the supervisor and from each other, as `/v1/status` shows it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What holds on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Isolation {
    /// What holds a generation's processes together.
    pub processes: Containment,
    /// Whose uid they have.
    pub users: Users,
    /// Whether the owner of a listening socket can be told.
    pub socket_ownership: SocketOwnership,
    /// What the configuration asks for and this host does not give, and how to mend it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

impl Isolation {
    /// Process groups under the supervisor's own uid: what holds everywhere.
    #[must_use]
    pub const fn least() -> Self {
        Isolation {
            processes: Containment::Group,
            users: Users::None,
            socket_ownership: SocketOwnership::Unverified,
            remarks: Vec::new(),
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processes = match self.processes {
            Containment::Cgroup => "cgroups",
            Containment::Group => "process groups",
        };
        let users = match self.users {
            Users::Separate => "users as configured",
            Users::None => "no users (isolation: none)",
        };
        write!(f, "{processes}, {users}")?;
        match self.socket_ownership {
            SocketOwnership::Verified => Ok(()),
            SocketOwnership::Unverified => f.write_str(", socket ownership unverified"),
        }
    }
}

/// What a generation's processes cannot leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// A control group for each generation.
    Cgroup,
    /// A process group for each, and a nonce by which those that leave it are found.
    Group,
}

/// Under which uid children run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Users {
    /// Under the `user` of their service, where it names one.
    Separate,
    /// The supervisor cannot change a uid: all run under its own.
    None,
}

/// Whether a socket's owner can be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SocketOwnership {
    Verified,
    /// The kernel hides the descriptors of other users' processes.
    Unverified,
}
