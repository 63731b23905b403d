//! `cargo xtask guests`: builds the guests and lays them out as folders `wharf serve` accepts.
//!
//! Core modules are fine as they are: the host turns them into components when it loads them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::toolchain::{Compiler, Target};
use crate::tree::Tree;
use crate::{layout, python_guest, step};

const EXAMPLES: &str = "examples";
const FIXTURES: &str = "host/tests/guests";
/// What is built for `wasm32-wasip1`: an example, to prove that such modules are served, and the fixture that opens
/// files, which std can do on this target only.
const WASIP1: [(&str, &str); 2] = [(EXAMPLES, "hello"), (FIXTURES, "files")];
/// The example that is a compose file. Its services are built from the folders of other examples.
const COMPOSE_EXAMPLE: &str = "compose";
const COMPOSE_FILE: &str = "docker-compose.yml";
/// One to try it with, in `examples/`.
const COMPOSE_PICTURE: &str = "facedetection/testdata/people.jpg";
const DOCKERFILE: &str = "Dockerfile";

/// `cargo xtask guests`.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    if let Some(unknown) = arguments.first() {
        bail!("`cargo xtask guests` takes no argument, and was given `{unknown}`");
    }
    let mut steps = step::Steps::new(1);
    steps.run("guests", || build(tree))?;
    println!("{}", tree.layout().display());
    Ok(())
}

/// Builds all guests that are not up to date, and lays them out below `Tree::layout`.
pub fn build(tree: &Tree) -> Result<()> {
    let compiler = Compiler::ready(Target::Unknown)?;
    for module in compile(tree, compiler, EXAMPLES, &["--workspace"])? {
        let (source, folder) = (tree.root().join(EXAMPLES).join(&module.name), tree.example(&module.name));
        layout::place(&module.file, &folder.join(&module.name).with_extension("wasm"))?;
        layout::mirror(&source.join("models"), &folder.join("models"))?;
        if source.join(DOCKERFILE).exists() {
            layout::place(&source.join(DOCKERFILE), &folder.join(DOCKERFILE))?;
        }
    }
    compose(tree)?;
    if tree.root().join(FIXTURES).join("Cargo.toml").exists() {
        for module in compile(tree, compiler, FIXTURES, &["--workspace", "--exclude", "files"])? {
            layout::place(&module.file, &tree.fixtures().join(&module.name).with_extension("wasm"))?;
        }
    }
    let compiler = Compiler::ready(Target::Wasip1)?;
    for (workspace, member) in WASIP1 {
        for module in compile(tree, compiler, workspace, &["--package", member])? {
            layout::place(&module.file, &tree.fixtures().join(format!("{}-wasip1.wasm", module.name)))?;
        }
    }
    python_guest::build_all(tree, &tree.root().join(EXAMPLES))
}

/// The folder of servable examples: the one that `WHARF_GUESTS` names, as for the tests, else built here.
pub fn ready(tree: &Tree) -> Result<PathBuf> {
    match std::env::var_os("WHARF_GUESTS").filter(|path| !path.is_empty()) {
        Some(own) => {
            step::note(format_args!("{} (WHARF_GUESTS)", PathBuf::from(&own).display()));
            Ok(PathBuf::from(own))
        }
        None => build(tree).map(|()| tree.layout()),
    }
}

/// Lays the compose example out: the file, a picture to try it with, and beside them what its services are built from.
fn compose(tree: &Tree) -> Result<()> {
    let (examples, place) = (tree.root().join(EXAMPLES), tree.example(COMPOSE_EXAMPLE));
    let file = examples.join(COMPOSE_EXAMPLE).join(COMPOSE_FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    for service in contexts(&text) {
        layout::mirror(&folder(tree, service)?, &place.join(service))?;
    }
    let picture = examples.join(COMPOSE_PICTURE);
    let name = picture.file_name().context("a picture has a name")?;
    layout::place(&picture, &place.join(name))?;
    layout::place(&file, &place.join(COMPOSE_FILE))
}

/// The folders beside a compose file that its services are built from: `build: ./NAME`.
fn contexts(compose: &str) -> impl Iterator<Item = &str> {
    compose.lines().filter_map(|line| line.trim().strip_prefix("build: ./"))
}

/// The workspaces of guests: they are formatted and linted apart from the host's.
pub fn workspaces(tree: &Tree) -> Vec<PathBuf> {
    let manifests = [EXAMPLES, FIXTURES].map(|folder| tree.root().join(folder).join("Cargo.toml"));
    manifests.into_iter().filter(|manifest| manifest.exists()).collect()
}

/// `cargo <verb>` in one workspace of guests; the caller says for which members.
pub fn cargo(tree: &Tree, compiler: Compiler, verb: &str, manifest: &Path) -> Command {
    let mut command = compiler.cargo(verb);
    // Its own target folder: `-Z build-std` and the guests' profile share nothing with the host's build, and cargo
    // would hold the host's lock meanwhile.
    command.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(tree.target().join("guests"));
    // Cargo looks for `.cargo/config.toml` from its working folder upwards, not from the manifest.
    if let Some(folder) = manifest.parent() {
        command.current_dir(folder);
    }
    command
}

/// A built guest: the file, and the folder of its source as its name.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    name: String,
    file: PathBuf,
}

fn compile(tree: &Tree, compiler: Compiler, workspace: &str, members: &[&str]) -> Result<Vec<Module>> {
    step::note(format_args!("{workspace}/ with {compiler}"));
    let mut command = cargo(tree, compiler, "build", &tree.root().join(workspace).join("Cargo.toml"));
    command.args(members).arg("--message-format=json-render-diagnostics").stdin(Stdio::null());
    let messages = step::capture(&mut command)?;
    let modules: Vec<Module> = messages.lines().filter_map(module).collect();
    if modules.is_empty() {
        bail!("{workspace}/ has no guest: a member needs `crate-type = [\"cdylib\"]`");
    }
    let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    step::note(format_args!("{workspace}/: {}", names.join(", ")));
    Ok(modules)
}

/// The guest that one of cargo's messages announces, if it does.
fn module(message: &str) -> Option<Module> {
    let message: Value = serde_json::from_str(message).ok()?;
    let paths = message.get("filenames")?.as_array()?;
    let file = paths.iter().filter_map(Value::as_str).find(|path| path.ends_with(".wasm"))?;
    let folder = Path::new(message.get("manifest_path")?.as_str()?).parent()?;
    Some(Module { name: folder.file_name()?.to_str()?.to_owned(), file: PathBuf::from(file) })
}

/// The path of an example's model, or an error that says which example lacks it.
pub fn model(tree: &Tree, example: &str, file: &str) -> Result<PathBuf> {
    let path = tree.example(example).join("models").join(file);
    path.exists().then_some(path).with_context(|| format!("{EXAMPLES}/{example}/models/{file} does not exist"))
}

/// The folder of a built example, or an error that says it is not there.
pub fn folder(tree: &Tree, example: &str) -> Result<PathBuf> {
    let path = tree.example(example);
    path.exists().then_some(path).with_context(|| format!("{EXAMPLES}/{example} was not built: is it a member there?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_named_after_its_folder() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/w/examples/wasi-nn/Cargo.toml",
            "target":{"name":"wasi_nn"},"filenames":["/t/wasm32-unknown-unknown/release/wasi_nn.wasm"]}"#;
        let file = PathBuf::from("/t/wasm32-unknown-unknown/release/wasi_nn.wasm");
        assert_eq!(module(message), Some(Module { name: "wasi-nn".to_owned(), file }));
    }

    #[test]
    fn the_compose_example_is_built_from_examples_with_a_dockerfile() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(EXAMPLES);
        let text = fs::read_to_string(examples.join(COMPOSE_EXAMPLE).join(COMPOSE_FILE)).unwrap();
        let services: Vec<&str> = contexts(&text).collect();
        assert_eq!(services, ["facedetection", "maskdetection"]);
        for service in services {
            assert!(examples.join(service).join(DOCKERFILE).exists(), "{service}");
        }
        assert!(examples.join(COMPOSE_PICTURE).exists());
    }

    #[test]
    fn libraries_and_other_messages_are_no_guests() {
        let library = r#"{"manifest_path":"/w/serde/Cargo.toml","filenames":["/t/libserde.rlib"]}"#;
        assert_eq!(module(library), None);
        assert_eq!(module(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(module("   Compiling hello"), None);
    }
}
