//! Making files below a folder that strangers describe. Every name is checked, and no link is ever followed while writing,
//! so nothing lands outside; and no link points outside either, so whoever reads a file of the tree reads the tree.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::durable::failed;
use crate::error::{Error, Result};

const FOLDER_MODE: u32 = 0o755;

/// A path in a tree: relative, without `.` and `..`. Empty is the tree itself.
pub fn inside(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                return Err(Error::invalid(format!("{:?} is refused: it climbs out with `..`", path.display())));
            }
            Component::RootDir | Component::Prefix(_) => {
                return Err(Error::invalid(format!("{:?} is refused: the path is absolute", path.display())));
            }
        }
    }
    if clean.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Error::invalid(format!("{:?} is refused: a name holds a zero byte", path.display())));
    }
    Ok(clean)
}

/// What a link at `link` (a clean path) must say to mean `target` inside the tree.
///
/// The result climbs first and then goes down, never up again: by induction over the links on its way it stays inside.
pub fn link_target(link: &Path, target: &Path) -> Result<PathBuf> {
    let depth = link.components().count().saturating_sub(1);
    let mut names: Vec<&std::ffi::OsStr> = Vec::new();
    let from_root = target.is_absolute();
    let mut start = if from_root { 0 } else { depth };
    for component in target.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir if names.pop().is_some() => {}
            // The root's parent is the root.
            Component::ParentDir if from_root => {}
            Component::ParentDir if start > 0 => start -= 1,
            Component::ParentDir => {
                let (link, target) = (link.display(), target.display());
                return Err(Error::invalid(format!("link {link:?} is refused: it points outside, to {target:?}")));
            }
            _ => {}
        }
    }
    let mut written: PathBuf = std::iter::repeat_n("..", depth - start).collect();
    written.extend(names);
    if written.as_os_str().is_empty() {
        written.push(".");
    }
    Ok(written)
}

/// Make `path` and all above it real folders; what stands in the way is replaced.
pub fn folder(root: &Path, path: &Path) -> Result<PathBuf> {
    let mut whole = root.to_owned();
    for name in path.components() {
        whole.push(name);
        match whole.symlink_metadata() {
            Ok(meta) if meta.is_dir() => continue,
            Ok(_) => clear(&whole)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("create", &whole, error)),
        }
        fs::create_dir(&whole).map_err(|error| failed("create", &whole, error))?;
        set_mode(&whole, FOLDER_MODE)?;
    }
    Ok(whole)
}

/// Where a file or link may be made: its folder exists, and nothing has its name.
pub fn place(root: &Path, path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::invalid("a file without a name is refused"));
    };
    let whole = folder(root, path.parent().unwrap_or(Path::new("")))?.join(name);
    clear(&whole)?;
    Ok(whole)
}

/// Remove what has this name, if anything has; links are not followed.
pub fn clear(whole: &Path) -> Result<()> {
    let removed = match whole.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(whole),
        Ok(_) => fs::remove_file(whole),
        Err(_) => return Ok(()),
    };
    removed.map_err(|error| failed("remove", whole, error))
}

/// Make a link that stays inside.
pub fn link(root: &Path, path: &Path, target: &Path) -> Result<()> {
    let written = link_target(path, target)?;
    let whole = place(root, path)?;
    symlink(written, &whole).map_err(|error| failed("create", &whole, error))
}

/// A second name for a file; a copy where the disk cannot.
pub fn hard_link(from: &Path, to: &Path) -> Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop)).map_err(|error| failed("create", to, error))
}

/// Permissions as far as they mean anything here: ours to read (and folders to enter), nothing set-uid.
pub fn set_mode(whole: &Path, mode: u32) -> Result<()> {
    let own = if whole.is_dir() { 0o700 } else { 0o400 };
    let permissions = fs::Permissions::from_mode(mode & 0o777 | own);
    fs::set_permissions(whole, permissions).map_err(|error| failed("set the mode of", whole, error))
}

/// Every path below, parents before children, in the order of their bytes.
pub fn walk(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let whole = root.join(&path);
        let mut children = super::durable::entries(&whole)?;
        children.sort();
        for child in children {
            let path = path.join(child.file_name().unwrap_or_default());
            if child.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                pending.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_climb_are_refused() {
        assert_eq!(inside(Path::new("./a//b/")).unwrap(), Path::new("a/b"));
        assert_eq!(inside(Path::new(".")).unwrap(), Path::new(""));
        for path in ["../a", "a/../b", "/a", "/", "a/.."] {
            assert!(inside(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn links_are_written_so_that_they_stay_inside() {
        for (link, target, written) in [
            ("a", "b", "b"),
            ("x/a", "/etc/passwd", "../etc/passwd"),
            ("x/y/a", "../b", "../b"),
            ("x/y/a", "b/../../c", "../c"),
            ("x/a", "/../..", ".."),
            ("a", "/", "."),
            ("x/a", "up/../../b", "../b"),
        ] {
            assert_eq!(link_target(Path::new(link), Path::new(target)).unwrap(), Path::new(written), "{link} {target}");
        }
        for (link, target) in [("a", ".."), ("x/a", "../../b"), ("x/a", "b/../../../c")] {
            assert!(link_target(Path::new(link), Path::new(target)).is_err(), "{link} {target}");
        }
    }

    #[test]
    fn links_in_the_way_are_replaced_not_followed() {
        let (tree, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), tree.path().join("out")).unwrap();
        let whole = place(tree.path(), Path::new("out/a/file")).unwrap();
        fs::write(&whole, "x").unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(walk(tree.path()).unwrap(), ["out", "out/a", "out/a/file"].map(PathBuf::from));
    }
}
