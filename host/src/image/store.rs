//! The store: images by name and id, naming them, and what is under way and must not be collected. Blocking; safe from
//! many threads.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::blobs::Blobs;
use super::config::ImageConfig;
use super::digest::Digest;
use super::layers::{ARTIFACT_FILE, Layer, Layers};
use super::layout::{self, Layout};
use super::manifest::{Descriptor, Index, Manifest, media};
use super::reference::Reference;
use super::{durable, garbage};
use crate::error::{Error, ErrorKind, Result};

#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Digest of the configuration.
    pub id: Digest,
    pub manifest: Digest,
    pub manifest_size: u64,
    /// The manifest's.
    pub media_type: String,
    pub config: ImageConfig,
    /// Familiar names, e.g. `app:latest`.
    pub tags: Vec<String>,
    /// Familiar names with digests, e.g. `localhost:5000/app@sha256:…`.
    pub repo_digests: Vec<String>,
    pub created: SystemTime,
    /// Bytes of the files in all layers.
    pub size: u64,
    pub parent: Option<Digest>,
    pub last_tagged: Option<SystemTime>,
}

impl Image {
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.config.config.labels
    }
}

/// A manifest and its configuration, which never change.
#[derive(Debug)]
pub(super) struct Parsed {
    pub descriptor: Descriptor,
    pub manifest: Manifest,
    pub config: ImageConfig,
}

impl Parsed {
    pub fn id(&self) -> &Digest {
        &self.manifest.config.digest
    }

    pub fn layers(&self) -> Result<Vec<Layer>> {
        let blobs = &self.manifest.layers;
        if self.manifest.is_artifact() {
            return Ok(blobs.iter().map(|blob| Layer { diff_id: blob.digest.clone(), blob: blob.clone() }).collect());
        }
        let diff_ids = &self.config.rootfs.diff_ids;
        if diff_ids.len() != blobs.len() {
            let (said, found) = (diff_ids.len(), blobs.len());
            let text = format!("image {} is damaged: it names {said} layers and has {found}", self.id());
            return Err(Error::new(ErrorKind::Failed, text));
        }
        let layer = |(diff_id, blob): (&Digest, &Descriptor)| Layer { diff_id: diff_id.clone(), blob: blob.clone() };
        Ok(diff_ids.iter().zip(blobs).map(layer).collect())
    }
}

/// An image whose blobs are all there, and which nothing refers to yet.
#[derive(Debug)]
pub(super) struct Prepared {
    entry: Descriptor,
    id: Digest,
}

impl Prepared {
    pub fn id(&self) -> &Digest {
        &self.id
    }

    pub fn manifest(&self) -> &Digest {
        &self.entry.digest
    }
}

#[derive(Clone, Debug)]
pub struct Images {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub layout: Layout,
    pub blobs: Blobs,
    pub layers: Layers,
    /// Records of build steps.
    pub steps: PathBuf,
    /// What builds work in.
    pub work: PathBuf,
    under_way: Mutex<UnderWay>,
    parsed: Mutex<HashMap<Digest, Arc<Parsed>>>,
}

#[derive(Debug, Default)]
struct UnderWay {
    holds: usize,
    /// The collector was called meanwhile.
    postponed: bool,
}

/// While one lives, nothing is collected: what is being built or pulled has no name yet. The collector then runs when the
/// last one goes.
#[derive(Debug)]
pub struct Hold {
    images: Images,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut under_way = self.images.under_way();
        under_way.holds = under_way.holds.saturating_sub(1);
        if under_way.holds > 0 || !std::mem::take(&mut under_way.postponed) {
            return;
        }
        if let Err(error) = garbage::collect(&self.images) {
            tracing::warn!(error = %error.chain(), "cannot collect what no image needs any more");
        }
    }
}

impl Images {
    /// The store below `root`, made if it is not there. What an earlier process left unfinished is cleared.
    pub fn open(root: &Path) -> Result<Images> {
        let layout = root.join("images");
        let cache = root.join("cache");
        let blobs = Blobs::at(&layout)?;
        let layers = Layers::open(&cache, blobs.clone())?;
        let (steps, work) = (cache.join("build"), cache.join("work"));
        durable::create_folder(&steps)?;
        durable::create_folder(&work)?;
        let layout = Layout::open(&layout)?;
        let (under_way, parsed) = (Mutex::default(), Mutex::default());
        let images = Images { inner: Arc::new(Inner { layout, blobs, layers, steps, work, under_way, parsed }) };
        garbage::clear_unfinished(&images)?;
        Ok(images)
    }

    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Keep the collector away until the result is dropped.
    pub fn hold(&self) -> Hold {
        self.under_way().holds += 1;
        Hold { images: self.clone() }
    }

    /// Remove blobs and caches that nothing refers to, or do so as soon as nothing is under way. Bytes that were freed now.
    pub fn collect_garbage(&self) -> Result<u64> {
        let mut under_way = self.under_way();
        if under_way.holds > 0 {
            under_way.postponed = true;
            return Ok(0);
        }
        garbage::collect(self)
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.inner.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parsed_before(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Parsed>>> {
        self.inner.parsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget_parsed(&self) {
        self.parsed_before().clear();
    }

    /// The manifest of an entry and its configuration, checked. An index gives the image of it that suits this host.
    pub(super) fn parse(&self, entry: &Descriptor) -> Result<Arc<Parsed>> {
        if let Some(parsed) = self.parsed_before().get(&entry.digest) {
            return Ok(parsed.clone());
        }
        let mut descriptor = entry.clone();
        if media::is_index(&entry.media_type) {
            let index: Index = json(&self.inner.blobs.read(&entry.digest)?, "index", &entry.digest)?;
            descriptor = index.choose(None).cloned().ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("{} holds no image for this host", entry.digest))
            })?;
        }
        let content = self.inner.blobs.read(&descriptor.digest)?;
        let parsed = Arc::new(self.parse_manifest(&content, descriptor)?);
        self.parsed_before().insert(entry.digest.clone(), parsed.clone());
        Ok(parsed)
    }

    pub(super) fn parse_manifest(&self, content: &[u8], descriptor: Descriptor) -> Result<Parsed> {
        let manifest: Manifest = json(content, "manifest", &descriptor.digest)?;
        let config = &manifest.config.digest;
        let mut config: ImageConfig = json(&self.inner.blobs.read(config)?, "configuration", config)?;
        if manifest.is_artifact() && config.config.entrypoint.is_none() {
            config.config.entrypoint = Some(vec![format!("/{ARTIFACT_FILE}")]);
        }
        Ok(Parsed { descriptor, manifest, config })
    }

    /// All images, newest first. An entry that cannot be read is left where it is, and not shown.
    pub fn list(&self) -> Result<Vec<Image>> {
        let mut images: Vec<Image> = Vec::new();
        let mut known: HashMap<Digest, usize> = HashMap::new();
        for entry in &self.inner.layout.read()?.manifests {
            let parsed = match self.parse(entry) {
                Ok(parsed) => parsed,
                Err(error) => {
                    tracing::warn!(error = %error.chain(), entry = %entry.digest, "an image cannot be read");
                    continue;
                }
            };
            let at = *known.entry(parsed.id().clone()).or_insert_with(|| {
                images.push(image(&parsed, entry));
                images.len() - 1
            });
            if let Some((image, name)) = images.get_mut(at).zip(layout::name(entry)) {
                let names = if name.digest.is_some() { &mut image.repo_digests } else { &mut image.tags };
                names.push(name.familiar());
                names.sort();
                let tagged = entry.annotations.get(layout::TAGGED).and_then(|time| parse_time(time));
                image.last_tagged = image.last_tagged.max(tagged);
            }
        }
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(images)
    }

    /// By name, name and tag, name and digest, id or the beginning of an id.
    pub fn find(&self, name: &str) -> Result<Image> {
        let images = self.list()?;
        if let Some(image) = by_id(&images, name) {
            return Ok(image.clone());
        }
        let reference = name.parse::<Reference>().map(Reference::or_latest);
        if let Some(image) = reference.as_ref().ok().and_then(|reference| by_reference(&images, reference)) {
            let mut image = image.clone();
            // Two manifests may have one configuration: this name's is meant.
            if let Ok(reference) = &reference {
                self.prefer_manifest(&mut image, reference)?;
            }
            return Ok(image);
        }
        if let Some(image) = by_prefix(&images, name)? {
            return Ok(image.clone());
        }
        let shown = reference.map(|reference| reference.familiar());
        Err(no_such_image(&shown.unwrap_or_else(|_| name.to_owned())))
    }

    fn prefer_manifest(&self, image: &mut Image, reference: &Reference) -> Result<()> {
        let index = self.inner.layout.read()?;
        let entry = index.manifests.iter().find(|entry| layout::name(entry).as_ref() == Some(reference));
        if let Some(parsed) = entry.map(|entry| self.parse(entry)).transpose()? {
            image.manifest = parsed.descriptor.digest.clone();
            image.manifest_size = parsed.descriptor.size;
            image.media_type.clone_from(&parsed.descriptor.media_type);
        }
        Ok(())
    }

    /// Name an image. Another one that has the name loses it.
    pub fn tag(&self, image: &Digest, reference: &Reference) -> Result<()> {
        let reference = reference.clone().or_latest();
        self.inner.layout.update(|index| {
            let entry = self.entry(index, image)?;
            layout::set_name(index, &entry, &reference, &now());
            Ok(())
        })
    }

    /// Note under which digest a registry keeps an image, e.g. after a push.
    pub fn note_digest(&self, image: &Digest, reference: &Reference) -> Result<()> {
        let Some(digest) = &reference.digest else {
            return Err(Error::invalid(format!("{reference} has no digest to note")));
        };
        self.tag(image, &reference.with_digest(digest))
    }

    /// The entry of an image, without its name.
    pub(super) fn entry(&self, index: &Index, image: &Digest) -> Result<Descriptor> {
        let is_it = |entry: &&Descriptor| self.parse(entry).is_ok_and(|parsed| parsed.id() == image);
        let entry = index.manifests.iter().find(is_it).ok_or_else(|| no_such_image(image.as_str()))?;
        Ok(layout::nameless(entry.clone()))
    }

    /// Make an image of blobs that are all there: its layers are unpacked and checked, then it gets its names, at once.
    /// Names with a digest say where it came from.
    pub fn commit_manifest(
        &self,
        manifest: &[u8],
        media_type: &str,
        tags: &[Reference],
        parent: Option<&Digest>,
    ) -> Result<Image> {
        let _hold = self.hold();
        let prepared = self.prepare(manifest, media_type, parent)?;
        self.enlist([(&prepared, tags)].into_iter())?;
        let mut made = self.find(prepared.id().as_str())?;
        made.manifest = prepared.entry.digest;
        Ok(made)
    }

    /// Keep a manifest, and unpack and check its layers. The image is none yet; see [`Images::enlist`]. Needs a [`Hold`].
    pub(super) fn prepare(&self, manifest: &[u8], media_type: &str, parent: Option<&Digest>) -> Result<Prepared> {
        let digest = self.inner.blobs.put(manifest)?;
        let mut entry = Descriptor::new(media_type, digest, manifest.len() as u64);
        let parsed = self.parse_manifest(manifest, entry.clone())?;
        let mut size = 0;
        for layer in parsed.layers()? {
            size += self.inner.layers.ensure(&layer)?;
        }
        entry.annotations.insert(layout::SIZE.to_owned(), size.to_string());
        if let Some(parent) = parent {
            entry.annotations.insert(layout::PARENT.to_owned(), parent.to_string());
        }
        Ok(Prepared { entry, id: parsed.id().clone() })
    }

    /// Let prepared images be images under their names: all of them or, should it fail, none.
    pub(super) fn enlist<'a>(&self, prepared: impl Iterator<Item = (&'a Prepared, &'a [Reference])>) -> Result<()> {
        self.inner.layout.update(|index| {
            for (Prepared { entry, .. }, tags) in prepared {
                if !index.manifests.iter().any(|other| other.digest == entry.digest) {
                    index.manifests.push(entry.clone());
                }
                for tag in tags {
                    layout::set_name(index, entry, &tag.clone().or_latest(), &now());
                }
            }
            Ok(())
        })
    }

    /// The files of an image, unpacked. Read-only by agreement.
    pub fn rootfs(&self, image: &Digest) -> Result<PathBuf> {
        let _hold = self.hold();
        self.inner.layers.file_system(&self.layers_of(image)?)
    }

    pub(super) fn layers_of(&self, image: &Digest) -> Result<Vec<Layer>> {
        let entry = self.entry(&self.inner.layout.read()?, image)?;
        self.parse(&entry)?.layers()
    }
}

fn image(parsed: &Parsed, entry: &Descriptor) -> Image {
    let tagged = entry.annotations.get(layout::TAGGED).and_then(|time| parse_time(time));
    let created = parsed.config.created.as_deref().and_then(parse_time);
    // Of an image from another tool, what its layers take packed is the best guess.
    let packed = || parsed.manifest.layers.iter().map(|layer| layer.size).sum();
    Image {
        id: parsed.id().clone(),
        manifest: parsed.descriptor.digest.clone(),
        manifest_size: parsed.descriptor.size,
        media_type: parsed.descriptor.media_type.clone(),
        config: parsed.config.clone(),
        tags: Vec::new(),
        repo_digests: Vec::new(),
        created: created.or(tagged).unwrap_or(SystemTime::UNIX_EPOCH),
        size: entry.annotations.get(layout::SIZE).and_then(|size| size.parse().ok()).unwrap_or_else(packed),
        parent: entry.annotations.get(layout::PARENT).and_then(|parent| parent.parse().ok()),
        last_tagged: tagged,
    }
}

fn json<T: serde::de::DeserializeOwned>(content: &[u8], what: &str, digest: &Digest) -> Result<T> {
    serde_json::from_slice(content)
        .map_err(|error| Error::invalid(format!("{digest} is no {what} of an image")).because(error))
}

fn by_id<'a>(images: &'a [Image], name: &str) -> Option<&'a Image> {
    let digest = name.parse::<Digest>().ok().or_else(|| Digest::from_hex(name))?;
    images.iter().find(|image| image.id == digest || image.manifest == digest)
}

fn by_reference<'a>(images: &'a [Image], reference: &Reference) -> Option<&'a Image> {
    let Some(digest) = &reference.digest else {
        let name = reference.familiar();
        return images.iter().find(|image| image.tags.contains(&name));
    };
    let name = reference.with_digest(digest).familiar();
    let repository = reference.familiar_name() + ":";
    images.iter().find(|image| {
        let has_tag = image.tags.iter().any(|tag| tag.starts_with(&repository));
        image.repo_digests.contains(&name) || (image.manifest == *digest && has_tag)
    })
}

fn by_prefix<'a>(images: &'a [Image], name: &str) -> Result<Option<&'a Image>> {
    let prefix = name.strip_prefix("sha256:").unwrap_or(name);
    if prefix.is_empty() || !prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    let mut found = images.iter().filter(|image| image.id.hex().starts_with(prefix));
    let first = found.next();
    if found.next().is_some() {
        return Err(Error::invalid(format!("multiple IDs found with provided prefix: {prefix}")));
    }
    Ok(first)
}

pub(super) fn no_such_image(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("No such image: {name}"))
}

/// In RFC 3339.
pub(super) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

pub(super) fn parse_time(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}
