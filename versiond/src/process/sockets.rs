//! Whose socket answers on a port: the child's own, or a stranger's that happened to be there.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::ProcessId;
use super::identity::{Stat, all_processes, nonce_of};

/// To whom the listening socket belongs that a connection to `127.0.0.1:port` reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// To a process of the generation.
    Owned,
    /// To somebody else, at least in part.
    Foreign,
    /// Nobody listens.
    NotListening,
    /// The kernel does not show enough to say.
    Unverified,
}

/// Looks up the owner of a listening TCP port of the loopback address. Blocking, some milliseconds.
#[must_use]
pub fn owner_of_port(port: u16, process: &ProcessId) -> Ownership {
    let Ok(listening) = listening_inodes(port) else { return Ownership::Unverified };
    if listening.is_empty() {
        return Ownership::NotListening;
    }
    // Nearly always the leader itself listens; a look at every process of the machine is the exception.
    if sockets_of(process.pid).is_ok_and(|held| listening.is_subset(&held)) {
        return Ownership::Owned;
    }
    let Ok(held) = sockets_of_tree(process) else { return Ownership::Unverified };
    match (listening.is_subset(&held.inodes), held.complete) {
        (true, _) => Ownership::Owned,
        (false, true) => Ownership::Foreign,
        (false, false) => Ownership::Unverified,
    }
}

/// The sockets that share the connections to `127.0.0.1:port`: those on the nearest address only, as
/// the kernel looks them up.
fn listening_inodes(port: u16) -> io::Result<BTreeSet<u64>> {
    let v4 = fs::read_to_string("/proc/net/tcp")?;
    // Without IPv6 in the kernel there is no such table.
    let v6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    Ok(nearest(&v4, &v6, port))
}

fn nearest(v4: &str, v6: &str, port: u16) -> BTreeSet<u64> {
    let loopback = u32::from_ne_bytes([127, 0, 0, 1]);
    let mapped_prefix = format!("{:08X}{:08X}{:08X}", 0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]));
    let by_nearness = [
        listeners(v4, port, &format!("{loopback:08X}")),
        listeners(v6, port, &format!("{mapped_prefix}{loopback:08X}")),
        listeners(v4, port, &"0".repeat(8)),
        listeners(v6, port, &"0".repeat(32)),
    ];
    by_nearness.into_iter().find(|inodes| !inodes.is_empty()).unwrap_or_default()
}

fn listeners(table: &str, port: u16, address: &str) -> BTreeSet<u64> {
    const LISTEN: &str = "0A";
    let local = format!("{address}:{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1) == Some(&local.as_str()) && row.get(3) == Some(&LISTEN))
        .filter_map(|row| row.get(9)?.parse().ok())
        .collect()
}

struct Held {
    inodes: BTreeSet<u64>,
    /// Every process of the tree showed its descriptors.
    complete: bool,
}

fn sockets_of_tree(process: &ProcessId) -> io::Result<Held> {
    let mut held = Held { inodes: BTreeSet::new(), complete: true };
    for pid in all_processes()? {
        if !belongs(pid, process) {
            continue;
        }
        match sockets_of(pid) {
            Ok(inodes) => held.inodes.extend(inodes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => held.complete = false,
        }
    }
    Ok(held)
}

/// Whether a process is of the tree that `leader` began. The caller owns the leader, which is not reaped: its number is its own.
#[must_use]
pub fn belongs(pid: i32, leader: &ProcessId) -> bool {
    let in_group = || Stat::read(pid).is_ok_and(|stat| stat.group == leader.pid || stat.session == leader.pid);
    let has_nonce = || nonce_of(pid).is_ok_and(|nonce| nonce.as_ref() == Some(&leader.nonce));
    pid == leader.pid || in_group() || has_nonce()
}

fn sockets_of(pid: i32) -> io::Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed between the listing and the look.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let inode: Option<u64> =
            target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inodes.extend(inode);
    }
    Ok(inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn row(local: &str, state: &str, inode: u64) -> String {
        format!(
            "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 100\n"
        )
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn f27_the_nearest_address_answers_and_only_listeners_count() {
        let v4 = format!(
            "{HEAD}{}{}{}",
            row("0100007F:4E20", "0A", 1),
            row("00000000:4E20", "0A", 2),
            row("0100007F:4E20", "01", 3)
        );
        let v6 = format!(
            "{HEAD}{}{}",
            row(&format!("{}:4E20", "0".repeat(32)), "0A", 4),
            row("0000000000000000FFFF00000100007F:4E21", "0A", 5)
        );
        assert_eq!(nearest(&v4, &v6, 20_000), BTreeSet::from([1]));
        assert_eq!(nearest(HEAD, &v6, 20_000), BTreeSet::from([4]));
        assert_eq!(nearest(HEAD, &v6, 20_001), BTreeSet::from([5]));
        assert_eq!(nearest(&v4, &v6, 20_002), BTreeSet::new());
    }
}
