//! The folder that is packed, as it is to lie on the machine that runs it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Release, licences};
use crate::tree::Tree;
use crate::{layout, onnxruntime, step};

/// Where each shell looks for completions, below `share/`.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/wharf"),
    ("zsh", "zsh/site-functions/_wharf"),
    ("fish", "fish/vendor_completions.d/wharf.fish"),
];

/// Files of this tree, and their place in the folder.
const FILES: [(&str, &str); 5] = [
    ("packaging/wharf.service", "systemd/wharf.service"),
    ("packaging/default", "systemd/default"),
    ("packaging/install.sh", "install.sh"),
    ("packaging/README", "README"),
    ("LICENSE", "licenses/wharf.txt"),
];

/// Makes `root` anew. `program` runs on this machine: it writes its own completions and manual.
pub fn lay_out(tree: &Tree, release: &Release, program: &Path, wheel: &Path, root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("cannot replace {}", root.display()))?;
    }
    let installed = root.join("bin/wharf");
    layout::place(program, &installed)?;
    // A build without the profile `dist` has its symbols still; stripping twice changes nothing.
    step::run(Command::new("strip").arg("--strip-all").arg(&installed))?;
    for (source, place) in FILES {
        layout::place(&tree.root().join(source), &root.join(place))?;
    }
    library(wheel, &root.join("lib"))?;
    for (source, place) in onnxruntime::LICENCES.iter().zip(["onnxruntime.txt", "onnxruntime-third-parties.txt"]) {
        layout::place(&wheel.join(source), &root.join("licenses").join(place)).context("the wheel lacks a licence")?;
    }
    let crates = licences::third_parties(tree, &release.triple)?;
    layout::write(&root.join("licenses/crates.txt"), crates.as_bytes())?;
    // Twice: only then does the program run, and what it writes gets its modes after.
    modes(root)?;
    written_by_the_program(&installed, &root.join("share"))?;
    modes(root)
}

/// The library with the links that people and linkers expect; the host takes the full name.
fn library(wheel: &Path, folder: &Path) -> Result<()> {
    let library = onnxruntime::library_in(wheel);
    let name = library.file_name().context("a library has a name")?;
    layout::place(&library, &folder.join(name)).context("the wheel is not laid out as expected")?;
    for link in ["libonnxruntime.so.1", "libonnxruntime.so"] {
        symlink(name, folder.join(link)).with_context(|| format!("cannot link {link}"))?;
    }
    Ok(())
}

fn written_by_the_program(program: &Path, share: &Path) -> Result<()> {
    for (shell, place) in COMPLETIONS {
        let script = step::capture(Command::new(program).args(["completion", shell]))?;
        layout::write(&share.join(place), script.as_bytes())?;
    }
    step::run(Command::new(program).arg("manual").arg(share.join("man/man1")))
}

/// The same rights whatever the umask of who builds.
fn modes(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        let runs =
            path.is_dir() || path.ends_with("bin/wharf") || path.extension().is_some_and(|ending| ending == "sh");
        fs::set_permissions(&path, Permissions::from_mode(if runs { 0o755 } else { 0o644 }))?;
        if path.is_dir() {
            modes(&path)?;
        }
    }
    fs::set_permissions(root, Permissions::from_mode(0o755)).context("cannot set the mode of the folder")
}
