//! Which GPUs a CUDA library has machine code for, read from the code itself: `nvcc` puts it into the section
//! `.nv_fatbin`, one container for each source file, with one entry for each architecture. Only the entries' heads are
//! read, so a library of hundreds of megabytes takes milliseconds.
//!
//! NVIDIA publishes no description of that layout; this is as `nvcc` 11 to 13 write it. What looks otherwise is not
//! guessed at: then nothing is known.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use super::elf;

const SECTION: &str = ".nv_fatbin";
const MAGIC: u32 = 0xba55_ed50;
/// A container's head: magic, version, its own size, the size of what follows.
const HEAD: u64 = 16;
/// As much of an entry's head as is looked at: kind, version, its own size, size of the code; the architecture at 28,
/// flags at 40.
const ENTRY_HEAD: u64 = 64;
/// Between two containers, in bytes. After a longer one nothing more is looked for.
const LONGEST_GAP: u64 = 4096;
const PTX: u16 = 1;
const MACHINE_CODE: u16 = 2;
/// Of an entry's flags: code for one architecture alone, which NVIDIA writes `sm_90a`.
const EXACT: u64 = 1 << 20;

/// Code in a library: `sm_89` runs on 8.9 and later 8.x, `sm_90a` on 9.0 alone, `compute_80` on 8.0 and everything later,
/// for which the driver translates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    pub major: u32,
    pub minor: u32,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Runs on later GPUs of the same generation, too.
    Machine,
    /// Runs on this one alone.
    Exact,
    /// To be translated (PTX).
    Intermediate,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, letter) = match self.kind {
            Kind::Machine => ("sm", ""),
            Kind::Exact => ("sm", "a"),
            Kind::Intermediate => ("compute", ""),
        };
        write!(f, "{word}_{}{}{letter}", self.major, self.minor)
    }
}

impl Kernel {
    /// On a GPU of this compute capability.
    pub fn runs_on(self, capability: (u32, u32)) -> bool {
        match self.kind {
            Kind::Machine => self.major == capability.0 && self.minor <= capability.1,
            Kind::Exact => (self.major, self.minor) == capability,
            Kind::Intermediate => (self.major, self.minor) <= capability,
        }
    }
}

/// All there are, each once, in order; empty where the library has no code for GPUs, or of another layout.
pub fn kernels(library: &Path) -> io::Result<Vec<Kernel>> {
    let mut file = File::open(library)?;
    let Some((start, size)) = elf::section(&mut file, SECTION)? else { return Ok(Vec::new()) };
    let (mut at, end) = (start, start.saturating_add(size));
    let (mut found, mut gap) = (Vec::new(), 0);
    while at.saturating_add(HEAD) <= end && gap <= LONGEST_GAP {
        let head = elf::read(&mut file, at, HEAD)?;
        if elf::word(&head, 0) != Some(MAGIC) {
            // Containers lie at multiples of eight bytes, with zeros between them.
            at += 8;
            gap += 8;
            continue;
        }
        gap = 0;
        let (Some(own), Some(rest)) = (elf::half(&head, 6), elf::long(&head, 8)) else { break };
        if u64::from(own) < HEAD {
            break;
        }
        let entries = at.saturating_add(u64::from(own));
        at = entries.saturating_add(rest);
        read_entries(&mut file, entries, at.min(end), &mut found)?;
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn read_entries(file: &mut File, mut at: u64, end: u64, found: &mut Vec<Kernel>) -> io::Result<()> {
    while at.saturating_add(ENTRY_HEAD) <= end {
        let head = elf::read(file, at, ENTRY_HEAD)?;
        let (Some(kind), Some(own), Some(code)) = (elf::half(&head, 0), elf::word(&head, 4), elf::long(&head, 8))
        else {
            return Ok(());
        };
        let (Some(architecture), Some(flags)) = (elf::word(&head, 28), elf::long(&head, 40)) else { return Ok(()) };
        let kind = match kind {
            PTX => Some(Kind::Intermediate),
            MACHINE_CODE if flags & EXACT != 0 => Some(Kind::Exact),
            MACHINE_CODE => Some(Kind::Machine),
            _ => None,
        };
        found.extend(kind.map(|kind| Kernel { major: architecture / 10, minor: architecture % 10, kind }));
        if u64::from(own) < ENTRY_HEAD {
            return Ok(());
        }
        at = at.saturating_add(u64::from(own)).saturating_add(code);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::shared_object;

    /// An entry of 8 bytes of "code".
    fn entry(kind: u16, architecture: u32, flags: u64) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&64u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&8u64.to_le_bytes());
        bytes[28..32].copy_from_slice(&architecture.to_le_bytes());
        bytes[40..48].copy_from_slice(&flags.to_le_bytes());
        bytes.extend([0x5a; 8]);
        bytes
    }

    fn container(entries: &[Vec<u8>]) -> Vec<u8> {
        let entries = entries.concat();
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend(1u16.to_le_bytes());
        bytes.extend(16u16.to_le_bytes());
        bytes.extend((entries.len() as u64).to_le_bytes());
        bytes.extend(entries);
        bytes
    }

    fn library(folder: &Path, section: &[u8]) -> std::path::PathBuf {
        let list = section.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        let code = format!(
            "__attribute__((section(\"{SECTION}\"), used, aligned(8))) const unsigned char fatbin[] = {{{list}}};"
        );
        shared_object(folder, "libkernels.so", &code, &[])
    }

    #[test]
    fn the_code_says_which_gpus_it_is_for() {
        let folder = tempfile::tempdir().unwrap();
        // As nvcc 13 writes them: flags of plain and of exact code.
        let (plain, exact) = (0x8011, 0x10_8011);
        let first = container(&[entry(2, 75, plain), entry(2, 89, plain), entry(2, 90, exact)]);
        let second = container(&[entry(2, 89, plain), entry(2, 120, exact), entry(1, 80, plain), entry(64, 50, 0)]);
        let path = library(folder.path(), &[first, vec![0; 16], second].concat());
        let names: Vec<String> = kernels(&path).unwrap().iter().map(Kernel::to_string).collect();
        assert_eq!(names, ["sm_75", "compute_80", "sm_89", "sm_90a", "sm_120a"]);
    }

    #[test]
    fn what_is_cut_or_no_code_is_no_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let mut cut = container(&[entry(2, 75, 0), entry(2, 89, 0)]);
        cut.truncate(120);
        assert_eq!(kernels(&library(folder.path(), &cut)).unwrap().len(), 1);
        assert_eq!(kernels(&library(folder.path(), &[1; 100])).unwrap(), []);
        let empty = [&MAGIC.to_le_bytes()[..], &[0; 96]].concat();
        assert_eq!(kernels(&library(folder.path(), &empty)).unwrap(), []);
        assert_eq!(kernels(&shared_object(folder.path(), "libnone.so", "int x;", &[])).unwrap(), []);
        kernels(Path::new("/dev/null")).unwrap_err();
    }

    #[test]
    fn kernels_run_where_nvidia_says() {
        let kernel = |major, minor, kind| Kernel { major, minor, kind };
        for (kernel, runs, runs_not) in [
            (kernel(8, 6, Kind::Machine), vec![(8, 6), (8, 7), (8, 9)], vec![(8, 0), (9, 0), (7, 5)]),
            (kernel(9, 0, Kind::Exact), vec![(9, 0)], vec![(9, 1), (10, 0)]),
            (kernel(8, 7, Kind::Intermediate), vec![(8, 7), (9, 0), (11, 0)], vec![(8, 6), (7, 5)]),
        ] {
            assert!(runs.into_iter().all(|capability| kernel.runs_on(capability)), "{kernel}");
            assert!(!runs_not.into_iter().any(|capability| kernel.runs_on(capability)), "{kernel}");
        }
    }
}
