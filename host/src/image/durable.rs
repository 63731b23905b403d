//! Writing so that a crash at any instant leaves the old file or the new one, whole. Blocking.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// How unfinished files and folders begin. Nothing else in the store begins so.
const UNFINISHED: &str = ".unfinished-";

/// A name in `folder` that nothing else of this process uses; see [`is_unfinished`].
pub fn unfinished(folder: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{UNFINISHED}{}-{number}", std::process::id()));
        // An earlier process may have had this number, and died.
        if path.symlink_metadata().is_err() {
            return path;
        }
    }
}

pub fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED))
}

/// Replace `path` by `content`.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = unfinished(folder);
    let written = write_synced(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Half of a file is of no use; what cannot be removed now goes with the next clearing.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|error| failed("write", path, error))?;
    sync_folder(folder)
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

pub fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// A rename or a new entry is only safe once its folder is on disk.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| failed("write", folder, error))
}

pub fn create_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| failed("create", folder, error))
}

/// The entries of a folder; none if it does not exist.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> io::Result<Vec<PathBuf>> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|error| failed("read", folder, error)),
    }
}

/// Remove a file or a folder with all it holds, and say how many bytes that gave back. What is not there is no error.
pub fn remove(path: &Path) -> u64 {
    let freed = size(path);
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    let removed = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Ok(()) => freed,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "cannot remove");
            0
        }
    }
}

/// Bytes of the files below, links not followed. What other names keep is not counted: removing it frees nothing.
pub fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    if !meta.is_dir() {
        return if meta.is_file() && meta.nlink() == 1 { meta.len() } else { 0 };
    }
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries.flatten().map(|entry| size(&entry.path())).sum()
}

pub fn failed(verb: &str, path: &Path, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (free some space, e.g. with `wharf image prune`, and try again)"
        }
        _ => "",
    };
    Error::new(ErrorKind::Io, format!("cannot {verb} {}{hint}", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.json");
        for content in ["one", "two"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(entries(folder.path()).unwrap(), [path]);
        assert!(is_unfinished(&unfinished(folder.path())));
    }

    #[test]
    fn what_has_another_name_frees_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, "12345").unwrap();
        fs::hard_link(&one, &two).unwrap();
        assert_eq!((remove(&one), remove(&two), remove(&two)), (0, 5, 0));
    }
}
