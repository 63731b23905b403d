//! What a step puts into an image, and the layer that makes. The same files make the same layer, byte for byte: sorted,
//! with one owner, one time and one of two modes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::error::{Error, ErrorKind, Result};
use crate::image::Digest;
use crate::image::blobs::Blobs;
use crate::image::durable::{self, failed};
use crate::image::layers::Layer;
use crate::image::manifest::{Descriptor, media};
use crate::image::unpack::WHITEOUT;

const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;
const PIECE: usize = 1 << 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Folder,
    /// A file somewhere else.
    File(PathBuf),
    Bytes(Vec<u8>),
    /// What a link says.
    Link(PathBuf),
    /// Something of a lower layer that is gone.
    Removed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    content: Content,
    mode: u32,
}

/// By their paths in the image, which are relative and clean. Folders that only hold others need not be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    items: BTreeMap<PathBuf, Item>,
}

impl Files {
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The last one that is put somewhere stays. The root is always there.
    pub fn put(&mut self, path: PathBuf, content: Content, mode: Option<u32>) -> Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let is_mark = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(WHITEOUT);
        if path.iter().any(is_mark) {
            return Err(Error::invalid(format!(
                "{:?} cannot be in an image: names that begin with {WHITEOUT} mark removed files. Rename it",
                path.display()
            )));
        }
        let is_folder = content == Content::Folder;
        if !is_folder && self.holds_below(&path) {
            self.items.retain(|other, _| !other.starts_with(&path));
        }
        for above in path.ancestors().skip(1) {
            if self.items.get(above).is_some_and(|item| item.content != Content::Folder) {
                self.items.remove(above);
            }
        }
        let mode = mode.unwrap_or(if is_folder { FOLDER_MODE } else { FILE_MODE });
        self.items.insert(path, Item { content, mode });
        Ok(())
    }

    /// What is below a path comes right after it.
    fn holds_below(&self, path: &Path) -> bool {
        let mut after = self.items.range::<Path, _>((Bound::Excluded(path), Bound::Unbounded));
        after.next().is_some_and(|(next, _)| next.starts_with(path))
    }

    /// What the layer's digest will be.
    pub fn digest(&self) -> Result<Digest> {
        let mut hash = Hashing(Sha256::new());
        self.write(BufWriter::with_capacity(PIECE, &mut hash))?;
        Ok(Digest::finish(hash.0))
    }

    /// The layer, which is written unless it is there already.
    pub fn layer(&self, digest: &Digest, blobs: &Blobs) -> Result<Layer> {
        if !blobs.has(digest) {
            let mut writer = blobs.writer()?;
            self.write(BufWriter::with_capacity(PIECE, &mut writer))?;
            writer.commit(Some(digest))?;
        }
        let blob = Descriptor::new(media::LAYER, digest.clone(), blobs.size(digest)?);
        Ok(Layer { diff_id: digest.clone(), blob })
    }

    fn write(&self, out: impl Write) -> Result<()> {
        let mut archive = Builder::new(out);
        for (path, item) in &self.items {
            append(&mut archive, path, item)?;
        }
        let ended = archive.into_inner().and_then(|mut out| out.flush());
        ended.map_err(|error| failed("write", Path::new("a layer"), error))
    }
}

fn append(archive: &mut Builder<impl Write>, path: &Path, item: &Item) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(item.mode);
    header.set_size(0);
    let appended = match &item.content {
        Content::Folder => {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, path.join(""), io::empty())
        }
        Content::File(source) => return append_file(archive, &mut header, path, source),
        Content::Bytes(bytes) => {
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, &bytes[..])
        }
        Content::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, path, target)
        }
        Content::Removed => {
            let mut name = std::ffi::OsString::from(WHITEOUT);
            name.push(path.file_name().unwrap_or_default());
            archive.append_data(&mut header, path.with_file_name(name), io::empty())
        }
    };
    appended.map_err(|error| failed("write", path, error))
}

fn append_file(archive: &mut Builder<impl Write>, header: &mut Header, path: &Path, source: &Path) -> Result<()> {
    let read = |error| failed("read", source, error);
    let file = File::open(source).map_err(read)?;
    let size = file.metadata().map_err(read)?.len();
    header.set_size(size);
    let mut content = Exactly { file, left: size };
    archive.append_data(header, path, &mut content).map_err(|error| failed("write", path, error))?;
    if content.left > 0 {
        let text = format!("{} became shorter while it was read", source.display());
        return Err(Error::new(ErrorKind::Io, text));
    }
    Ok(())
}

/// As many bytes as the header said, even if the file grows meanwhile.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0.update(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A folder for one build, gone with it.
#[derive(Debug)]
pub struct Workspace {
    folder: PathBuf,
}

impl Workspace {
    pub fn make(below: &Path) -> Result<Workspace> {
        let folder = durable::unfinished(below);
        durable::create_folder(&folder)?;
        Ok(Workspace { folder })
    }

    /// A name in it that nothing has yet.
    pub fn fresh(&self) -> PathBuf {
        durable::unfinished(&self.folder)
    }

    /// Remove what a step left: the layer has it.
    pub fn clear(&self) -> Result<()> {
        for path in durable::entries(&self.folder)? {
            durable::remove(&path);
        }
        Ok(())
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot remove a build's folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &Files) -> Vec<String> {
        let mut bytes = Vec::new();
        files.write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let name = |entry: io::Result<tar::Entry<'_, _>>| {
            let entry = entry.unwrap();
            let (path, header) = (entry.path().unwrap().display().to_string(), entry.header());
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
            format!("{path} {:o}", header.mode().unwrap())
        };
        archive.entries().unwrap().map(name).collect()
    }

    #[test]
    fn order_and_facts_do_not_depend_on_how_files_came() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x"), "one").unwrap();
        let mut forth = Files::default();
        forth.put("a".into(), Content::Folder, None).unwrap();
        forth.put("a/x".into(), Content::File(folder.path().join("x")), None).unwrap();
        forth.put("b".into(), Content::Removed, None).unwrap();
        forth.put("c".into(), Content::Link("a/x".into()), Some(0o700)).unwrap();
        let mut back = Files::default();
        back.put("c".into(), Content::Link("a/x".into()), Some(0o700)).unwrap();
        back.put("b".into(), Content::Removed, None).unwrap();
        back.put("a/x".into(), Content::Bytes(b"one".to_vec()), None).unwrap();
        back.put("a".into(), Content::Folder, None).unwrap();
        assert_eq!(forth.digest().unwrap(), back.digest().unwrap());
        assert_eq!(names(&forth), ["a/ 755", "a/x 644", ".wh.b 644", "c 700"]);
    }

    #[test]
    fn long_names_are_whole() {
        let mut files = Files::default();
        let path: PathBuf = std::iter::repeat_n("a-rather-long-name", 20).collect();
        files.put(path.clone(), Content::Bytes(Vec::new()), None).unwrap();
        assert_eq!(names(&files), [format!("{} 644", path.display())]);
    }

    #[test]
    fn the_last_of_one_name_stays_and_marks_are_refused() {
        let mut files = Files::default();
        files.put("a/b".into(), Content::Bytes(vec![1]), None).unwrap();
        files.put("a".into(), Content::Bytes(vec![2]), None).unwrap();
        assert_eq!(names(&files), ["a 644"]);
        files.put("a/b".into(), Content::Bytes(vec![1]), None).unwrap();
        assert_eq!(names(&files), ["a/b 644"]);
        assert!(files.put("x/.wh.y".into(), Content::Folder, None).is_err());
    }
}
