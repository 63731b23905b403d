//! Tests of the store as a whole, by subject, and what they share: a store in a folder of its own, and small images.

mod corruption;
mod crashes;
mod layers;
mod names;
mod removal;
mod unpacking;

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::config::{History, ImageConfig, RootFs, RunConfig};
use super::digest::Digest;
use super::manifest::{Descriptor, Manifest, media};
use super::reference::Reference;
use super::{Image, Images};
use crate::error::Result;

pub struct Store {
    pub folder: tempfile::TempDir,
    pub images: Images,
}

impl Store {
    pub fn new() -> Store {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::open(folder.path()).unwrap();
        Store { folder, images }
    }

    /// As after a restart of the host.
    pub fn reopen(&mut self) {
        self.images = Images::open(self.folder.path()).unwrap();
    }

    pub fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    /// An image of one file.
    pub fn image(&self, content: &str, tags: &[&str]) -> Image {
        self.stack(&[tar(&[("app.wasm", content)])], tags).unwrap()
    }

    /// An image of layers, lowest first.
    pub fn stack(&self, layers: &[Vec<u8>], tags: &[&str]) -> Result<Image> {
        let layers: Vec<_> = layers.iter().map(|layer| (media::LAYER, layer.clone(), Digest::of(layer))).collect();
        let (manifest, _) = self.blobs_of(&layers, &[]);
        self.images.commit_manifest(&manifest, media::MANIFEST, &references(tags), None)
    }

    /// Everything of an image but its name: the manifest, and the configuration's digest.
    pub fn blobs_of(&self, layers: &[(&str, Vec<u8>, Digest)], labels: &[(&str, &str)]) -> (Vec<u8>, Digest) {
        let blobs = self.images.blobs();
        let put = |content: &[u8]| blobs.put(content).unwrap();
        let config = serde_json::to_vec(&ImageConfig {
            architecture: "wasm".into(),
            os: "wasi".into(),
            created: Some("2026-01-01T00:00:00Z".into()),
            config: RunConfig {
                entrypoint: Some(vec!["/app.wasm".into()]),
                labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                ..RunConfig::default()
            },
            rootfs: RootFs { diff_ids: layers.iter().map(|layer| layer.2.clone()).collect(), ..RootFs::default() },
            history: vec![History { created_by: "COPY app.wasm /".into(), ..History::default() }],
            ..ImageConfig::default()
        })
        .unwrap();
        let entries =
            layers.iter().map(|(kind, blob, _)| Descriptor::new(kind, put(blob), blob.len() as u64)).collect();
        let id = put(&config);
        let manifest = Manifest::new(Descriptor::new(media::CONFIG, id.clone(), config.len() as u64), entries);
        (serde_json::to_vec(&manifest).unwrap(), id)
    }

    /// Blobs, unpacked layers and file systems there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |path: &str| fs::read_dir(self.path(path)).unwrap().count();
        (count("images/blobs/sha256"), count("cache/layers"), count("cache/rootfs"))
    }

    pub fn assert_empty(&self) {
        self.images.collect_garbage().unwrap();
        assert!(self.images.list().unwrap().is_empty());
        assert_eq!(self.counts(), (0, 0, 0));
        for folder in ["images/ingest", "cache/work", "cache/build"] {
            assert_eq!(fs::read_dir(self.path(folder)).unwrap().count(), 0, "{folder}");
        }
    }
}

pub fn references(tags: &[&str]) -> Vec<Reference> {
    tags.iter().map(|tag| tag.parse().unwrap()).collect()
}

pub fn header(kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size as u64);
    header
}

/// An entry under any name at all: the tar library refuses to write hostile ones.
pub fn entry(out: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, content: &[u8]) {
    let mut header = header(kind, content.len());
    let fields = header.as_gnu_mut().unwrap();
    fields.name[..name.len()].copy_from_slice(name.as_bytes());
    fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    out.append(&header, content).unwrap();
}

pub fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Builder::new(Vec::new());
    for (name, content) in files {
        let kind = if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular };
        entry(&mut out, kind, name, "", content.as_bytes());
    }
    out.into_inner().unwrap()
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(content).unwrap();
    out.finish().unwrap()
}

/// A packed archive of one file of zeros.
pub fn bomb(size: usize) -> Vec<u8> {
    let mut out = Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    out.append_data(&mut header(EntryType::Regular, size), "zeros", &vec![0; size][..]).unwrap();
    out.into_inner().unwrap().finish().unwrap()
}

/// Files below, with their content; links with `-> target`.
pub fn listing(root: &Path) -> Vec<String> {
    let line = |path: &std::path::PathBuf| {
        let whole = root.join(path);
        let meta = whole.symlink_metadata().unwrap();
        let path = path.display();
        if meta.is_dir() {
            format!("{path}/")
        } else if meta.is_symlink() {
            format!("{path} -> {}", fs::read_link(&whole).unwrap().display())
        } else {
            format!("{path} = {}", fs::read_to_string(&whole).unwrap())
        }
    };
    super::tree::walk(root).unwrap().iter().map(line).collect()
}
