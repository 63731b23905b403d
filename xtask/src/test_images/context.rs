//! What the images are built from: the Dockerfiles and a `dist/` with the program, ONNX Runtime and the SBOM, laid out as
//! `BINARIES=prebuilt` expects it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Asked;
use crate::tree::{Tree, cargo};
use crate::{gpu, layout, onnxruntime, sbom, step};

/// What stands where an arm64 program would, if there is none.
const NO_PROGRAM: &[u8] = b"no program for arm64 was given to `cargo xtask test-images`\n";

/// The folder to build from. Made anew, but for files that are the same.
pub fn lay_out(tree: &Tree, work: &Path, asked: &Asked) -> Result<PathBuf> {
    let context = work.join("context");
    layout::mirror(&tree.root().join("Dockerfiles"), &context.join("Dockerfiles"))?;
    let program = stripped(&program(tree, asked)?, &work.join("wharf"), "strip")?;
    let arm64 = match &asked.wharf_arm64 {
        Some(given) => stripped(given, &work.join("wharf-arm64"), "aarch64-linux-gnu-strip")?,
        None => {
            let path = work.join("wharf-arm64");
            layout::write(&path, NO_PROGRAM)?;
            path
        }
    };
    let library = onnxruntime::library(tree)?;
    let for_arm64 = onnxruntime::library_in(&onnxruntime::with_licences(tree, "aarch64")?);
    let parts = [
        ("cpu/amd64", &program, "x86_64", "Dockerfiles/onnxruntime.txt"),
        ("cpu/arm64", &arm64, "aarch64", "Dockerfiles/onnxruntime.txt"),
        ("cuda/amd64", &program, "x86_64", "Dockerfiles/onnxruntime-gpu.txt"),
        ("l4t/arm64", &arm64, "aarch64", "1.31.1"),
    ];
    for (folder, program, machine, runtime) in parts {
        let folder = context.join("dist").join(folder);
        executable(program, &folder.join("bin/wharf"))?;
        let bom = sbom::document(tree, &format!("{machine}-unknown-linux-gnu"), runtime)?;
        layout::write(&folder.join("share/sbom.cdx.json"), bom.as_bytes())?;
        layout::place(&tree.root().join("LICENSE"), &folder.join("share/LICENSE"))?;
        // The image for Jetsons takes ONNX Runtime from elsewhere.
        if !folder.starts_with(context.join("dist/l4t")) {
            place_library(if machine == "aarch64" { &for_arm64 } else { &library }, &folder.join("lib"))?;
        }
    }
    if asked.gpu {
        let to = context.join("dist/cuda/amd64/lib");
        for file in layout::files(&gpu::folder(tree, false)?)? {
            // Marks of what was fetched, and NVIDIA's own libraries, stay out: those are the base's.
            if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime")) {
                place_library(&file, &to)?;
            }
        }
    }
    for empty in ["state/wharf", "services"] {
        let folder = context.join("dist/l4t/arm64").join(empty);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let given = context.join("dist/l4t/onnxruntime-jetpack6");
    place_library(&for_arm64, &given.join("lib"))?;
    layout::write(
        &given.join("share/onnxruntime/README"),
        b"the wheel for aarch64 CPUs stands in for a library of a Jetson\n",
    )?;
    Ok(context)
}

fn program(tree: &Tree, asked: &Asked) -> Result<PathBuf> {
    if let Some(given) = &asked.wharf {
        return Ok(given.clone());
    }
    let mut build = Command::new(cargo());
    build.args(["build", "--release", "--package", "wharf"]).current_dir(tree.root());
    step::run(&mut build)?;
    Ok(tree.program("wharf"))
}

/// A copy without symbols; what is stripped already, or of another machine, stays as it is.
fn stripped(program: &Path, to: &Path, strip: &str) -> Result<PathBuf> {
    fs::copy(program, to).with_context(|| format!("cannot copy {} to {}", program.display(), to.display()))?;
    if !step::succeeds(Command::new(strip).arg(to)) {
        step::note(format_args!("{strip} does not work here: {} keeps its symbols", to.display()));
    }
    Ok(to.to_owned())
}

fn executable(program: &Path, to: &Path) -> Result<()> {
    layout::place(program, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).with_context(|| format!("cannot chmod {}", to.display()))
}

fn place_library(library: &Path, folder: &Path) -> Result<()> {
    let name = library.file_name().context("a library has a name")?;
    layout::place(library, &folder.join(name))
}
