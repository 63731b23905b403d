//! A container's files as the container sees them: its image, and its mounts on top. The kernel keeps every path inside
//! (`openat2` with `RESOLVE_IN_ROOT`): `..` and links, absolute ones too, end at the root they start from.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, openat2};

use crate::container::spec::Mount;

/// Opened once; paths are looked up in what was opened.
pub struct Files {
    root: OwnedFd,
    /// Targets, normal and absolute, the longest first.
    mounts: Vec<(String, OwnedFd)>,
}

/// What `ls` shows of one file.
#[derive(Debug)]
pub struct Entry {
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// As `ls -l` writes it, e.g. `drwxr-xr-x`.
    pub mode: String,
    pub modified: SystemTime,
    pub is_folder: bool,
}

impl Files {
    pub fn open(root: &Path, mounts: &[Mount]) -> io::Result<Files> {
        let folder = |path: &Path| Ok::<_, io::Error>(OwnedFd::from(File::open(path)?));
        let mut opened = mounts
            .iter()
            .map(|mount| Ok((normal("/", &mount.target), folder(&mount.source)?)))
            .collect::<io::Result<Vec<_>>>()?;
        opened.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Ok(Files { root: folder(root)?, mounts: opened })
    }

    /// The file at `path`, which is normal and absolute, for reading.
    pub fn file(&self, path: &str) -> io::Result<File> {
        let file = self.at(path)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::IsADirectory, "Is a directory")),
        }
    }

    pub fn is_folder(&self, path: &str) -> io::Result<bool> {
        Ok(self.at(path)?.metadata()?.is_dir())
    }

    /// A folder's entries by name, or the one file that `path` is.
    pub fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let file = self.at(path)?;
        if !file.metadata()?.is_dir() {
            return Ok(vec![Entry::new(path.to_owned(), &file.metadata()?)]);
        }
        let mut entries = Vec::new();
        for entry in Dir::read_from(&file)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            // A link that leads nowhere has a name all the same.
            let below = format!("{}/{name}", path.trim_end_matches('/'));
            if let Ok(metadata) = self.at(&below).and_then(|file| file.metadata()) {
                entries.push(Entry::new(name, &metadata));
            }
        }
        for name in self.mounted_below(path) {
            let below = format!("{}/{name}", path.trim_end_matches('/'));
            if !entries.iter().any(|entry| entry.name == name)
                && let Ok(metadata) = self.at(&below).and_then(|file| file.metadata())
            {
                entries.push(Entry::new(name, &metadata));
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Names in `path` that only a mount puts there.
    fn mounted_below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let below = self.mounts.iter().filter_map(|(target, _)| target.strip_prefix(&prefix));
        below.filter(|rest| !rest.is_empty() && !rest.contains('/')).map(str::to_owned).collect()
    }

    fn at(&self, path: &str) -> io::Result<File> {
        let mounted = self.mounts.iter().find_map(|(target, folder)| {
            let rest = path.strip_prefix(target.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then_some((folder, rest))
        });
        let (folder, rest) = mounted.unwrap_or((&self.root, path));
        let rest = rest.trim_start_matches('/');
        let rest = if rest.is_empty() { "." } else { rest };
        // Not blocking: a named pipe in a volume must not hold the shell.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(openat2(
            folder,
            rest,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?))
    }
}

impl Entry {
    fn new(name: String, metadata: &fs::Metadata) -> Entry {
        let kind = if metadata.is_dir() { 'd' } else { '-' };
        let bits = metadata.permissions().mode();
        let rights = (0..9).rev().map(|bit| match bits >> bit & 1 {
            0 => '-',
            _ => ['x', 'w', 'r'].get(bit % 3).copied().unwrap_or('-'),
        });
        Entry {
            name,
            size: metadata.size(),
            mode: std::iter::once(kind).chain(rights).collect(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            is_folder: metadata.is_dir(),
        }
    }
}

/// `path` seen from `folder`, absolute, without `.` and `..`.
pub fn normal(folder: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::PathBuf;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wharf-files-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("image/models")).unwrap();
        fs::create_dir_all(folder.join("volume")).unwrap();
        fs::write(folder.join("image/app.wasm"), "app").unwrap();
        fs::write(folder.join("volume/note"), "kept").unwrap();
        fs::write(folder.join("secret"), "secret").unwrap();
        folder
    }

    fn open(folder: &Path) -> Files {
        let volume = Mount { source: folder.join("volume"), target: "/data/".into(), read_only: false };
        Files::open(&folder.join("image"), &[volume]).unwrap()
    }

    fn text(files: &Files, path: &str) -> io::Result<String> {
        let mut text = String::new();
        files.file(path)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn the_image_and_its_mounts_are_one_tree() {
        let folder = folder("tree");
        let files = open(&folder);
        let names: Vec<_> = files.list("/").unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["app.wasm", "data", "models"]);
        assert_eq!(text(&files, "/data/note").unwrap(), "kept");
        assert_eq!(text(&files, "/app.wasm").unwrap(), "app");
        assert!(files.list("/data").unwrap()[0].mode.starts_with("-rw"));
        assert!(text(&files, "/models").unwrap_err().to_string().contains("Is a directory"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_link_leads_out() {
        let folder = folder("out");
        let image = folder.join("image");
        std::os::unix::fs::symlink("../secret", image.join("up")).unwrap();
        std::os::unix::fs::symlink(folder.join("secret"), image.join("absolute")).unwrap();
        std::os::unix::fs::symlink("/app.wasm", image.join("inside")).unwrap();
        let files = open(&folder);
        assert!(text(&files, "/up").is_err() && text(&files, "/absolute").is_err());
        assert_eq!(text(&files, "/inside").unwrap(), "app", "an absolute link is seen from the image's root");
        assert!(text(&files, "/../../secret").is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn paths_are_made_normal() {
        assert_eq!(normal("/", "models/../app.wasm"), "/app.wasm");
        assert_eq!(normal("/srv/x", "../.."), "/");
        assert_eq!(normal("/srv", "/a//b/./c/"), "/a/b/c");
        assert_eq!(normal("/", "../../.."), "/");
    }
}
