//! An archive from outside, unpacked into a folder of its own, and what is taken out of it. The folder goes when the load
//! ends, however it ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::BLOBS;
use crate::error::{Error, ErrorKind, Result};
use crate::image::blobs::{Blobs, LARGEST_DOCUMENT};
use crate::image::digest::Digest;
use crate::image::durable::{self, failed};
use crate::image::manifest::Descriptor;
use crate::image::{tree, unpack};

/// Enough to see how a file is compressed; bytes.
const HEAD: u64 = 16;

pub struct Spool {
    root: PathBuf,
    blobs: Blobs,
    /// What is in the store now, by where it lay.
    kept: RefCell<HashMap<PathBuf, (Digest, u64)>>,
}

impl Drop for Spool {
    fn drop(&mut self) {
        durable::remove(&self.root);
    }
}

impl Spool {
    /// Unpack an archive below `work`. Links that lead outside, devices, bombs and the like are refused there.
    pub fn fill(input: &mut dyn Read, work: &Path, blobs: Blobs) -> Result<Spool> {
        let root = durable::unfinished(work);
        let spool = Spool { root, blobs, kept: RefCell::default() };
        unpack::unpack(input, &spool.root, unpack::Purpose::Files)?;
        Ok(spool)
    }

    /// A small file.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let whole = self.find(path)?;
        let mut content = Vec::new();
        File::open(&whole)
            .and_then(|file| file.take(LARGEST_DOCUMENT + 1).read_to_end(&mut content))
            .map_err(|error| failed("read", &whole, error))?;
        if content.len() as u64 > LARGEST_DOCUMENT {
            let text =
                format!("{path:?} in the archive is no description of an image: larger than {LARGEST_DOCUMENT} bytes");
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        Ok(content)
    }

    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_ok()
    }

    /// A manifest or an index, checked against what pointed at it.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let content = self.read(&blob(&descriptor.digest))?;
        let found = (Digest::of(&content), content.len() as u64);
        check(descriptor, &found)?;
        Ok(content)
    }

    /// Move a blob of the layout into the store, checked against what pointed at it.
    pub fn keep_blob(&self, descriptor: &Descriptor, told: &dyn Fn(u64)) -> Result<()> {
        let found = self.keep(&blob(&descriptor.digest), Some(&descriptor.digest), told)?;
        check(descriptor, &found)
    }

    /// Move a file into the store. What it turned out to be; an error if it is not what was expected.
    pub fn keep(&self, path: &str, expected: Option<&Digest>, told: &dyn Fn(u64)) -> Result<(Digest, u64)> {
        let clean = tree::inside(Path::new(path))?;
        if let Some(known) = self.kept.borrow().get(&clean) {
            return Ok(known.clone());
        }
        let whole = self.find(path)?;
        // Several paths may lead to one file: earlier versions of Docker linked equal layers.
        let known = self.kept.borrow().get(&whole).cloned();
        let found = match known {
            Some(known) => known,
            None => self.blobs.adopt(&whole, expected, told)?,
        };
        let mut kept = self.kept.borrow_mut();
        kept.insert(clean, found.clone());
        kept.insert(whole, found.clone());
        Ok(found)
    }

    /// A file's size and its first bytes.
    pub fn head(&self, path: &str) -> Result<(u64, Vec<u8>)> {
        let whole = self.find(path)?;
        let read = || {
            let file = File::open(&whole)?;
            let (size, mut head) = (file.metadata()?.len(), Vec::new());
            file.take(HEAD).read_to_end(&mut head)?;
            Ok((size, head))
        };
        read().map_err(|error| failed("read", &whole, error))
    }

    /// Where a file of the archive is, links followed.
    fn find(&self, path: &str) -> Result<PathBuf> {
        let missing = || Error::invalid(format!("the archive is incomplete: it has no file {path:?}"));
        let whole = self.root.join(tree::inside(Path::new(path))?);
        let found = fs::canonicalize(&whole).map_err(|error| missing().because(error))?;
        let root = fs::canonicalize(&self.root).map_err(|error| failed("read", &self.root, error))?;
        if !found.starts_with(root) || !found.is_file() {
            return Err(missing());
        }
        Ok(found)
    }
}

pub fn blob(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

fn check(descriptor: &Descriptor, (digest, size): &(Digest, u64)) -> Result<()> {
    if *digest != descriptor.digest {
        return Err(Error::invalid(format!(
            "the archive is damaged or a fake: the content of {} is not what its digest says, it is {digest}",
            descriptor.digest
        )));
    }
    if *size != descriptor.size {
        return Err(Error::invalid(format!(
            "the archive is damaged or a fake: {digest} has {size} bytes, and is said to have {}",
            descriptor.size
        )));
    }
    Ok(())
}
