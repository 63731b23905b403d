//! Unpacked layers, and file systems made of them. All of it is disposable: what is missing is made again from the blobs.
//!
//! `cache/layers/<diff id>/` holds a layer's files in `tree/` and what it removes in `layer.json`; `cache/rootfs/<chain id>/`
//! is a whole file system, hard-linked from its layers, so images with the same layers share it.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::blobs::Blobs;
use super::digest::Digest;
use super::durable::{self, failed};
use super::manifest::{Descriptor, media};
use super::tree;
use super::unpack::{self, Purpose, WHITEOUT};
use crate::error::{Error, ErrorKind, Result};

/// What the one file of a bare component is called.
pub const ARTIFACT_FILE: &str = "app.wasm";
/// Hides everything that lower layers put into a folder.
const OPAQUE: &str = ".wh..wh..opq";
const FACTS: &str = "layer.json";
const TREE: &str = "tree";

/// A layer: what it is and where it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the uncompressed archive; of the component itself where a layer is no archive.
    pub diff_id: Digest,
    pub blob: Descriptor,
}

/// What unpacking found out.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Facts {
    size: u64,
    whiteouts: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Layers {
    pub folder: PathBuf,
    pub rootfs: PathBuf,
    blobs: Blobs,
}

impl Layers {
    pub fn open(cache: &Path, blobs: Blobs) -> Result<Layers> {
        let layers = Layers { folder: cache.join("layers"), rootfs: cache.join("rootfs"), blobs };
        durable::create_folder(&layers.folder)?;
        durable::create_folder(&layers.rootfs)?;
        Ok(layers)
    }

    /// The file system that `layers`, lowest first, make. Read-only by agreement: its files are the layers' own.
    pub fn file_system(&self, layers: &[Layer]) -> Result<PathBuf> {
        let target = self.rootfs.join(chain_id(layers.iter().map(|layer| &layer.diff_id)).hex());
        if target.is_dir() {
            return Ok(target);
        }
        let temporary = durable::unfinished(&self.rootfs);
        let made = self.assemble(layers, &temporary, tree::hard_link).and_then(|()| settle(&temporary, &target));
        if made.is_err() {
            durable::remove(&temporary);
        }
        made.map(|()| target)
    }

    /// A copy of that file system in a new folder, to be written to.
    pub fn writable(&self, layers: &[Layer], folder: &Path) -> Result<()> {
        self.assemble(layers, folder, |from, to| {
            fs::copy(from, to).map(drop).map_err(|error| failed("write", to, error))?;
            Ok(())
        })
    }

    /// Unpack a layer unless that was done, and check its diff id. Bytes of its files.
    pub fn ensure(&self, layer: &Layer) -> Result<u64> {
        Ok(self.facts(layer)?.1.size)
    }

    /// Bytes of its files.
    pub fn size(&self, layer: &Layer) -> Result<u64> {
        Ok(self.facts(layer)?.1.size)
    }

    fn facts(&self, layer: &Layer) -> Result<(PathBuf, Facts)> {
        let folder = self.folder.join(layer.diff_id.hex());
        let read = || fs::read(folder.join(FACTS)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(facts) = read() {
            return Ok((folder.join(TREE), facts));
        }
        // A folder without facts is the work of a power failure.
        tree::clear(&folder)?;
        let temporary = durable::unfinished(&self.folder);
        let made = self.unpack(layer, &temporary).and_then(|facts| settle(&temporary, &folder).map(|()| facts));
        if made.is_err() {
            durable::remove(&temporary);
        }
        Ok((folder.join(TREE), made?))
    }

    fn unpack(&self, layer: &Layer, into: &Path) -> Result<Facts> {
        let tree = into.join(TREE);
        durable::create_folder(&tree)?;
        let path = self.blobs.path(&layer.blob.digest);
        let mut blob = self.blobs.open(&layer.blob.digest)?;
        let (facts, found) = if media::is_wasm(&layer.blob.media_type) {
            let file = tree.join(ARTIFACT_FILE);
            let size = fs::copy(&path, &file).map_err(|error| failed("write", &file, error))?;
            let mut hash = Hashing::new(&mut blob);
            io::copy(&mut hash, &mut io::sink()).map_err(|error| failed("read", &path, error))?;
            (Facts { size, whiteouts: Vec::new() }, hash.finish())
        } else {
            let (packed, taken) = unpack::counted(&mut blob);
            let mut plain = Hashing::new(unpack::decompress(packed)?);
            let unpacked = unpack::unpack_plain(&mut plain, taken, &tree, Purpose::Layer)?;
            (Facts { size: unpacked.size, whiteouts: unpacked.whiteouts }, plain.finish())
        };
        if found != layer.diff_id {
            return Err(Error::new(
                ErrorKind::Failed,
                format!(
                    "layer {} unpacks to {found}, but its image says {}: the image is damaged or a fake",
                    layer.blob.digest, layer.diff_id
                ),
            ));
        }
        let text = serde_json::to_vec(&facts)
            .map_err(|error| Error::new(ErrorKind::Failed, "cannot note what a layer holds").because(error))?;
        durable::replace(&into.join(FACTS), &text)?;
        Ok(facts)
    }

    fn assemble(&self, layers: &[Layer], into: &Path, put: impl Fn(&Path, &Path) -> Result<()>) -> Result<()> {
        durable::create_folder(into)?;
        for layer in layers {
            let (tree, facts) = self.facts(layer)?;
            for mark in &facts.whiteouts {
                hide(into, mark)?;
            }
            overlay(&tree, into, &put)?;
        }
        Ok(())
    }
}

/// Name a finished folder. If another thread was faster, its folder is as good.
fn settle(temporary: &Path, target: &Path) -> Result<()> {
    match fs::rename(temporary, target) {
        Ok(()) => Ok(()),
        Err(_) if target.is_dir() => {
            durable::remove(temporary);
            Ok(())
        }
        Err(error) => Err(failed("create", target, error)),
    }
}

fn hide(root: &Path, mark: &Path) -> Result<()> {
    let parent = mark.parent().unwrap_or(Path::new(""));
    let name = mark.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    // Nothing is hidden behind a link: it would lie elsewhere.
    let is_folder = |path: &Path| root.join(path).symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if !parent.ancestors().all(is_folder) {
        return Ok(());
    }
    if name == OPAQUE {
        for entry in durable::entries(&root.join(parent))? {
            tree::clear(&entry)?;
        }
        return Ok(());
    }
    match name.strip_prefix(WHITEOUT) {
        Some(hidden) if !matches!(hidden, "" | "." | "..") => tree::clear(&root.join(parent).join(hidden)),
        _ => Ok(()),
    }
}

/// Put the files of one tree over another's.
fn overlay(from: &Path, into: &Path, put: impl Fn(&Path, &Path) -> Result<()>) -> Result<()> {
    for path in tree::walk(from)? {
        let source = from.join(&path);
        let meta = source.symlink_metadata().map_err(|error| failed("read", &source, error))?;
        if meta.is_dir() {
            tree::folder(into, &path)?;
        } else if meta.is_symlink() {
            let target = fs::read_link(&source).map_err(|error| failed("read", &source, error))?;
            tree::link(into, &path, &target)?;
        } else {
            put(&source, &tree::place(into, &path)?)?;
        }
    }
    Ok(())
}

/// The name of a stack of layers, as the image format defines it.
pub fn chain_id<'a>(mut diff_ids: impl Iterator<Item = &'a Digest>) -> Digest {
    let first = diff_ids.next().cloned().unwrap_or_else(|| Digest::of(b""));
    diff_ids.fold(first, |chain, diff_id| Digest::of(format!("{chain} {diff_id}").as_bytes()))
}

/// Hashes what is read through it.
pub struct Hashing<R> {
    input: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    pub fn new(input: R) -> Hashing<R> {
        Hashing { input, hash: Sha256::new() }
    }

    pub fn finish(self) -> Digest {
        Digest::finish(self.hash)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
