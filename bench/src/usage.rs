//! What a server has used so far, from `/proc`: processor time and memory.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Linux reports times to user space in hundredths of a second on every architecture Wharf runs on.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of all threads of process `pid`, ended ones included.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    ticks(&stat).map(|ticks| TICK * ticks).with_context(|| format!("{path} has no utime and stime: {stat:?}"))
}

fn ticks(stat: &str) -> Option<u32> {
    // The second field is the program's name in parentheses and may hold spaces: count from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let utime: u32 = fields.nth(11)?.parse().ok()?;
    let stime: u32 = fields.next()?.parse().ok()?;
    Some(utime + stime)
}

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// Pages in memory, those shared with other processes included.
    pub resident: u64,
    /// The same with shared pages divided among their users.
    pub proportional: u64,
}

pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let field = |name| kilobytes(&rollup, name).with_context(|| format!("{path} has no line {name}"));
    Ok(Memory { resident: field("Rss:")?, proportional: field("Pss:")? })
}

fn kilobytes(rollup: &str, name: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_skipped() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(12));
    }

    #[test]
    fn this_process_uses_memory() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.proportional > 100_000 && memory.resident >= memory.proportional, "{memory:?}");
    }

    #[test]
    fn lines_are_found_by_their_whole_name() {
        assert_eq!(kilobytes("Pss_Anon:  9 kB\nPss:   3 kB\n", "Pss:"), Some(3072));
    }
}
