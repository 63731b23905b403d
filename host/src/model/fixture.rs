//! For tests: the tiny models of `host/tests/fixtures/models`, and ONNX Runtime from `ORT_DYLIB_PATH`.

use std::path::PathBuf;

use super::environment::{OnnxRuntime, usable_cores};
use super::library::Search;

/// Fails loudly without the library: a test that silently does nothing proves nothing.
pub fn runtime() -> &'static OnnxRuntime {
    let path = std::env::var_os("ORT_DYLIB_PATH")
        .expect("ORT_DYLIB_PATH must name ONNX Runtime's library: run the tests with `cargo xtask test`");
    let search = Search { ort_dylib_path: Some(path.into()), ..Search::default() };
    OnnxRuntime::start(&search, usable_cores().max(2)).unwrap()
}

pub fn model(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(format!("{name}.onnx"))
}

/// An empty folder of this test's own.
pub fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("wharf-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A shared object made of C source by the system's `cc`, which needs the libraries `needs` of the same folder.
pub fn shared_object(folder: &std::path::Path, name: &str, source: &str, needs: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let code = folder.join(format!("{name}.c"));
    std::fs::write(&code, source).unwrap();
    let mut cc = std::process::Command::new("cc");
    // Kept though nothing of theirs is used, as the providers' own libraries are.
    cc.args(["-shared", "-fPIC", "-Wl,--no-as-needed", "-o"]).arg(&path).arg(&code);
    cc.arg(format!("-Wl,-soname,{name}")).arg("-L").arg(folder);
    cc.args(needs.iter().map(|need| format!("-l:{need}")));
    assert!(cc.status().expect("a C compiler (cc) is needed for this test").success());
    path
}
