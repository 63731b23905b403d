//! What a program needs of the machine it runs on, read by binutils (which come with every C compiler).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::step;

/// Major and minor.
pub type Version = (u32, u32);

/// The newest glibc that the file asks for.
pub fn glibc(file: &Path) -> Result<Version> {
    let needs = needs(file)?;
    let newest = needs.get("GLIBC").copied();
    newest.with_context(|| format!("{} asks for no version of glibc: is it a dynamic program?", file.display()))
}

/// The newest version of each family of symbols that the file asks for: GLIBC, GLIBCXX, GCC, ….
pub fn needs(file: &Path) -> Result<BTreeMap<String, Version>> {
    let text = step::capture(Command::new("readelf").args(["--wide", "--version-info"]).arg(file).env("LC_ALL", "C"))
        .context("readelf (package binutils) tells which glibc is needed")?;
    Ok(newest(&text))
}

/// Of lines such as `  0x0040:   Name: GLIBC_2.34  Flags: none  Version: 4`.
fn newest(text: &str) -> BTreeMap<String, Version> {
    let mut newest = BTreeMap::new();
    for line in text.lines() {
        let name = line.split_once("Name: ").and_then(|(_, rest)| rest.split_whitespace().next());
        let Some((family, version)) = name.and_then(|name| name.split_once('_')) else { continue };
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
        if let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) {
            let known = newest.entry(family.to_owned()).or_insert((major, minor));
            *known = (*known).max((major, minor));
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let text = "\
Version needs section '.gnu.version_r' contains 2 entries:
  000000: Version: 1  File: libc.so.6  Cnt: 3
  0x0010:   Name: GLIBC_2.9  Flags: none  Version: 5
  0x0020:   Name: GLIBC_2.34  Flags: none  Version: 4
  0x0030:   Name: GLIBC_2.2.5  Flags: none  Version: 3
  000040: Version: 1  File: libgcc_s.so.1  Cnt: 1
  0x0050:   Name: GCC_4.2.0  Flags: none  Version: 2
  0x0060:   Name: GLIBC_PRIVATE  Flags: none  Version: 2";
        let found = newest(text);
        assert_eq!(found.get("GLIBC"), Some(&(2, 34)));
        assert_eq!(found.get("GCC"), Some(&(4, 2)));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn this_test_itself_needs_a_glibc() {
        let (major, _) = glibc(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(major, 2);
    }
}
