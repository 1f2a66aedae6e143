//! The kernel's accounts of a process.

use anyhow::Context;
use nix::time::ClockId;
use nix::unistd::Pid;
use serde::Serialize;

/// Memory of a process now, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub rss: u64,
    /// Shared pages counted by their share.
    pub pss: u64,
}

/// Reads the memory of a process.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let field = |name: &str| field(&text, name).with_context(|| format!("{path} has no {name}"));
    Ok(Memory { rss: field("Rss:")? * 1_024, pss: field("Pss:")? * 1_024 })
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// CPU time that a process has used, in nanoseconds, with all its threads: also those that have ended.
pub fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid)?));
    let used = clock.and_then(ClockId::now).with_context(|| format!("cannot read the CPU clock of {pid}"))?;
    Ok(u64::try_from(std::time::Duration::from(used).as_nanos())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_its_cpu() {
        let pid = std::process::id();
        let Memory { rss, pss } = memory(pid).unwrap();
        assert!(rss >= pss && pss > 100_000, "{rss} {pss}");
        let before = cpu_ns(pid).unwrap();
        let busy: u64 = (0..20_000_000u64).fold(0, |sum, number| std::hint::black_box(sum ^ number));
        let used = cpu_ns(pid).unwrap();
        assert!(used > before, "{busy}");
        // A thread that has ended has used what it used.
        std::thread::spawn(|| (0..20_000_000u64).fold(0, |sum, number| std::hint::black_box(sum ^ number)))
            .join()
            .unwrap();
        assert!(cpu_ns(pid).unwrap() - used > (used - before) / 4);
    }

    #[test]
    fn a_field_is_read_by_its_whole_name() {
        let text = "Rss:  12 kB\nPss:   7 kB\nPss_Dirty: 5 kB\n";
        assert_eq!((field(text, "Rss:"), field(text, "Pss:"), field(text, "Swap:")), (Some(12), Some(7), None));
    }
}
