//! Where the built guests and the models are. What is missing fails loudly: a test that skips itself proves nothing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of an example, as `wharf serve` takes it.
pub fn example(name: &str) -> PathBuf {
    existing(layout().join(name))
}

/// A model of an example.
pub fn model(example: &str, name: &str) -> PathBuf {
    existing(layout().join(example).join("models").join(name).with_extension("onnx"))
}

/// A guest of `host/tests/guests`.
pub fn fixture(name: &str) -> PathBuf {
    existing(layout().join("fixtures").join(name).with_extension("wasm"))
}

/// A small model of `host/tests/fixtures/models`.
pub fn fixture_model(name: &str) -> PathBuf {
    existing(source("host/tests/fixtures/models").join(name).with_extension("onnx"))
}

/// A file of the repository.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("host/ lies in the repository").join(path)
}

pub fn read_source(path: &str) -> Vec<u8> {
    fs::read(source(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// Whether a missing tool, which a bare machine may lack, is a failure. CI says so.
pub fn is_required() -> bool {
    env::var("WHARF_REQUIRE").is_ok_and(|value| value == "1")
}

/// For what a machine may lack: a loud remark, or a failure where everything is required.
pub fn skip(missing: &str) {
    assert!(!is_required(), "{missing}, and WHARF_REQUIRE=1 asks for it");
    eprintln!("SKIPPED: {missing}; WHARF_REQUIRE=1 makes this a failure");
}

/// `Some` folder of the example, or a loud skip: its toolchain comes from another registry.
pub fn optional_example(name: &str) -> Option<PathBuf> {
    let folder = layout().join(name);
    if folder.join(name).with_extension("wasm").is_file() {
        return Some(folder);
    }
    skip(&format!("the example {name} is not built (run `cargo xtask guests`)"));
    None
}

fn layout() -> PathBuf {
    match env::var_os("WHARF_GUESTS").filter(|value| !value.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => {
            panic!("WHARF_GUESTS does not name the built guests: run `cargo xtask test`, which builds and names them")
        }
    }
}

/// ONNX Runtime's library. The host finds others too; tests run with the one that was asked for.
pub fn library() -> PathBuf {
    match env::var_os("ORT_DYLIB_PATH").filter(|value| !value.is_empty()) {
        Some(library) => existing(PathBuf::from(library)),
        None => panic!("ORT_DYLIB_PATH does not name ONNX Runtime: run `cargo xtask test`, which fetches and names it"),
    }
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} does not exist: run `cargo xtask test`, which builds what tests need", path.display());
    path
}
