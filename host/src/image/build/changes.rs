//! What a tool changed in a folder: the difference between before and after, as a layer's files.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::{Content, Files};
use crate::error::{Error, Result};
use crate::image::durable::failed;
use crate::image::tree;

const PIECE: usize = 1 << 16;

/// What tells whether a file may have changed, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
    /// Set to the epoch before; whatever writes sets it to now, however coarse the clock.
    modified: i64,
}

#[derive(Debug)]
pub struct Snapshot {
    before: BTreeMap<PathBuf, Seen>,
}

/// Take note of a folder's content, after setting its files' times as they are in a layer.
pub fn snapshot(root: &Path) -> Result<Snapshot> {
    let epoch = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH).set_accessed(SystemTime::UNIX_EPOCH);
    let mut before = BTreeMap::new();
    for path in tree::walk(root)? {
        let whole = root.join(&path);
        let read = |error| failed("read", &whole, error);
        if whole.symlink_metadata().map_err(read)?.is_file() {
            File::open(&whole).and_then(|file| file.set_times(epoch)).map_err(read)?;
        }
        let seen = seen(&whole).map_err(read)?;
        before.insert(path, seen);
    }
    Ok(Snapshot { before })
}

fn seen(whole: &Path) -> io::Result<Seen> {
    let meta = whole.symlink_metadata()?;
    let changed = (meta.ctime(), meta.ctime_nsec());
    Ok(Seen { inode: meta.ino(), size: meta.size(), changed, modified: meta.mtime() })
}

impl Snapshot {
    /// What makes `after` of it. `before` is a second copy of what was.
    pub fn changes(&self, before: &Path, after: &Path) -> Result<Files> {
        let mut files = Files::default();
        for path in tree::walk(after)? {
            if let Some(content) = self.changed(before, after, &path)? {
                files.put(path, content, None)?;
            }
        }
        for path in self.before.keys() {
            let is_gone = after.join(path).symlink_metadata().is_err();
            let above = after.join(path.parent().unwrap_or(Path::new("")));
            // What went with its folder needs no mark of its own.
            if is_gone && above.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                files.put(path.clone(), Content::Removed, None)?;
            }
        }
        Ok(files)
    }

    fn changed(&self, before: &Path, after: &Path, path: &Path) -> Result<Option<Content>> {
        let (old, new) = (before.join(path), after.join(path));
        let read = |error| failed("read", &new, error);
        let meta = new.symlink_metadata().map_err(read)?;
        let was = self.before.get(path).and_then(|_| old.symlink_metadata().ok());
        if meta.is_dir() {
            return Ok(was.is_none_or(|was| !was.is_dir()).then_some(Content::Folder));
        }
        if meta.is_symlink() {
            let target = fs::read_link(&new).map_err(read)?;
            let same = was.is_some() && fs::read_link(&old).is_ok_and(|was| was == target);
            return if same { Ok(None) } else { Ok(Some(Content::Link(tree::link_target(path, &target)?))) };
        }
        if !meta.is_file() {
            return Err(Error::invalid(format!(
                "the tool made {:?}, which is neither a file nor a link",
                path.display()
            )));
        }
        let untouched = self.before.get(path).copied() == Some(seen(&new).map_err(read)?);
        let same = was.is_some_and(|was| was.is_file()) && (untouched || same_content(&old, &new).map_err(read)?);
        Ok((!same).then_some(Content::File(new)))
    }
}

fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let mut other = BufReader::with_capacity(PIECE, other);
    let mut one = BufReader::with_capacity(PIECE, one);
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_changed_and_removed_are_told_apart() {
        let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for root in [before.path(), after.path()] {
            fs::create_dir_all(root.join("folder/inner")).unwrap();
            for name in ["same", "touched", "changed", "gone", "folder/x", "folder/inner/y", "becomes-folder"] {
                fs::write(root.join(name), "12345").unwrap();
            }
        }
        let snapshot = snapshot(after.path()).unwrap();
        fs::write(after.path().join("touched"), "12345").unwrap();
        fs::write(after.path().join("changed"), "54321").unwrap();
        fs::write(after.path().join("added"), "").unwrap();
        fs::remove_file(after.path().join("gone")).unwrap();
        fs::remove_dir_all(after.path().join("folder")).unwrap();
        fs::remove_file(after.path().join("becomes-folder")).unwrap();
        fs::create_dir(after.path().join("becomes-folder")).unwrap();
        std::os::unix::fs::symlink("same", after.path().join("link")).unwrap();
        let mut expected = Files::default();
        for (path, content) in [
            ("changed", Content::File(after.path().join("changed"))),
            ("added", Content::File(after.path().join("added"))),
            ("gone", Content::Removed),
            ("folder", Content::Removed),
            ("becomes-folder", Content::Folder),
            ("link", Content::Link("same".into())),
        ] {
            expected.put(path.into(), content, None).unwrap();
        }
        assert_eq!(snapshot.changes(before.path(), after.path()).unwrap(), expected);
    }

    #[test]
    fn nothing_outside_is_linked_to() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = snapshot(folder.path()).unwrap();
        std::os::unix::fs::symlink("../outside", folder.path().join("link")).unwrap();
        assert!(snapshot.changes(folder.path(), folder.path()).is_err());
    }
}
