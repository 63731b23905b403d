//! Files of this machine into an archive and out of one, for `wharf cp`. Knows no daemon.
//!
//! An archive that comes from a container was written by strangers: no entry of it leaves the folder it is for.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::TryStreamExt;
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::error::{Error, ErrorKind, Result};

/// What is to be packed.
pub struct Source {
    path: PathBuf,
    pub is_folder: bool,
}

/// A path as it was typed; a slash at its end, or `follow`, means what a link leads to.
pub fn source(typed: &str, follow: bool) -> Result<Source> {
    let followed = follow || typed.ends_with('/') || typed.ends_with("/.");
    let path = Path::new(typed);
    let found = if followed { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let found = found.map_err(|error| {
        let kind = if error.kind() == io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        let why = if kind == ErrorKind::NotFound { "no such file or directory".to_owned() } else { error.to_string() };
        Error::new(kind, format!("lstat {typed}: {why}"))
    })?;
    if typed.ends_with('/') && !found.is_dir() {
        return Err(Error::invalid(format!("lstat {typed}: not a directory")));
    }
    let path = if followed { fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()) } else { path.to_owned() };
    Ok(Source { path, is_folder: found.is_dir() })
}

/// The archive of `source`, its top called `name`, written by a thread as it is read.
pub fn pack(source: Source, name: String) -> Result<impl Read + Send + 'static> {
    let (reader, writer) =
        io::pipe().map_err(|error| Error::new(ErrorKind::Io, "cannot make a pipe").because(error))?;
    let (failed, failure) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut archive = tar::Builder::new(io::BufWriter::new(writer));
        archive.follow_symlinks(false);
        // The daemon takes none.
        archive.sparse(false);
        let name = if name == "." || name == "/" { "" } else { name.as_str() };
        let packed = if source.is_folder {
            archive.append_dir_all(name, &source.path)
        } else {
            archive.append_path_with_name(&source.path, name)
        };
        if let Err(error) = packed.and_then(|()| archive.into_inner()?.flush()) {
            // Nobody listens any more when the request has ended.
            let _ = failed.send(error);
        }
    });
    Ok(Packed { reader, failure })
}

/// A pipe ends alike when its writer failed; the reader has to know.
struct Packed {
    reader: io::PipeReader,
    failure: std::sync::mpsc::Receiver<io::Error>,
}

impl Read for Packed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(into)? {
            // The thread has ended, or is about to: what it has to say is said before its end of the channel is gone.
            0 => self.failure.recv().map_or(Ok(0), Err),
            read => Ok(read),
        }
    }
}

/// Unpack into `folder`; what is called `top` in the archive is called `name` here.
pub fn unpack(input: &mut dyn Read, folder: &Path, top: &str, name: &str) -> Result<()> {
    let unreadable = |error| Error::new(ErrorKind::Io, "the container's archive broke off").because(error);
    let mut archive = tar::Archive::new(input);
    let mut folders = Vec::new();
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.into_owned();
        let whole = place(folder, &renamed(&path, top, name)?)?;
        let failed = |error| Error::new(ErrorKind::Io, format!("cannot write {}", whole.display())).because(error);
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                if !whole.is_dir() {
                    fs::create_dir(&whole).map_err(failed)?;
                    // Last: a folder that must not be written could not be filled.
                    folders.push((whole.clone(), entry.header().mode().unwrap_or(0o755)));
                }
            }
            tar::EntryType::Regular | tar::EntryType::Symlink => {
                if whole.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                    let text = format!("cannot overwrite directory {whole:?} with non-directory {whole:?}");
                    return Err(Error::invalid(text));
                }
                entry.unpack(&whole).map_err(failed)?;
            }
            _ => return Err(Error::invalid(format!("{path:?} is refused: it is no file, folder or link"))),
        }
    }
    for (folder, mode) in folders.into_iter().rev() {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777);
        fs::set_permissions(&folder, mode)
            .map_err(|error| Error::new(ErrorKind::Io, format!("cannot write {}", folder.display())).because(error))?;
    }
    Ok(())
}

/// An entry's name with the first name changed. `/` and `.` stand for what is in a folder.
fn renamed(path: &Path, top: &str, name: &str) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                return Err(Error::invalid(format!("{path:?} is refused: it climbs out with `..`")));
            }
            _ => {}
        }
    }
    let below = match top {
        "." | "/" => clean.as_path(),
        top => clean.strip_prefix(top).map_err(|_| Error::invalid(format!("{path:?} is not below {top:?}")))?,
    };
    let name = if name == "." || name == "/" { "" } else { name };
    let whole = Path::new(name).join(below);
    // Joined with nothing, a name would end with a slash.
    Ok(whole.components().collect())
}

/// The path in `folder`, if no link is on its way.
fn place(folder: &Path, path: &Path) -> Result<PathBuf> {
    let mut whole = folder.to_owned();
    let names: Vec<_> = path.components().collect();
    for (number, name) in names.iter().enumerate() {
        whole.push(name);
        let last = number + 1 == names.len();
        if !last && whole.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
            let text = format!("{} is refused: {} is a link", path.display(), whole.display());
            return Err(Error::invalid(text));
        }
    }
    Ok(whole)
}

/// Without `.` and `..`.
pub fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            component => clean.push(component),
        }
    }
    clean
}

/// Counts what passes.
pub struct Counted<R> {
    input: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Counted<R> {
    pub fn new(input: R) -> Counted<R> {
        Counted { input, bytes: Arc::default() }
    }

    pub fn shared(&self) -> Arc<AtomicU64> {
        self.bytes.clone()
    }

    /// What is left is read first: padding counts, as docker counts it.
    pub fn bytes(mut self) -> u64 {
        let _ = io::copy(&mut self.input, &mut io::sink()).map(|rest| self.bytes.fetch_add(rest, Ordering::Relaxed));
        self.bytes.load(Ordering::Relaxed)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A response's body for code that blocks, on a thread of its own.
pub fn download(body: Incoming) -> impl Read + Send + 'static {
    SyncIoBridge::new(StreamReader::new(BodyDataStream::new(body).map_err(io::Error::other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(path: &str, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(source(path, false).unwrap(), name.to_owned()).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_tree_goes_there_and_back() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("d/empty")).unwrap();
        fs::write(from.path().join("d/f"), "text").unwrap();
        std::os::unix::fs::symlink("f", from.path().join("d/link")).unwrap();
        let archive = packed(from.path().join("d").to_str().unwrap(), "e");
        unpack(&mut &archive[..], to.path(), "e", "g").unwrap();
        assert_eq!(fs::read_to_string(to.path().join("g/link")).unwrap(), "text");
        assert!(to.path().join("g/empty").is_dir());
        let archive = packed(from.path().join("d/f").to_str().unwrap(), "h");
        unpack(&mut &archive[..], to.path(), "h", "i").unwrap();
        assert_eq!(fs::read_to_string(to.path().join("i")).unwrap(), "text");
        assert!(source(from.path().join("none").to_str().unwrap(), false).is_err());
    }

    #[test]
    fn an_archive_stays_in_its_folder() {
        let (to, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(renamed(Path::new("d/../../x"), "d", "d").is_err());
        assert_eq!(renamed(Path::new("/x"), "/", ".").unwrap(), Path::new("x"));
        assert_eq!(renamed(Path::new("./x/y"), ".", "e").unwrap(), Path::new("e/x/y"));
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "d", outside.path()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        archive.append_data(&mut header, "d/escaped", &b"x"[..]).unwrap();
        let bytes = archive.into_inner().unwrap();
        assert!(unpack(&mut &bytes[..], to.path(), ".", ".").is_err());
        assert!(!outside.path().join("escaped").exists());
    }
}
