//! `cargo xtask onnxruntime`: the pinned ONNX Runtime library, taken from the Python wheel of the project.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::tree::Tree;
use crate::wheel::Wheel;
use crate::{gpu, prerequisites, step};

pub const VERSION: &str = "1.31.1";
/// What the wheel says of itself and of the code in it.
pub const LICENCES: [&str; 2] = ["LICENSE", "ThirdPartyNotices.txt"];

const WHEELS: [Wheel; 2] = [
    Wheel {
        package: "onnxruntime",
        version: VERSION,
        architecture: "x86_64",
        sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    },
    Wheel {
        package: "onnxruntime",
        version: VERSION,
        architecture: "aarch64",
        sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    },
];

/// `cargo xtask onnxruntime`: its standard output is the path and nothing else.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    let (mut gpu, mut cuda_libs) = (false, false);
    for argument in arguments {
        match argument.as_str() {
            "--gpu" => gpu = true,
            "--cuda-libs" => (gpu, cuda_libs) = (true, true),
            unknown => bail!("`cargo xtask onnxruntime` takes --gpu and --cuda-libs, and was given `{unknown}`"),
        }
    }
    prerequisites::to_build()?;
    let path = if gpu { gpu::folder(tree, cuda_libs)? } else { library(tree)? };
    println!("{}", path.display());
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
    let folder = tree.layout().join("lib");
    let library = folder.join(format!("libonnxruntime.so.{VERSION}"));
    // It is put there by renaming a file whose wheel was checked: that it exists means that it is complete.
    if library.exists() {
        step::note(format_args!("{} is there", library.display()));
        return Ok(library);
    }
    let wheel = wheel_for(std::env::consts::OS, std::env::consts::ARCH)?;
    let scratch = tree.target().join(format!("onnxruntime-{}", std::process::id()));
    let unpacked = wheel.unpack(&scratch, &folder, is_core);
    // Best effort: a scratch folder left behind costs space only.
    let _ = fs::remove_dir_all(&scratch);
    unpacked?;
    ensure!(library.exists(), "the wheel holds no {}", library.display());
    step::note(format_args!("{}, sha256 of its wheel checked", library.display()));
    Ok(library)
}

/// `libonnxruntime.so.1.31.1`, without the providers' shell that a CPU has no use for.
fn is_core(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("libonnxruntime.so."))
}

/// A folder with the pinned library for an architecture, its licence and its notices. Fetched once.
pub fn with_licences(tree: &Tree, architecture: &str) -> Result<PathBuf> {
    let folder = tree.target().join(format!("onnxruntime-{VERSION}-{architecture}"));
    // It gets this name once it is complete.
    if folder.is_dir() {
        step::note(format_args!("{} is there", folder.display()));
        return Ok(folder);
    }
    let scratch = tree.target().join(format!("onnxruntime-{}", std::process::id()));
    let fresh = tree.target().join(format!("onnxruntime-{}.part", std::process::id()));
    let wanted = |file: &Path| is_core(file) || LICENCES.iter().any(|name| file.ends_with(name));
    let unpacked = wheel_for("linux", architecture)?.unpack(&scratch, &fresh, wanted);
    // Best effort: a scratch folder left behind costs space only.
    let _ = fs::remove_dir_all(&scratch);
    unpacked?;
    fs::rename(&fresh, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The file in such a folder.
pub fn library_in(folder: &Path) -> PathBuf {
    folder.join(format!("libonnxruntime.so.{VERSION}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_pinned_wheel_is_told_what_to_set() {
        assert_eq!(wheel_for("linux", "aarch64").unwrap().architecture, "aarch64");
        let error = wheel_for("macos", "aarch64").err().unwrap().to_string();
        assert!(error.contains("macos on aarch64") && error.contains("ORT_DYLIB_PATH"), "{error}");
    }
}
