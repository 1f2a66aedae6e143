//! Users: what versiond may do about them, and who is who.

use std::ffi::CString;
use std::fs;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use crate::process::Account;

/// The powers that keeping children apart takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Powers {
    /// To change users, to give files away, and to signal what has another user.
    pub(crate) users: bool,
    /// To look at other users' processes.
    pub(crate) look: bool,
}

/// By their numbers: CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID.
const FOR_USERS: u64 = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 7;
/// CAP_SYS_PTRACE.
const FOR_LOOKS: u64 = 1 << 19;

impl Powers {
    /// Those of this process. What cannot be told is not there.
    pub(crate) fn own() -> Powers {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Powers::of(line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default())
    }

    fn of(set: u64) -> Powers {
        Powers { users: set & FOR_USERS == FOR_USERS, look: set & FOR_LOOKS == FOR_LOOKS }
    }
}

/// The account of these names or numbers, with the groups that the user is in besides. Blocking.
///
/// # Errors
/// There is no such user or group: which, in words.
pub(crate) fn account(user: &str, group: Option<&str>) -> Result<Account, String> {
    let found = match user.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(user),
    };
    let known = found.map_err(|errno| format!("the user {user} cannot be looked up: {errno}"))?;
    let gid = group.map(gid).transpose()?;
    match known {
        Some(known) => {
            let gid = gid.unwrap_or(known.gid);
            let name = CString::new(known.name).map_err(|error| error.to_string())?;
            let groups = getgrouplist(&name, gid).map_err(|errno| format!("the groups of {user}: {errno}"))?;
            Ok(Account::new(known.uid, gid, groups.into_iter().filter(|other| *other != gid)))
        }
        // A number needs no entry, if its group is said too.
        None => match (user.parse(), gid) {
            (Ok(number), Some(gid)) => Ok(Account::new(Uid::from_raw(number), gid, [])),
            (Ok(_), None) => Err(format!("the user {user} has no entry here, so its group must be said too")),
            (Err(_), _) => Err(format!("there is no user {user} on this host")),
        },
    }
}

fn gid(group: &str) -> Result<Gid, String> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(group).map_err(|errno| format!("the group {group} cannot be looked up: {errno}"))?;
    found.map(|found| found.gid).ok_or_else(|| format!("there is no group {group} on this host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_power_is_needed() {
        assert_eq!(Powers::of(0), Powers { users: false, look: false });
        assert_eq!(Powers::of(0xe1), Powers { users: true, look: false });
        assert_eq!(Powers::of(0xe0 | 1 << 19), Powers { users: false, look: true });
        assert_eq!(Powers::of(u64::MAX), Powers { users: true, look: true });
    }

    #[test]
    fn names_and_numbers_are_accounts_and_strangers_are_named() {
        let root = account("root", None).unwrap();
        assert_eq!((root.uid().as_raw(), root.gid().as_raw()), (0, 0));
        assert_eq!(account("0", None).unwrap(), root);
        let bare = account("61234", Some("61235")).unwrap();
        assert_eq!((bare.uid().as_raw(), bare.gid().as_raw(), bare.groups()), (61_234, 61_235, vec![]));
        assert!(account("61234", None).unwrap_err().contains("61234"));
        assert_eq!(account("nobody-of-ours", None).unwrap_err(), "there is no user nobody-of-ours on this host");
        assert_eq!(account("root", Some("none-of-ours")).unwrap_err(), "there is no group none-of-ours on this host");
    }
}
