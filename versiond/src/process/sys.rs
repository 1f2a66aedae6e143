//! The kernel calls that have no safe wrapper. This is the one module that may hold `unsafe`.
//!
//! Lives here: thin functions, one call each, that turn a result into an `io::Result` and a number
//! into an owned descriptor. Must not live here: policy, loops over processes, anything with state.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_void};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::ExitInfo;

/// Whether a wait takes the exit status away or leaves the zombie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// The zombie stays, and its process id stays taken.
    Peek,
    /// The zombie goes.
    Reap,
}

/// Whether a wait blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Yes,
    No,
}

/// Gives memory that is free at the end of the heap back to the kernel, from so many bytes on, and keeps to that:
/// glibc's own bound grows with the largest block that was ever freed. Another allocator keeps to its own.
pub(super) fn trim_heap_from(bytes: c_int) {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes two integers and changes a setting under the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, bytes);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = bytes;
}

/// A descriptor for the process `pid`. It is closed on exec.
pub(super) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and returns a new descriptor or -1.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let raw = c_int::try_from(raw).map_err(io::Error::other)?;
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Watches a pidfd, which becomes readable when the process exits. Within a tokio runtime.
pub(super) fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is one open descriptor from its first to its last moment, and the AsyncFd owns it.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

/// Sends a signal to the one process that a pidfd stands for.
pub(super) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is borrowed for the call, and a null siginfo is allowed.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal as c_int, no_info, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for the exit of the child behind a pidfd. `None`: it still runs (only with [`Block::No`]).
pub(super) fn wait_pidfd(pidfd: BorrowedFd<'_>, wait: Wait, block: Block) -> io::Result<Option<ExitInfo>> {
    let id = libc::id_t::try_from(pidfd.as_raw_fd()).map_err(io::Error::other)?;
    wait_id(libc::P_PIDFD, id, wait, block)
}

/// Reaps the child `pid` if it has exited. `None`: it still runs.
pub(super) fn reap_pid(pid: i32) -> io::Result<Option<ExitInfo>> {
    let id = libc::id_t::try_from(pid).map_err(io::Error::other)?;
    wait_id(libc::P_PID, id, Wait::Reap, Block::No)
}

fn wait_id(kind: libc::idtype_t, id: libc::id_t, wait: Wait, block: Block) -> io::Result<Option<ExitInfo>> {
    let mut flags = libc::WEXITED;
    if wait == Wait::Peek {
        flags |= libc::WNOWAIT;
    }
    if block == Block::No {
        flags |= libc::WNOHANG;
    }
    loop {
        // SAFETY: siginfo_t is plain data, for which all zeroes is a valid value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is a valid place for the answer during the call.
        let done = unsafe { libc::waitid(kind, id, &mut info, flags) };
        if done < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        // SAFETY: a successful waitid has filled in the fields of a SIGCHLD, or left zeroes.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        return Ok(match info.si_code {
            _ if pid == 0 => None,
            libc::CLD_EXITED => Some(ExitInfo::Code(status)),
            _ => Some(ExitInfo::Signal(status)),
        });
    }
}

/// Marks every descriptor from `first` on as closed on exec.
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC the call closes nothing now, so that every owner stays valid.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives every signal its default disposition. Ignored ones would survive an exec.
///
/// By the bare call: libc's refuses the two signals that it keeps for itself, and its `posix_spawn`
/// leaves just those ignored. To be called in a process with one thread, before an exec.
pub(super) fn reset_signals() {
    /// Bytes of a signal set in the kernel, for 64 signals.
    const SET: usize = 8;
    // Larger than the kernel's `struct sigaction` on every architecture; all zeroes is SIG_DFL, no flags.
    let default = [0u64; 8];
    let no_old: *mut u64 = std::ptr::null_mut();
    for signal in 1..=64 {
        // SAFETY: `default` is valid during the call, and the old action is not asked for. SIGKILL and
        // SIGSTOP are refused, which changes nothing.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), no_old, SET) };
    }
}

/// Sends `data`, which may not be empty, with descriptors beside it.
pub(super) fn send_with_fds(socket: BorrowedFd<'_>, data: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let parts = [IoSlice::new(data)];
    let sent = sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    if sent == data.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one byte and the descriptors beside it (at most four), closed on exec. No byte = end of file.
pub(super) fn receive_with_fds(socket: BorrowedFd<'_>) -> io::Result<(Option<u8>, Vec<OwnedFd>)> {
    let mut byte = [0u8];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let read = message.bytes;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for this process, each once.
            fds.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    Ok(((read == 1).then_some(byte[0]), fds))
}

/// A second descriptor of `file` that an exec leaves open, numbered `at_least` or above. It stays open
/// until this process ends.
pub(super) fn keep_across_exec(file: &File, at_least: RawFd) -> io::Result<RawFd> {
    Ok(nix::fcntl::fcntl(file.as_fd(), nix::fcntl::FcntlArg::F_DUPFD(at_least))?)
}

/// A second descriptor, numbered `at_least` or above and closed on exec.
pub(super) fn lift(fd: impl AsFd, at_least: RawFd) -> io::Result<OwnedFd> {
    let raw = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(at_least))?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A second descriptor with exactly this number, which nobody may own. An exec leaves it open.
pub(super) fn place(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: the call takes two integers; that nobody owns `number` is the caller's word.
    let done = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An extended attribute of a file, of at most 64 bytes.
pub(super) fn attribute(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let name = CString::new(name)?;
    let mut value = [0u8; 64];
    let into = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: both names end with a zero, and the kernel writes at most as many bytes as `value` has.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), into, value.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok(value[..length.min(value.len())].to_vec())
}
