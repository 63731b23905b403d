//! Writing so that a crash at any instant leaves the old file or the new one, whole. Blocking.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// How the name of a file ends while it is written.
pub const UNFINISHED: &str = "tmp";

/// Replace `path`. Callers see to it that no two write the same file at once.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let written = write_synced(&unfinished, content).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // Whatever stands there is of no use; a leftover is overwritten by the next attempt.
        let _ = fs::remove_file(&unfinished);
    }
    written.map_err(|error| failed("write", path, error))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Make names in a folder last: a rename or a new entry is only safe once its folder is on disk.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| failed("write", folder, error))
}

/// Remove what a crash left half-written in a folder. Nobody may be writing in it.
pub fn clear_unfinished(folder: &Path) -> Result<()> {
    for name in entries(folder)?.iter().filter(|name| Path::new(name).extension().is_some_and(|end| end == UNFINISHED))
    {
        let path = folder.join(name);
        fs::remove_file(&path).map_err(|error| failed("remove", &path, error))?;
    }
    Ok(())
}

/// What a removed folder is called until it is gone.
pub const GONE: &str = ".gone-";

/// Remove a folder: at once by name, then its content. What a crash leaves of it begins with [`GONE`].
pub fn remove_folder(folder: &Path) -> Result<()> {
    let Some((parent, name)) = folder.parent().zip(folder.file_name()) else {
        return Err(Error::invalid(format!("{} is no folder to remove", folder.display())));
    };
    let gone = parent.join(format!("{GONE}{}", name.to_string_lossy()));
    if gone.exists() {
        fs::remove_dir_all(&gone).map_err(|error| failed("remove", &gone, error))?;
    }
    match fs::rename(folder, &gone) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("remove", folder, error)),
    }
    sync_folder(parent)?;
    if let Err(error) = fs::remove_dir_all(&gone) {
        // It is removed as far as anybody sees; the next start of the host clears the rest.
        tracing::warn!("cannot clear {}: {error}", gone.display());
    }
    Ok(())
}

pub fn create_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| failed("create", folder, error))
}

/// Names of the entries of a folder.
pub fn entries(folder: &Path) -> Result<Vec<String>> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    };
    read().map_err(|error| failed("read", folder, error))
}

/// Bytes of all files below.
pub fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let mut sum = 0;
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        sum += if meta.is_dir() { size(&entry.path()) } else { meta.len() };
    }
    sum
}

pub fn failed(verb: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {verb} {}", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        replace(&path, b"one").unwrap();
        // What a crash while writing leaves.
        fs::write(path.with_extension(UNFINISHED), b"garbage that is longer").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        fs::write(path.with_extension(UNFINISHED), b"garbage").unwrap();
        clear_unfinished(folder.path()).unwrap();
        assert_eq!(entries(folder.path()).unwrap(), ["config.json"]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("config.json");
        let error = replace(&path, b"one").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.chain().contains("config.json"), "{}", error.chain());
    }

    #[test]
    fn a_folder_goes_even_if_an_earlier_attempt_was_cut() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("abc");
        for name in ["abc", ".gone-abc"] {
            fs::create_dir(parent.path().join(name)).unwrap();
            fs::write(parent.path().join(name).join("file"), "x").unwrap();
        }
        remove_folder(&folder).unwrap();
        remove_folder(&folder).unwrap();
        assert!(entries(parent.path()).unwrap().is_empty());
    }
}
