//! Laying files out: what is the same stays untouched, what changes appears complete or not at all.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Copies a file through a temporary name, unless the destination already holds the same bytes: a host that has the
/// old one open keeps it whole, and nothing looks newer than it is.
pub fn place(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    write(to, &bytes)
}

/// Writes a file that is never seen half-written.
pub fn write(to: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("cannot write {}", to.display());
    let folder = to.parent().with_context(context)?;
    fs::create_dir_all(folder).with_context(context)?;
    let temporary = temporary(to);
    fs::write(&temporary, bytes).with_context(context)?;
    fs::rename(&temporary, to).with_context(context)
}

/// A name beside `path`, private to this run: two runs at once must not write into each other's file.
fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{}.part", std::process::id()));
    PathBuf::from(name)
}

/// Makes `to` hold exactly the files of `from`. A `from` that does not exist is an empty one.
pub fn mirror(from: &Path, to: &Path) -> Result<()> {
    let wanted = entries(from)?;
    for stale in entries(to)?.difference(&wanted) {
        let path = to.join(stale);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed
            .with_context(|| format!("cannot remove {}, which is no longer in {}", path.display(), from.display()))?;
    }
    for name in wanted {
        let (source, destination) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            mirror(&source, &destination)?;
        } else {
            place(&source, &destination)?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<BTreeSet<OsString>> {
    if !folder.exists() {
        return Ok(BTreeSet::new());
    }
    let context = || format!("cannot list {}", folder.display());
    let list = fs::read_dir(folder).with_context(context)?;
    list.map(|entry| Ok(entry.with_context(context)?.file_name())).collect()
}

/// All files below `folder`, sorted, without what Python leaves behind.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in entries(folder)? {
        let path = folder.join(&name);
        if path.is_file() {
            found.push(path);
        } else if name != "__pycache__" {
            found.extend(files(&path)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wharf-xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_mirror_drops_what_the_source_no_longer_has() {
        let folder = scratch("mirror");
        let (from, to) = (folder.join("from"), folder.join("to"));
        write(&from.join("digits.onnx"), b"weights").unwrap();
        write(&from.join("triton/1/model.onnx"), b"more").unwrap();
        write(&to.join("old.onnx"), b"gone").unwrap();
        write(&to.join("old/1/model.onnx"), b"gone").unwrap();
        mirror(&from, &to).unwrap();
        assert_eq!(files(&to).unwrap(), [to.join("digits.onnx"), to.join("triton/1/model.onnx")]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_same_bytes_are_not_written_again() {
        let folder = scratch("place");
        let (from, to) = (folder.join("from"), folder.join("to"));
        write(&from, b"one").unwrap();
        place(&from, &to).unwrap();
        let before = fs::metadata(&to).unwrap().modified().unwrap();
        place(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), before);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_missing_source_is_an_empty_one() {
        let folder = scratch("missing");
        mirror(&folder.join("from"), &folder.join("to")).unwrap();
        assert!(!folder.exists());
    }
}
