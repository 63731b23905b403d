//! Blobs by digest: `blobs/sha256/<hex>`. A blob appears under its name whole and checked, or not at all.
//!
//! Unfinished ones lie in `ingest/`: anonymous ones, which die with their writer, and `<hex>.partial` ones, which the next
//! writer of the same digest goes on with.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use super::digest::Digest;
use super::durable::{self, failed};
use crate::error::{Error, ErrorKind, Result};

/// Manifests and configurations are read into memory, so somebody else's may not be of any size. Bytes.
pub const LARGEST_DOCUMENT: u64 = 16 << 20;
const PARTIAL: &str = "partial";
const PIECE: usize = 1 << 16;

#[derive(Clone, Debug)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    ingest: PathBuf,
    /// Partial blobs that somebody is writing.
    busy: Mutex<HashSet<Digest>>,
}

impl Blobs {
    pub(super) fn at(layout: &Path) -> Result<Blobs> {
        let (folder, ingest) = (layout.join("blobs/sha256"), layout.join("ingest"));
        durable::create_folder(&folder)?;
        durable::create_folder(&ingest)?;
        Ok(Blobs { inner: Arc::new(Inner { folder, ingest, busy: Mutex::default() }) })
    }

    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    pub(super) fn ingest(&self) -> &Path {
        &self.inner.ingest
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.inner.folder.join(digest.hex())
    }

    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    pub fn size(&self, digest: &Digest) -> Result<u64> {
        let path = self.path(digest);
        fs::metadata(&path).map(|meta| meta.len()).map_err(|error| failed("read", &path, error))
    }

    pub fn open(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| failed("read", &path, error))
    }

    /// A small blob, checked against its digest.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.path(digest);
        let mut content = Vec::new();
        self.open(digest)?
            .take(LARGEST_DOCUMENT + 1)
            .read_to_end(&mut content)
            .map_err(|error| failed("read", &path, error))?;
        if content.len() as u64 > LARGEST_DOCUMENT {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("{digest} is no manifest or configuration: too large"),
            ));
        }
        if Digest::of(&content) != *digest {
            return Err(Error::new(
                ErrorKind::Failed,
                format!(
                    "{} is corrupt: its content is not what its name says. Remove the file, then pull, load or \
                         build the image again",
                    path.display()
                ),
            ));
        }
        Ok(content)
    }

    /// Keep a small blob.
    pub fn put(&self, content: &[u8]) -> Result<Digest> {
        let digest = Digest::of(content);
        if !self.has(&digest) {
            durable::replace(&self.path(&digest), content)?;
        }
        Ok(digest)
    }

    /// Make a finished file of this disk a blob: it is read and checked, and moves. `told` hears how many bytes were read.
    pub(super) fn adopt(&self, path: &Path, expected: Option<&Digest>, told: &dyn Fn(u64)) -> Result<(Digest, u64)> {
        let mut file = File::open(path).map_err(|error| failed("read", path, error))?;
        let (hash, size) = hash_to_end(&mut file, told).map_err(|error| failed("read", path, error))?;
        let digest = Digest::finish(hash);
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(not_what_it_says(expected, &digest));
        }
        let target = self.path(&digest);
        let named = file.sync_all().and_then(|()| fs::rename(path, &target));
        named.map_err(|error| failed("write", &target, error))?;
        durable::sync_folder(self.folder())?;
        Ok((digest, size))
    }

    /// A new blob whose digest need not be known yet.
    pub fn writer(&self) -> Result<BlobWriter> {
        let path = durable::unfinished(&self.inner.ingest);
        let file = durable::create(&path).map_err(|error| failed("create", &path, error))?;
        let (blobs, hash) = (self.clone(), Sha256::new());
        Ok(BlobWriter { blobs, file, path, hash, size: 0, partial: None, done: false, no_room: false })
    }

    /// A blob that begins with what an earlier writer got; see [`BlobWriter::position`]. If another one is just writing
    /// it, this one starts from nothing and both are valid.
    pub fn partial(&self, digest: &Digest) -> Result<BlobWriter> {
        if !self.busy().insert(digest.clone()) {
            return self.writer();
        }
        let path = self.inner.ingest.join(digest.hex()).with_extension(PARTIAL);
        let resumed = resume(&path);
        if resumed.is_err() {
            self.busy().remove(digest);
        }
        let (file, hash, size) = resumed.map_err(|error| failed("create", &path, error))?;
        let partial = Some(digest.clone());
        Ok(BlobWriter { blobs: self.clone(), file, path, hash, size, partial, done: false, no_room: false })
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.inner.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Read what is there into the hash, and stand at its end.
fn resume(path: &Path) -> io::Result<(File, Sha256, u64)> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let (hash, size) = hash_to_end(&mut file, &|_| ())?;
    Ok((file, hash, size))
}

fn hash_to_end(file: &mut File, told: &dyn Fn(u64)) -> io::Result<(Sha256, u64)> {
    let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((hash, size));
        }
        hash.update(&piece[..read]);
        size += read as u64;
        told(size);
    }
}

fn not_what_it_says(expected: &Digest, found: &Digest) -> Error {
    let text = format!("the content of {expected} is not what its digest says: it is {found}");
    Error::new(ErrorKind::Failed, text)
}

/// A blob being written. Dropped without [`commit`](BlobWriter::commit) it leaves nothing, or its partial file.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: Blobs,
    file: File,
    path: PathBuf,
    hash: Sha256,
    size: u64,
    partial: Option<Digest>,
    done: bool,
    /// A write found no room: what is there is given up, or it would keep the disk full.
    no_room: bool,
}

impl BlobWriter {
    /// Bytes that are there already.
    pub fn position(&self) -> u64 {
        self.size
    }

    /// Start again from nothing: the other side cannot send only the rest.
    pub fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|error| failed("write", &self.path, error))?;
        (self.hash, self.size) = (Sha256::new(), 0);
        Ok(())
    }

    /// Check the content, put it on disk and give it its name.
    pub fn commit(mut self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let digest = Digest::finish(self.hash.clone());
        if let Some(expected) = expected.or(self.partial.as_ref()).filter(|expected| **expected != digest) {
            // The next attempt must not go on with it.
            let _ = fs::remove_file(&self.path);
            return Err(not_what_it_says(expected, &digest));
        }
        let target = self.blobs.path(&digest);
        let named = self.file.sync_all().and_then(|()| fs::rename(&self.path, &target));
        named.map_err(|error| failed("write", &target, error))?;
        self.done = true;
        durable::sync_folder(self.blobs.folder())?;
        Ok((digest, self.size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let written = self.file.write(piece).inspect_err(|error| {
            self.no_room |= matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        })?;
        self.hash.update(&piece[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        match self.partial.take() {
            Some(digest) => {
                if self.no_room {
                    // Nothing else can be done about it here.
                    let _ = fs::remove_file(&self.path);
                }
                self.blobs.busy().remove(&digest);
            }
            None if !self.done => {
                // What cannot be removed now goes with the next clearing.
                let _ = fs::remove_file(&self.path);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(folder.path()).unwrap();
        (folder, blobs)
    }

    #[test]
    fn a_blob_is_named_by_what_it_holds() {
        let (_folder, blobs) = blobs();
        let mut writer = blobs.writer().unwrap();
        writer.write_all(b"hello").unwrap();
        let (digest, size) = writer.commit(None).unwrap();
        assert_eq!((digest.clone(), size), (Digest::of(b"hello"), 5));
        assert_eq!(blobs.read(&digest).unwrap(), b"hello");
        assert_eq!(durable::entries(blobs.ingest()).unwrap(), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_lie_is_kept_nowhere() {
        let (_folder, blobs) = blobs();
        let digest = Digest::of(b"truth");
        let mut writer = blobs.partial(&digest).unwrap();
        writer.write_all(b"lie").unwrap();
        assert!(writer.commit(None).unwrap_err().to_string().contains("is not what its digest says"));
        assert!(!blobs.has(&digest));
        assert_eq!(blobs.partial(&digest).unwrap().position(), 0);
    }

    #[test]
    fn a_partial_blob_goes_on_where_it_was() {
        let (_folder, blobs) = blobs();
        let digest = Digest::of(b"one two");
        let mut first = blobs.partial(&digest).unwrap();
        first.write_all(b"one").unwrap();
        let beside = blobs.partial(&digest).unwrap();
        assert_eq!(beside.position(), 0);
        drop((first, beside));
        let mut second = blobs.partial(&digest).unwrap();
        assert_eq!(second.position(), 3);
        second.write_all(b" two").unwrap();
        second.commit(Some(&digest)).unwrap();
        assert!(blobs.has(&digest));
    }

    #[test]
    fn a_corrupt_document_is_noticed() {
        let (_folder, blobs) = blobs();
        let digest = blobs.put(b"{}").unwrap();
        fs::write(blobs.path(&digest), b"[]").unwrap();
        assert!(blobs.read(&digest).unwrap_err().to_string().contains("is corrupt"));
    }
}
