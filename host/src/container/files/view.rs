//! A container's files as one tree: its image, and its mounts on top. Links are followed here, a name at a time, as the
//! container would follow them: the root's parent is the root, and a link may lead from the image into a mount. What is
//! opened in the end is opened without following any (`openat2`), so that nobody who swaps a name meanwhile leads out.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat};

use crate::container::spec::Mount;

/// As Linux has it.
const MOST_LINKS: usize = 40;

pub struct View {
    root: OwnedFd,
    /// The longest target first.
    mounts: Vec<Mounted>,
}

struct Mounted {
    target: PathBuf,
    /// `None`: made when the container starts, as a `tmpfs` is. Until then it is an empty folder.
    folder: Option<OwnedFd>,
    read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File,
    Link,
    /// A pipe, a socket or a device.
    Special,
}

/// One name of the tree.
#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permissions.
    pub mode: u32,
    /// Seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    pub owner: (u64, u64),
    /// What a link says.
    pub target: Option<PathBuf>,
}

/// Whether the last name of a path, being a link, is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    Followed,
    Kept,
}

impl View {
    /// `root`: the image's files, which nothing writes.
    pub fn open(root: &Path, mounts: &[Mount]) -> io::Result<View> {
        let mut opened = Vec::with_capacity(mounts.len());
        for mount in mounts {
            let folder = match File::open(&mount.source) {
                Ok(folder) => Some(OwnedFd::from(folder)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            opened.push(Mounted { target: lexical(Path::new(&mount.target)), folder, read_only: mount.read_only });
        }
        opened.sort_by_key(|mount| std::cmp::Reverse(mount.target.components().count()));
        Ok(View { root: OwnedFd::from(File::open(root)?), mounts: opened })
    }

    /// The path without links, `.` and `..`: absolute, and all of it exists.
    pub fn resolve(&self, path: &Path, last: Last) -> io::Result<PathBuf> {
        let (way, missing) = self.reach(path, last)?;
        if missing.as_os_str().is_empty() { Ok(way) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// As far as `path` exists, and what is missing of it.
    pub fn reach(&self, path: &Path, last: Last) -> io::Result<(PathBuf, PathBuf)> {
        let mut ahead: VecDeque<OsString> = names(path).collect();
        let mut way = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                way.pop();
                continue;
            }
            let next = way.join(&name);
            let node = match self.look(&next) {
                Ok(node) => node,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok((way, std::iter::once(name).chain(ahead).collect()));
                }
                Err(error) => return Err(error),
            };
            match node.target {
                Some(target) if last == Last::Followed || !ahead.is_empty() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(rustix::io::Errno::LOOP.into());
                    }
                    if target.is_absolute() {
                        way = PathBuf::from("/");
                    }
                    for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                        ahead.push_front(name);
                    }
                }
                _ if node.kind != Kind::Folder && !ahead.is_empty() => return Err(io::ErrorKind::NotADirectory.into()),
                _ => way = next,
            }
        }
        Ok((way, PathBuf::new()))
    }

    /// What has this name. Here and below, `way` is a path as [`View::resolve`] makes it.
    pub fn look(&self, way: &Path) -> io::Result<Node> {
        let (folder, rest, _) = self.owner(way);
        let found = folder.map_or(Err(io::ErrorKind::NotFound.into()), |folder| node(folder, &rest));
        match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_mounted_below(way) => {
                Ok(Node { kind: Kind::Folder, size: 0, mode: 0o755, modified: (0, 0), owner: (0, 0), target: None })
            }
            found => found,
        }
    }

    /// Names in a folder, sorted.
    pub fn list(&self, way: &Path) -> io::Result<Vec<OsString>> {
        let mut found = Vec::new();
        match self.folder(way) {
            Ok(folder) => {
                for entry in Dir::read_from(folder)? {
                    found.push(OsString::from_vec(entry?.file_name().to_bytes().to_vec()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_mounted_below(way) => {}
            Err(error) => return Err(error),
        }
        let below = self.mounts.iter().filter_map(|mount| mount.target.strip_prefix(way).ok());
        found.extend(below.filter_map(|rest| rest.iter().next()).map(OsStr::to_owned));
        found.retain(|name| name != "." && name != "..");
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// A file for reading.
    pub fn file(&self, way: &Path) -> io::Result<File> {
        // Not blocking: somebody may have put a pipe there since it was looked at.
        let file = File::from(self.at(way, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// A folder, to read it or to make something in it.
    pub fn folder(&self, way: &Path) -> io::Result<OwnedFd> {
        self.at(way, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
    }

    /// Whether something may be made below `way`; `None` for the image's own files, which nothing changes.
    pub fn is_writable(&self, way: &Path) -> Option<bool> {
        let mount = self.mounts.iter().find(|mount| way.starts_with(&mount.target))?;
        Some(!mount.read_only && mount.folder.is_some())
    }

    /// Whether this is where a mount begins.
    pub fn is_mount(&self, way: &Path) -> bool {
        self.mounts.iter().any(|mount| mount.target == way)
    }

    /// Where mounts begin.
    pub fn targets(&self) -> impl Iterator<Item = &Path> {
        self.mounts.iter().map(|mount| mount.target.as_path())
    }

    fn is_mounted_below(&self, way: &Path) -> bool {
        self.mounts.iter().any(|mount| mount.target.starts_with(way))
    }

    fn at(&self, way: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let (folder, rest, _) = self.owner(way);
        open(folder.ok_or(io::ErrorKind::NotFound)?, &rest, flags)
    }

    /// The opened folder that holds a path, the path in it, and whether it is a mount.
    fn owner(&self, way: &Path) -> (Option<&OwnedFd>, PathBuf, bool) {
        let dotted = |rest: &Path| if rest.as_os_str().is_empty() { PathBuf::from(".") } else { rest.to_owned() };
        for mount in &self.mounts {
            if let Ok(rest) = way.strip_prefix(&mount.target) {
                return (mount.folder.as_ref(), dotted(rest), true);
            }
        }
        (Some(&self.root), dotted(way.strip_prefix("/").unwrap_or(way)), false)
    }
}

fn open(folder: &OwnedFd, rest: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(folder, rest, flags | OFlags::CLOEXEC, Mode::empty(), inside)?)
}

fn node(folder: &OwnedFd, rest: &Path) -> io::Result<Node> {
    let opened = open(folder, rest, OFlags::PATH | OFlags::NOFOLLOW)?;
    let seen = statat(&opened, "", AtFlags::EMPTY_PATH)?;
    let kind = match FileType::from_raw_mode(seen.st_mode) {
        FileType::Directory => Kind::Folder,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Link,
        _ => Kind::Special,
    };
    let target = match kind {
        Kind::Link => Some(PathBuf::from(OsString::from_vec(readlinkat(&opened, "", Vec::new())?.into_bytes()))),
        _ => None,
    };
    Ok(Node {
        kind,
        size: if kind == Kind::File { u64::try_from(seen.st_size).unwrap_or(0) } else { 0 },
        mode: seen.st_mode & 0o7777,
        modified: (seen.st_mtime, u32::try_from(seen.st_mtime_nsec).unwrap_or(0)),
        owner: (seen.st_uid.into(), seen.st_gid.into()),
        target,
    })
}

/// The names of a path, and its `..`.
fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

/// Absolute, without `.` and `..`, links not looked at.
pub fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for name in names(path) {
        if name == ".." {
            clean.pop();
        } else {
            clean.push(name);
        }
    }
    clean
}

/// What Go's `filepath.Base` says of a path: its last name, `/` or `.`.
pub fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some("") | None if path.is_empty() => ".",
        Some("") | None => "/",
        Some(name) => name,
    }
}

/// A zero ends names for the kernel.
pub fn has_zero(path: &Path) -> bool {
    path.as_os_str().as_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, View) {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("image/models")).unwrap();
        fs::create_dir_all(at("volume/sub")).unwrap();
        fs::write(at("secret"), "secret").unwrap();
        fs::write(at("image/app.wasm"), "app").unwrap();
        fs::write(at("volume/note"), "kept").unwrap();
        symlink("../../../../secret", at("image/up")).unwrap();
        symlink(at("secret"), at("image/absolute")).unwrap();
        symlink("/data/sub", at("image/inside")).unwrap();
        symlink("../app.wasm", at("volume/program")).unwrap();
        symlink("loop", at("volume/loop")).unwrap();
        let mount =
            |source: &str, target: &str, read_only| Mount { source: at(source), target: target.into(), read_only };
        let mounts = [mount("volume", "/data/", false), mount("none", "/run/cache", false)];
        let view = View::open(&at("image"), &mounts).unwrap();
        (folder, view)
    }

    #[test]
    fn links_are_followed_as_the_container_sees_them() {
        let (_folder, view) = tree();
        let resolved = |path: &str| view.resolve(Path::new(path), Last::Followed).map(|way| way.display().to_string());
        for (path, way) in [
            ("/", "/"),
            ("app.wasm", "/app.wasm"),
            ("/data/../app.wasm", "/app.wasm"),
            ("/../..", "/"),
            ("/inside", "/data/sub"),
            ("/inside/../note", "/data/note"),
            ("/data/program", "/app.wasm"),
            ("/run/cache/.", "/run/cache"),
        ] {
            assert_eq!(resolved(path).unwrap(), way, "{path}");
        }
        for path in ["/up", "/absolute", "/nothing", "/data/loop", "/app.wasm/x", "/run/cache/x"] {
            assert!(resolved(path).is_err(), "{path}");
        }
        assert_eq!(view.resolve(Path::new("/up"), Last::Kept).unwrap(), Path::new("/up"));
    }

    #[test]
    fn the_image_and_its_mounts_are_one_tree() {
        let (_folder, view) = tree();
        let names = |way: &str| view.list(Path::new(way)).unwrap();
        assert_eq!(names("/"), ["absolute", "app.wasm", "data", "inside", "models", "run", "up"]);
        assert_eq!(names("/run"), ["cache"]);
        assert!(names("/run/cache").is_empty());
        assert_eq!(view.look(Path::new("/run")).unwrap().kind, Kind::Folder);
        assert_eq!(view.is_writable(Path::new("/data/sub")), Some(true));
        assert_eq!(view.is_writable(Path::new("/run/cache")), Some(false), "it is not there yet");
        assert_eq!(view.is_writable(Path::new("/models")), None);
        assert!(view.file(Path::new("/up")).is_err() && view.file(Path::new("/data/program")).is_err());
    }

    #[test]
    fn bases_are_gos() {
        for (path, name) in [("/a/b", "b"), ("/a/b/", "b"), ("/a/b/.", "."), ("/", "/"), ("", "."), ("a", "a")] {
            assert_eq!(base(path), name, "{path}");
        }
    }
}
