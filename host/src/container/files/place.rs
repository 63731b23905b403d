//! An archive into a container's volumes and writable binds. Every entry's folder is looked up as the container sees
//! it, then opened without following a link, and the entry is made in what was opened: nothing lands outside.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, linkat, mkdirat, openat, renameat, statat, symlinkat,
    unlinkat, utimensat,
};
use tar::{Archive, Entry, EntryType};

use super::view::{Kind, Last, View, has_zero};
use crate::container::ids;
use crate::error::{Error, ErrorKind, Result};
use crate::image::unpack::decompress;

const MOST_ENTRIES: u64 = 1_000_000;

/// What becomes of a folder where a file is to be, and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    Refused,
    Replaced,
}

/// Unpack `input`, whatever it is compressed with, into the folder at `way`.
pub fn unpack(view: &View, way: &Path, input: &mut dyn Read, clash: Clash) -> Result<()> {
    let mut plain = decompress(input)?;
    let mut archive = Archive::new(&mut plain);
    let unreadable =
        |error| Error::invalid("the archive cannot be read: it is damaged, cut short, or no tar").because(error);
    let placing = Placing { view, way, clash };
    for (number, entry) in (0_u64..).zip(archive.entries().map_err(unreadable)?) {
        if number >= MOST_ENTRIES {
            return Err(Error::new(ErrorKind::TooLarge, format!("the archive has over {MOST_ENTRIES} entries")));
        }
        placing.entry(&mut entry.map_err(unreadable)?)?;
    }
    Ok(())
}

/// Refuse what would change the image, or a mount that is read-only.
pub fn check_writable(view: &View, way: &Path) -> Result<()> {
    let refused = match view.is_writable(way) {
        Some(true) => return Ok(()),
        Some(false) => format!(
            "mounted volume is marked read-only: {} cannot be written; mount it without `ro` (a tmpfs: start the \
             container first)",
            way.display()
        ),
        None => format!(
            "container rootfs is marked read-only: {} is the image's, whose files do not change; copy into a volume \
             (docker run -v NAME:/folder), or build the file into the image (COPY)",
            way.display()
        ),
    };
    Err(Error::new(ErrorKind::Forbidden, refused))
}

struct Placing<'a> {
    view: &'a View,
    way: &'a Path,
    clash: Clash,
}

/// What an entry is, as far as it is taken.
enum Content {
    Folder,
    File,
    Symbolic(PathBuf),
    Hard(PathBuf),
}

impl Placing<'_> {
    fn entry<R: Read>(&self, entry: &mut Entry<'_, R>) -> Result<()> {
        let shown = entry.path().map_err(|error| Error::invalid("an entry's name is no path").because(error))?;
        let path = inside(&shown.clone())?;
        let Some(content) = self.content(entry, &path)? else { return Ok(()) };
        let Some(name) = path.file_name() else {
            // The folder itself, which is there.
            return Ok(());
        };
        let parent = self.parent(path.parent().unwrap_or(Path::new("")))?;
        let whole = parent.join(name);
        if self.view.is_mount(&whole) && matches!(content, Content::Folder) {
            return Ok(());
        }
        let folder = self.view.folder(&parent).map_err(|error| failed(&parent, error))?;
        let there = self.make_way(&folder, name, &whole, &content)?;
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
        let modified = entry.header().mtime().unwrap_or(0);
        let size = entry.size();
        match content {
            Content::Folder if there => Ok(()),
            Content::Folder => mkdirat(&folder, name, Mode::from_raw_mode(mode | 0o700)).map_err(io::Error::from),
            Content::File => file(&folder, name, entry, size, mode),
            Content::Symbolic(target) => symlinkat(&target, &folder, name).map_err(io::Error::from),
            Content::Hard(target) => return self.hard_link(&target, &folder, name, &whole),
        }
        .map_err(|error| failed(&whole, error))?;
        stamp(&folder, name, modified);
        Ok(())
    }

    /// `None`: an entry that says something about others.
    fn content<R: Read>(&self, entry: &Entry<'_, R>, path: &Path) -> Result<Option<Content>> {
        let shown = path.display();
        let target = || {
            let target = entry.link_name().ok().flatten().map(|target| target.into_owned()).unwrap_or_default();
            if target.as_os_str().is_empty() || has_zero(&target) {
                return Err(Error::invalid(format!("link {shown:?} is refused: it says nothing to point to")));
            }
            Ok(target)
        };
        Ok(Some(match entry.header().entry_type() {
            EntryType::Directory => Content::Folder,
            EntryType::Regular | EntryType::Continuous => Content::File,
            EntryType::Symlink => {
                let target = target()?;
                check_link(path, &target)?;
                Content::Symbolic(target)
            }
            EntryType::Link => Content::Hard(inside(&target()?)?),
            EntryType::XGlobalHeader => return Ok(None),
            EntryType::GNUSparse => {
                let text = format!("{shown:?} is refused: it is packed sparse; pack it without (tar without -S)");
                return Err(Error::invalid(text));
            }
            EntryType::Block | EntryType::Char | EntryType::Fifo => {
                let text = format!("{shown:?} is refused: devices and pipes are not taken, a sandbox cannot use them");
                return Err(Error::invalid(text));
            }
            other => {
                let text = format!("{shown:?} is refused: its kind {:?} is not known", char::from(other.as_byte()));
                return Err(Error::invalid(text));
            }
        }))
    }

    /// The folder an entry goes into, made as far as it is missing.
    fn parent(&self, path: &Path) -> Result<PathBuf> {
        let whole = self.way.join(path);
        let (mut way, missing) = self.view.reach(&whole, Last::Followed).map_err(|error| failed(&whole, error))?;
        for name in missing.iter() {
            if name == ".." {
                return Err(failed(&whole, io::ErrorKind::NotFound.into()));
            }
            check_writable(self.view, &way)?;
            let folder = self.view.folder(&way).map_err(|error| failed(&way, error))?;
            mkdirat(&folder, name, Mode::from_raw_mode(0o755)).map_err(|error| failed(&way, error.into()))?;
            way.push(name);
        }
        check_writable(self.view, &way)?;
        Ok(way)
    }

    /// Clear the name for what is to have it; whether a folder that is wanted is there already.
    fn make_way(&self, folder: &OwnedFd, name: &OsStr, whole: &Path, content: &Content) -> Result<bool> {
        let Ok(seen) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(false) };
        let is_folder = FileType::from_raw_mode(seen.st_mode) == FileType::Directory;
        let wanted = matches!(content, Content::Folder);
        if is_folder == wanted && wanted {
            return Ok(true);
        }
        if is_folder != wanted && self.clash == Clash::Refused {
            let (old, new) = if is_folder { ("directory", "non-directory") } else { ("non-directory", "directory") };
            let whole = whole.display().to_string();
            return Err(Error::invalid(format!("cannot overwrite {old} {whole:?} with {new} {whole:?}")));
        }
        // A file is replaced in one step, when the new one is whole.
        match content {
            Content::File if !is_folder => Ok(()),
            _ => clear(folder, name).map_err(|error| failed(whole, error)),
        }
        .map(|()| false)
    }

    fn hard_link(&self, target: &Path, folder: &OwnedFd, name: &OsStr, whole: &Path) -> Result<()> {
        let target = self.way.join(target);
        let found = self.view.resolve(&target, Last::Kept).map_err(|error| failed(&target, error))?;
        check_writable(self.view, &found)?;
        let node = self.view.look(&found).map_err(|error| failed(&found, error))?;
        let (Some(from), Kind::File) = (found.parent(), node.kind) else {
            return Err(Error::invalid(format!("hard link {:?} is refused: it names no file", whole.display())));
        };
        let source = self.view.folder(from).map_err(|error| failed(from, error))?;
        let linked = linkat(&source, found.file_name().unwrap_or_default(), folder, name, AtFlags::empty());
        linked.map_err(|error| failed(whole, error.into()))
    }
}

/// The whole file under another name, then its own.
fn file(folder: &OwnedFd, name: &OsStr, content: &mut dyn Read, size: u64, mode: u32) -> io::Result<()> {
    let random = ids::random_number().map_err(|error| io::Error::other(error.chain()))?;
    let working = OsString::from(format!(".wharf-cp-{random:016x}"));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, &working, flags, Mode::from_raw_mode(0o600))?);
    let written = io::copy(content, &mut file)
        // An archive that was cut ends like one that is whole.
        .and_then(|copied| if copied == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) })
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode | 0o400)))
        .and_then(|()| renameat(folder, &working, folder, name).map_err(io::Error::from));
    if written.is_err() {
        let _ = unlinkat(folder, &working, AtFlags::empty());
    }
    written
}

/// Times are a courtesy: a disk that keeps none is no reason to fail.
fn stamp(folder: &OwnedFd, name: &OsStr, seconds: u64) {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let _ = utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW);
}

/// Remove a name and what is below; links are not followed.
fn clear(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    let seen = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(seen.st_mode) != FileType::Directory {
        return Ok(unlinkat(&folder, name, AtFlags::empty())?);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = openat(&folder, name, flags, Mode::empty())?;
    let names: Vec<OsString> = Dir::read_from(&below)?
        .map(|entry| Ok(std::os::unix::ffi::OsStringExt::from_vec(entry?.file_name().to_bytes().to_vec())))
        .collect::<io::Result<_>>()?;
    for name in names.into_iter().filter(|name| name != "." && name != "..") {
        clear(&below, &name)?;
    }
    Ok(unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
}

/// An entry's name, relative: docker packs what is below the root with a slash before it.
fn inside(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                return Err(Error::invalid(format!("{:?} is refused: it climbs out with `..`", path.display())));
            }
            _ => {}
        }
    }
    if has_zero(&clean) {
        return Err(Error::invalid(format!("{:?} is refused: a name holds a zero byte", path.display())));
    }
    Ok(clean)
}

/// As docker: a link that climbs out of what is unpacked is none.
fn check_link(path: &Path, target: &Path) -> Result<()> {
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        depth = match component {
            Component::RootDir => return Ok(()),
            Component::Normal(_) => depth + 1,
            Component::ParentDir if depth > 0 => depth - 1,
            Component::ParentDir => {
                let (path, target) = (path.display(), target.display());
                return Err(Error::invalid(format!("invalid symlink {path:?} -> {target:?}: it points outside")));
            }
            _ => depth,
        };
    }
    Ok(())
}

fn failed(whole: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::NotADirectory
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::UnexpectedEof => ErrorKind::InvalidArgument,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("cannot write {}", whole.display())).because(error)
}
