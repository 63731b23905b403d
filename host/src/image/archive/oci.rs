//! The image layout: `index.json` names manifests, which name blobs. An entry may be an index of its own, for several
//! platforms: the one that suits this host is taken.

use super::load::{Found, Told, docker_names, layer_progress};
use super::spool::Spool;
use super::{DockerImage, OCI_INDEX};
use crate::error::{Error, ErrorKind, Result};
use crate::image::layout;
use crate::image::manifest::{Descriptor, Index, Manifest, media};
use crate::image::reference::Reference;
use crate::image::store::Images;

/// An index in an index in an index is somebody's joke.
const DEEPEST: usize = 4;

pub fn find(images: &Images, spool: &Spool, docker: &[DockerImage], progress: Told<'_>) -> Result<Vec<Found>> {
    let index: Index = serde_json::from_slice(&spool.read(OCI_INDEX)?)
        .map_err(|error| Error::invalid(format!("{OCI_INDEX} in the archive is no index of images")).because(error))?;
    let mut found: Vec<Found> = Vec::new();
    for entry in one_per_name(&index)? {
        let (manifest, content) = image(spool, &entry, 0)?;
        let mut names: Vec<Reference> = name(&entry)?.into_iter().collect();
        if let Some(before) = found.iter_mut().find(|before| *before.prepared.manifest() == manifest.digest) {
            before.names.extend(names.into_iter().filter(|name| !before.names.contains(name)).collect::<Vec<_>>());
            continue;
        }
        let prepared = one(images, spool, &manifest, &content, progress)?;
        if names.is_empty() {
            names = docker_names(docker, prepared.id())?;
        }
        found.push(Found { prepared, names });
    }
    Ok(found)
}

fn one(
    images: &Images,
    spool: &Spool,
    entry: &Descriptor,
    content: &[u8],
    progress: Told<'_>,
) -> Result<crate::image::store::Prepared> {
    let manifest: Manifest = serde_json::from_slice(content)
        .map_err(|error| Error::invalid(format!("{} is no manifest of an image", entry.digest)).because(error))?;
    spool.keep_blob(&manifest.config, &|_| ())?;
    for layer in &manifest.layers {
        spool.keep_blob(layer, &layer_progress(&layer.digest, layer.size, progress))?;
    }
    images.prepare(content, manifest.media_type.as_deref().unwrap_or(media::MANIFEST), None)
}

/// Entries that are images. Where several have one name, they are one image for several platforms.
fn one_per_name(index: &Index) -> Result<Vec<Descriptor>> {
    let mut chosen: Vec<Descriptor> = Vec::new();
    let mut seen: Vec<Reference> = Vec::new();
    for entry in index.images() {
        let Some(name) = name(entry)? else {
            chosen.push(entry.clone());
            continue;
        };
        if seen.contains(&name) {
            continue;
        }
        let same = index.images().filter(|other| self::name(other).is_ok_and(|other| other.as_ref() == Some(&name)));
        let same = Index::new(same.cloned().collect());
        chosen.extend(same.choose(None).or_else(|| same.manifests.last()).cloned());
        seen.push(name);
    }
    Ok(chosen)
}

/// The manifest that an entry leads to, and its content.
fn image(spool: &Spool, entry: &Descriptor, depth: usize) -> Result<(Descriptor, Vec<u8>)> {
    let content = spool.document(entry)?;
    let nested = serde_json::from_slice::<Index>(&content).ok().filter(|index| !index.manifests.is_empty());
    let Some(index) = nested.filter(|_| entry.media_type.is_empty() || media::is_index(&entry.media_type)) else {
        return Ok((entry.clone(), content));
    };
    if depth == DEEPEST {
        return Err(Error::invalid(format!("{} is an index too deep in others", entry.digest)));
    }
    let chosen = index.choose(None).ok_or_else(|| {
        let text = format!("{} holds no image for this host: it runs wasi/wasm", entry.digest);
        Error::new(ErrorKind::NotFound, text)
    })?;
    image(spool, chosen, depth + 1)
}

/// What an entry is called. A bare tag, as Docker and others write it beside the name, is no name.
fn name(entry: &Descriptor) -> Result<Option<Reference>> {
    if let Some(text) = entry.annotations.get(layout::IMAGE_NAME) {
        let name = text.parse::<Reference>().map(Reference::or_latest);
        return name
            .map(Some)
            .map_err(|error| Error::invalid(format!("the archive calls an image {text:?}")).because(error));
    }
    let text = entry.annotations.get(layout::REFERENCE_NAME).filter(|text| text.contains([':', '/']));
    Ok(text.and_then(|text| text.parse::<Reference>().ok()).map(Reference::or_latest))
}
