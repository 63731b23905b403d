//! `cargo xtask onnxruntime`: the pinned ONNX Runtime library, taken from the Python wheel of the project.
//!
//! pip finds the wheel (it knows mirrors, proxies and certificates); what it found is used only if its hash is ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::python_guest::hex;
use crate::tree::Tree;
use crate::{layout, prerequisites, step};

const VERSION: &str = "1.31.1";

struct Wheel {
    /// As `std::env::consts::ARCH` and the wheel's platform tag spell it.
    architecture: &'static str,
    sha256: &'static str,
}

const WHEELS: [Wheel; 2] = [
    Wheel { architecture: "x86_64", sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536" },
    Wheel { architecture: "aarch64", sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc" },
];

/// `cargo xtask onnxruntime`: its standard output is the path and nothing else.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    if let Some(unknown) = arguments.first() {
        bail!("`cargo xtask onnxruntime` takes no argument, and was given `{unknown}`");
    }
    prerequisites::to_build()?;
    println!("{}", library(tree)?.display());
    Ok(())
}

/// The library's path; fetched if it is not there yet.
pub fn library(tree: &Tree) -> Result<PathBuf> {
    if let Some(own) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        let own = PathBuf::from(own);
        ensure!(own.is_file(), "ORT_DYLIB_PATH is {}, which is not a file: correct or unset it", own.display());
        step::note(format_args!("{} (ORT_DYLIB_PATH)", own.display()));
        return Ok(own);
    }
    let name = format!("libonnxruntime.so.{VERSION}");
    let library = tree.layout().join("lib").join(&name);
    // It is put there by renaming a file whose wheel was checked: that it exists means that it is complete.
    if library.exists() {
        step::note(format_args!("{} is there", library.display()));
        return Ok(library);
    }
    let wheel = wheel_for(std::env::consts::OS, std::env::consts::ARCH)?;
    let scratch = tree.target().join(format!("onnxruntime-{}", std::process::id()));
    let fetched = fetch(wheel, &scratch).and_then(|archive| extract(&archive, &scratch, &name, &library));
    // Best effort: a scratch folder left behind costs space only.
    let _ = fs::remove_dir_all(&scratch);
    fetched?;
    Ok(library)
}

fn wheel_for(system: &str, architecture: &str) -> Result<&'static Wheel> {
    let wheel = WHEELS.iter().find(|wheel| system == "linux" && wheel.architecture == architecture);
    wheel.with_context(|| {
        format!(
            "no ONNX Runtime {VERSION} is pinned for {system} on {architecture}: \
             set ORT_DYLIB_PATH to a library of your own"
        )
    })
}

fn fetch(wheel: &Wheel, scratch: &Path) -> Result<PathBuf> {
    step::note(format_args!("fetching the wheel of onnxruntime {VERSION} for {}", wheel.architecture));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    // Any Python does: only the C library inside is used. `--platform` is an exact match, not a minimum.
    pip.args(["--python-version", "3.12", "--platform", &format!("manylinux_2_28_{}", wheel.architecture)]);
    pip.arg("--dest").arg(scratch).arg(format!("onnxruntime=={VERSION}"));
    // pip's progress is not the task's answer: it goes where ours goes.
    pip.stdin(Stdio::null()).stdout(std::io::stderr());
    step::run(&mut pip).context("pip could not fetch ONNX Runtime: check the network, or set ORT_DYLIB_PATH")?;
    let files = layout::files(scratch)?;
    let [archive] = files.as_slice() else {
        bail!("pip left {} files in {}, one wheel was expected", files.len(), scratch.display());
    };
    verify(&fs::read(archive)?, wheel.sha256).with_context(|| format!("{} is refused", archive.display()))?;
    Ok(archive.clone())
}

fn verify(bytes: &[u8], expected: &str) -> Result<()> {
    let found = hex(&Sha256::digest(bytes));
    ensure!(found == expected, "its sha256 is {found}, pinned is {expected}: the package index serves another file");
    Ok(())
}

fn extract(archive: &Path, scratch: &Path, name: &str, library: &Path) -> Result<()> {
    let unpacked = scratch.join("unpacked");
    step::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(archive).arg(&unpacked))?;
    let inside = unpacked.join("onnxruntime/capi").join(name);
    layout::place(&inside, library).context("the wheel is not laid out as expected")?;
    step::note(format_args!("{}, sha256 of its wheel checked", library.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_refused_with_both_hashes() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(verify(b"abc", expected).is_ok());
        let error = verify(b"abd", expected).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("its sha256 is a52d159f"), "{error}");
    }

    #[test]
    fn a_machine_without_a_pinned_wheel_is_told_what_to_set() {
        assert_eq!(wheel_for("linux", "aarch64").unwrap().architecture, "aarch64");
        let error = wheel_for("macos", "aarch64").err().unwrap().to_string();
        assert!(error.contains("macos on aarch64") && error.contains("ORT_DYLIB_PATH"), "{error}");
    }
}
