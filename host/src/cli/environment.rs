//! Every environment variable the host reads, with its meaning. Read here and nowhere else.

use std::env;
use std::path::PathBuf;

/// Where images, containers and caches live.
pub const DATA: &str = "WHARF_DATA";
/// Path of ONNX Runtime's shared library.
pub const ONNXRUNTIME: &str = "ORT_DYLIB_PATH";
/// Filter of the host's log, e.g. `debug` or `wharf=debug`.
pub const LOG: &str = "WHARF_LOG";

/// `$WHARF_DATA`, else `/var/lib/wharf` for root, else `$XDG_DATA_HOME/wharf` (`~/.local/share/wharf`).
pub fn data() -> PathBuf {
    if let Some(data) = path(DATA) {
        return data;
    }
    if is_root() {
        return PathBuf::from("/var/lib/wharf");
    }
    let home = path("HOME").unwrap_or_else(env::temp_dir);
    path("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")).join("wharf")
}

pub fn onnxruntime() -> Option<PathBuf> {
    path(ONNXRUNTIME)
}

pub fn executable() -> Option<PathBuf> {
    env::current_exe().ok()
}

/// The value of a variable named in `-e NAME`.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// An empty variable counts as not set.
fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
