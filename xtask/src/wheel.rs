//! A pinned Python wheel, fetched for the shared libraries in it. pip finds it (it knows mirrors, proxies and
//! certificates); what it found is used only if its hash is ours.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::python_guest::hex;
use crate::{layout, step};

/// Every tag that one of our wheels carries: `--platform` is an exact match, not a minimum.
const TAGS: [&str; 5] = ["manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"];

/// One file of the package index.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    pub package: &'static str,
    pub version: &'static str,
    /// As `std::env::consts::ARCH` and the wheel's platform tag spell it.
    pub architecture: &'static str,
    pub sha256: &'static str,
}

impl Wheel {
    /// Fetches it, checks it and puts those of its files that `wanted` names into `folder`. `scratch` is a folder of
    /// this run's own.
    pub fn unpack(&self, scratch: &Path, folder: &Path, wanted: fn(&Path) -> bool) -> Result<()> {
        let archive = self.fetch(&scratch.join(self.package))?;
        let unpacked = scratch.join(format!("{}-unpacked", self.package));
        step::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&archive).arg(&unpacked))?;
        let mut placed = 0;
        for file in layout::files(&unpacked)?.iter().filter(|file| wanted(file)) {
            let name = file.file_name().with_context(|| format!("{} has no name", file.display()))?;
            layout::place(file, &folder.join(name))?;
            placed += 1;
        }
        ensure!(placed > 0, "the wheel {} is not laid out as expected", archive.display());
        // Gigabytes may still be to come.
        let _ = fs::remove_dir_all(scratch);
        Ok(())
    }

    fn fetch(&self, scratch: &Path) -> Result<PathBuf> {
        step::note(format_args!("fetching the wheel of {} {} for {}", self.package, self.version, self.architecture));
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
        // Any Python does: only the libraries inside are used.
        pip.args(["--python-version", "3.12"]);
        for tag in TAGS {
            pip.args(["--platform", &format!("{tag}_{}", self.architecture)]);
        }
        pip.arg("--dest").arg(scratch).arg(format!("{}=={}", self.package, self.version));
        // pip's progress is not the task's answer: it goes where ours goes.
        pip.stdin(Stdio::null()).stdout(std::io::stderr());
        step::run(&mut pip).with_context(|| {
            format!("pip could not fetch {}: check the network, or set ORT_DYLIB_PATH", self.package)
        })?;
        let files = layout::files(scratch)?;
        let [archive] = files.as_slice() else {
            bail!("pip left {} files in {}, one wheel was expected", files.len(), scratch.display());
        };
        verify(archive, self.sha256).with_context(|| format!("{} is refused", archive.display()))?;
        Ok(archive.clone())
    }
}

fn verify(archive: &Path, expected: &str) -> Result<()> {
    let mut file = File::open(archive)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    let found = hex(&digest.finalize());
    ensure!(found == expected, "its sha256 is {found}, pinned is {expected}: the package index serves another file");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_refused_with_both_hashes() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let file = std::env::temp_dir().join(format!("wharf-xtask-wheel-{}", std::process::id()));
        fs::write(&file, b"abc").unwrap();
        assert!(verify(&file, expected).is_ok());
        fs::write(&file, b"abd").unwrap();
        let error = verify(&file, expected).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("its sha256 is a52d159f"), "{error}");
        fs::remove_file(file).unwrap();
    }
}
