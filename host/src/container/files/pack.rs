//! Part of a container's files as a tar archive, in docker's order and with docker's names.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::{EntryType, Header};

use super::view::{Kind, Node, View};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a name that a header holds; a longer one has an entry of its own before it.
const NAME: usize = 100;
const BLOCK: u64 = 512;

/// Write what is at `way`, called `name` in the archive, and what is below.
pub fn pack(view: &View, way: &Path, name: &[u8], out: &mut dyn Write) -> Result<()> {
    let node = view.look(way).map_err(|error| failed(way, error))?;
    match node.kind {
        // As docker does: they mean nothing outside.
        Kind::Special => Ok(()),
        Kind::Link => {
            let target = node.target.clone().unwrap_or_default();
            entry(out, name, EntryType::Symlink, &node, 0, target.as_os_str().as_bytes())
                .map_err(|error| failed(way, error))
        }
        Kind::File => file(view, way, name, out),
        Kind::Folder => {
            let mut named = name.to_vec();
            if !named.ends_with(b"/") {
                named.push(b'/');
            }
            entry(out, &named, EntryType::Directory, &node, 0, b"").map_err(|error| failed(way, error))?;
            children(view, way, &named, out)
        }
    }
}

/// What is in the folder at `way`, without the folder; `prefix` ends with a slash, or is empty.
pub fn children(view: &View, way: &Path, prefix: &[u8], out: &mut dyn Write) -> Result<()> {
    for child in view.list(way).map_err(|error| failed(way, error))? {
        let below = way.join(&child);
        match pack(view, &below, &joined(prefix, &child), out) {
            // Removed since the folder was read.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            packed => packed?,
        }
    }
    Ok(())
}

/// The two empty blocks that end an archive.
pub fn finish(out: &mut dyn Write) -> Result<()> {
    out.write_all(&[0; 2 * BLOCK as usize]).map_err(|error| failed(Path::new("/"), error))
}

fn joined(prefix: &[u8], name: &OsStr) -> Vec<u8> {
    [prefix, name.as_bytes()].concat()
}

fn file(view: &View, way: &Path, name: &[u8], out: &mut dyn Write) -> Result<()> {
    let opened = view.file(way).map_err(|error| failed(way, error))?;
    let node = view.look(way).map_err(|error| failed(way, error))?;
    let size = opened.metadata().map_err(|error| failed(way, error))?.len();
    entry(out, name, EntryType::Regular, &node, size, b"").map_err(|error| failed(way, error))?;
    let copied = io::copy(&mut opened.take(size), out).map_err(|error| failed(way, error))?;
    if copied < size {
        let text = format!("{} became shorter while it was read: try again", way.display());
        return Err(Error::new(ErrorKind::Failed, text));
    }
    let padding = (BLOCK - size % BLOCK) % BLOCK;
    io::copy(&mut io::repeat(0).take(padding), out).map_err(|error| failed(way, error))?;
    Ok(())
}

fn entry(out: &mut dyn Write, name: &[u8], kind: EntryType, node: &Node, size: u64, link: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(node.mode);
    header.set_size(size);
    header.set_uid(node.owner.0);
    header.set_gid(node.owner.1);
    header.set_mtime(u64::try_from(node.modified.0).unwrap_or(0));
    long(out, b'K', link)?;
    long(out, b'L', name)?;
    let (name, link) = (name.get(..NAME).unwrap_or(name), link.get(..NAME).unwrap_or(link));
    // Bytes as they are: the setters refuse absolute names, which docker gives to what is below the root.
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.name.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
        gnu.linkname.iter_mut().zip(link).for_each(|(to, from)| *to = *from);
    }
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// A name too long for a header, before it.
fn long(out: &mut dyn Write, kind: u8, name: &[u8]) -> io::Result<()> {
    if name.len() <= NAME {
        return Ok(());
    }
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(name.len() as u64 + 1);
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.name.iter_mut().zip(b"././@LongLink").for_each(|(to, from)| *to = *from);
    }
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(name)?;
    let padding = BLOCK - name.len() as u64 % BLOCK;
    io::copy(&mut io::repeat(0).take(padding), out).map(drop)
}

fn failed(way: &Path, error: io::Error) -> Error {
    let kind = if error.kind() == io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
    Error::new(kind, format!("cannot pack {}", way.display())).because(error)
}
