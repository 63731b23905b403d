//! Guests in Python: a folder of `examples/` with an `app.py`, made a component by componentize-py in a venv.
//!
//! The version is the one its `requirements.txt` pins. Componentising takes seconds, so the result is kept until
//! the content of a source changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::tree::Tree;
use crate::{layout, step};

/// The standard interfaces an example may import, besides the `wit/` folder of its own.
const STANDARD_WIT: &str = "guest-sdk/wit";

pub fn build_all(tree: &Tree, examples: &Path) -> Result<()> {
    let list = fs::read_dir(examples).with_context(|| format!("cannot list {}", examples.display()))?;
    for entry in list {
        let source = entry?.path();
        if source.join("app.py").exists() {
            let name = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            build(tree, &name, &source).with_context(|| format!("examples/{name} was not built"))?;
        }
    }
    Ok(())
}

fn build(tree: &Tree, name: &str, source: &Path) -> Result<()> {
    let component = tree.example(name).join(name).with_extension("wasm");
    let work = tree.target().join("python-guests").join(name);
    let stamp = work.join("sources.sha256");
    let wit = tree.root().join(STANDARD_WIT);
    let key = fingerprint(tree.root(), &[source, &wit])?;
    if component.exists() && fs::read_to_string(&stamp).is_ok_and(|built| built == key) {
        step::note(format_args!("examples/{name}: up to date"));
        return Ok(());
    }
    step::note(format_args!("examples/{name}: componentising Python"));
    let tool = componentize_py(&work, &source.join("requirements.txt"))?;
    let staged = work.join("component.wasm");
    // A copy, since the interpreter inside the tool leaves bytecode beside what it imports.
    let app = work.join("app");
    layout::mirror(source, &app)?;
    let own_wit = source.join("wit");
    step::run(
        Command::new(tool)
            .arg("-d")
            .arg(&wit)
            .arg("-d")
            .arg(&own_wit)
            .arg("-w")
            .arg(world(&own_wit)?)
            .arg("componentize")
            .arg("-p")
            .arg(&app)
            .arg("app")
            .arg("-o")
            .arg(&staged),
    )?;
    layout::place(&staged, &component)?;
    layout::mirror(&source.join("models"), &tree.example(name).join("models"))?;
    layout::write(&stamp, key.as_bytes())
}

/// The tool, in a venv of its own whose name carries what is installed: nothing is installed twice.
fn componentize_py(work: &Path, requirements: &Path) -> Result<PathBuf> {
    let pinned = fs::read(requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let venv = work.join("venv");
    let stamp = venv.join("requirements.sha256");
    let key = hex(&Sha256::digest(&pinned));
    let tool = venv.join("bin/componentize-py");
    if tool.exists() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == key) {
        return Ok(tool);
    }
    step::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    step::run(
        Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "install", "--disable-pip-version-check", "-r"])
            .arg(requirements),
    )?;
    if !tool.exists() {
        bail!("{} does not ask for componentize-py", requirements.display());
    }
    layout::write(&stamp, key.as_bytes())?;
    Ok(tool)
}

/// The one world of a WIT folder, with its package: `-d` names two folders, and a bare name could be in either.
fn world(folder: &Path) -> Result<String> {
    for file in layout::files(folder)? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        if let Some(name) = qualified_world(&text) {
            return Ok(name);
        }
    }
    bail!(
        "{} declares no world: write `package A:B@VERSION;` and `world NAME {{ … }}` in a .wit file there",
        folder.display()
    )
}

/// `package a:b@0.1.0;` and `world c {` as `a:b/c@0.1.0`.
fn qualified_world(wit: &str) -> Option<String> {
    let after = |keyword: &str| wit.lines().find_map(|line| line.strip_prefix(keyword)?.split([' ', '{', ';']).next());
    let (package, world) = (after("package ")?, after("world ")?);
    Some(match package.split_once('@') {
        Some((name, version)) => format!("{name}/{world}@{version}"),
        None => format!("{package}/{world}"),
    })
}

/// Hash over the names and contents of all files in `folders`.
fn fingerprint(root: &Path, folders: &[&Path]) -> Result<String> {
    let mut hash = Sha256::new();
    for folder in folders {
        for file in layout::files(folder)? {
            let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.strip_prefix(root).unwrap_or(&file);
            hash.update(format!("{}\0{}\0", name.display(), bytes.len()));
            hash.update(bytes);
        }
    }
    Ok(hex(&hash.finalize()))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_is_read_from_the_wit() {
        let wit = "package a:b@0.1.0;\n\n/// The world of it all.\nworld python-hello {\n}\n";
        assert_eq!(qualified_world(wit).as_deref(), Some("a:b/python-hello@0.1.0"));
        assert_eq!(qualified_world("package a:b;\nworld w {}").as_deref(), Some("a:b/w"));
        assert_eq!(qualified_world("package a:b;\ninterface x {}"), None);
    }
}
