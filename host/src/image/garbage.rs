//! What nothing refers to any more, and removing it. Runs only while nothing is under way; see [`Hold`](super::Hold).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::digest::Digest;
use super::durable;
use super::layers::{Layer, chain_id};
use super::manifest::{Index, media};
use super::steps;
use super::store::Images;
use crate::error::Result;

/// How long the beginning of a blob waits for somebody to pull the rest.
const PARTIAL_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Everything that the index reaches.
#[derive(Debug, Default)]
struct Reached {
    blobs: HashSet<Digest>,
    diffs: HashSet<Digest>,
    chains: HashSet<Digest>,
    images: HashSet<Digest>,
}

/// Bytes that were freed. The caller sees to it that nothing is under way.
pub(super) fn collect(images: &Images) -> Result<u64> {
    // What was read before may be damaged now, and would reach what is no longer there.
    images.forget_parsed();
    let mut reached = Reached::default();
    reach(images, &images.inner.layout.read()?, &mut reached);
    for step in steps::keep_only(&images.inner.steps, &reached.images)? {
        for layer in &step.layers {
            reached.blobs.insert(layer.blob.digest.clone());
            reached.diffs.insert(layer.diff_id.clone());
        }
        reached.chains.insert(chain_id(step.layers.iter().map(|layer| &layer.diff_id)));
    }
    let inner = &images.inner;
    let mut freed = 0;
    freed += keep_only(&inner.layers.rootfs, &reached.chains)?;
    freed += keep_only(&inner.layers.folder, &reached.diffs)?;
    freed += keep_only(inner.blobs.folder(), &reached.blobs)?;
    Ok(freed + clear_old(inner.blobs.ingest())?)
}

fn reach(images: &Images, index: &Index, reached: &mut Reached) {
    for entry in &index.manifests {
        reached.blobs.insert(entry.digest.clone());
        if media::is_index(&entry.media_type) {
            let content = images.inner.blobs.read(&entry.digest);
            if let Some(nested) = content.ok().and_then(|content| serde_json::from_slice::<Index>(&content).ok())
                && nested != *index
            {
                reach(images, &nested, reached);
            }
            continue;
        }
        // What cannot be read reaches nothing further, and keeps its own blob.
        let Ok(parsed) = images.parse(entry) else { continue };
        reached.images.insert(parsed.id().clone());
        reached.blobs.insert(parsed.id().clone());
        reached.blobs.extend(parsed.manifest.layers.iter().map(|layer| layer.digest.clone()));
        let Ok(layers) = parsed.layers() else { continue };
        reached.chains.insert(chain_id(layers.iter().map(|layer| &layer.diff_id)));
        reached.diffs.extend(layers.into_iter().map(|layer| layer.diff_id));
    }
}

/// Remove what is called by a digest that is not in `kept`, or is unfinished. Other names are somebody else's.
fn keep_only(folder: &Path, kept: &HashSet<Digest>) -> Result<u64> {
    let goes = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        durable::is_unfinished(path) || Digest::from_hex(&name).is_some_and(|digest| !kept.contains(&digest))
    };
    Ok(durable::entries(folder)?.iter().filter(|path| goes(path)).map(|path| durable::remove(path)).sum())
}

fn clear_old(ingest: &Path) -> Result<u64> {
    let now = SystemTime::now();
    let is_old = |path: &PathBuf| {
        let changed = path.metadata().and_then(|meta| meta.modified());
        let age = changed.ok().and_then(|changed| now.duration_since(changed).ok());
        durable::is_unfinished(path) || age.is_some_and(|age| age > PARTIAL_KEPT)
    };
    Ok(durable::entries(ingest)?.iter().filter(|path| is_old(path)).map(|path| durable::remove(path)).sum())
}

/// What a process that is gone left behind.
pub(super) fn clear_unfinished(images: &Images) -> Result<()> {
    let inner = &images.inner;
    let folders = [
        inner.blobs.folder(),
        inner.blobs.ingest(),
        &inner.layers.folder,
        &inner.layers.rootfs,
        &inner.steps,
        &inner.work,
    ];
    for folder in folders {
        for leftover in durable::entries(folder)?.iter().filter(|path| durable::is_unfinished(path)) {
            durable::remove(leftover);
        }
    }
    Ok(())
}

impl Images {
    /// Bytes of all layers, each counted once.
    pub fn layers_size(&self) -> Result<u64> {
        let mut counted = HashSet::new();
        let mut sum = 0;
        for entry in &self.inner.layout.read()?.manifests {
            let Ok(parsed) = self.parse(entry) else { continue };
            for layer in &parsed.manifest.layers {
                if counted.insert(layer.digest.clone()) {
                    sum += layer.size;
                }
            }
        }
        Ok(sum)
    }

    /// By image: bytes of its files that are in layers of other images too. Images that share none are left out.
    pub fn shared_sizes(&self) -> Result<HashMap<Digest, u64>> {
        let mut images = HashMap::new();
        for entry in &self.inner.layout.read()?.manifests {
            let Ok(parsed) = self.parse(entry) else { continue };
            let Ok(layers) = parsed.layers() else { continue };
            images.insert(parsed.id().clone(), layers);
        }
        let mut users: HashMap<&Digest, u32> = HashMap::new();
        for layer in
            images.values().flat_map(|layers| layers.iter().map(|layer| &layer.diff_id).collect::<HashSet<_>>())
        {
            *users.entry(layer).or_default() += 1;
        }
        let shared = |layers: &Vec<Layer>| -> u64 {
            let layers = layers.iter().filter(|layer| users.get(&layer.diff_id).is_some_and(|users| *users > 1));
            // A layer that cannot be unpacked is told of by whoever needs it.
            layers.filter_map(|layer| self.inner.layers.size(layer).ok()).sum()
        };
        let sizes = images.iter().map(|(image, layers)| (image.clone(), shared(layers)));
        Ok(sizes.filter(|(_, bytes)| *bytes > 0).collect())
    }
}
