//! Docker's own form: `manifest.json` names each image's configuration and its layers' archives, which lie in `blobs/` or,
//! from older versions, in `<hex>.json` and `<id>/layer.tar`. The image's manifest is made here.

use std::path::Path;

use super::load::{Found, Told, layer_progress};
use super::spool::Spool;
use super::{DOCKER_INDEX, DockerImage};
use crate::error::{Error, ErrorKind, Result};
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Manifest, media};
use crate::image::reference::Reference;
use crate::image::store::Images;
use crate::image::unpack;

pub fn images(spool: &Spool) -> Result<Vec<DockerImage>> {
    serde_json::from_slice(&spool.read(DOCKER_INDEX)?)
        .map_err(|error| Error::invalid(format!("{DOCKER_INDEX} in the archive is no list of images")).because(error))
}

pub fn find(images: &Images, spool: &Spool, listed: &[DockerImage], progress: Told<'_>) -> Result<Vec<Found>> {
    listed.iter().map(|image| one(images, spool, image, progress)).collect()
}

fn one(images: &Images, spool: &Spool, image: &DockerImage, progress: Told<'_>) -> Result<Found> {
    let names = names(image)?;
    let content = spool.read(&image.config)?;
    let config: ImageConfig = serde_json::from_slice(&content).map_err(|error| {
        Error::invalid(format!("{:?} is no configuration of an image", image.config)).because(error)
    })?;
    let (said, found) = (config.rootfs.diff_ids.len(), image.layers.len());
    if said != found {
        let text = format!("the archive is damaged: {:?} names {said} layers, and {found} are listed", image.config);
        return Err(Error::invalid(text));
    }
    let (digest, size) = spool.keep(&image.config, digest_in(&image.config).as_ref(), &|_| ())?;
    let config_entry = Descriptor::new(media::CONFIG, digest, size);
    let mut layers = Vec::new();
    for (path, diff_id) in image.layers.iter().zip(&config.rootfs.diff_ids) {
        layers.push(layer(spool, path, diff_id, progress)?);
    }
    let manifest = serde_json::to_vec(&Manifest::new(config_entry, layers))
        .map_err(|error| Error::new(ErrorKind::Failed, "cannot describe a loaded image").because(error))?;
    Ok(Found { prepared: images.prepare(&manifest, media::MANIFEST, None)?, names })
}

fn layer(spool: &Spool, path: &str, diff_id: &Digest, progress: Told<'_>) -> Result<Descriptor> {
    let (size, head) = spool.head(path)?;
    let media_type = match unpack::compression(&head) {
        None => media::LAYER,
        Some("gzip") => media::LAYER_GZIP,
        Some("zstd") => media::LAYER_ZSTD,
        Some(other) => {
            return Err(Error::invalid(format!(
                "layer {path:?} is compressed with {other}, for which images have no name: use gzip, zstd or none"
            )));
        }
    };
    // A plain layer is called by its diff id; a compressed one is checked when it is unpacked.
    let expected = digest_in(path).or_else(|| (media_type == media::LAYER).then(|| diff_id.clone()));
    let (digest, size) = spool.keep(path, expected.as_ref(), &layer_progress(diff_id, size, progress))?;
    Ok(Descriptor::new(media_type, digest, size))
}

pub fn names(image: &DockerImage) -> Result<Vec<Reference>> {
    let name = |text: &String| {
        let name = text.parse::<Reference>().map(Reference::or_latest);
        name.map_err(|error| Error::invalid(format!("the archive calls an image {text:?}")).because(error))
    };
    image.repo_tags.iter().flatten().map(name).collect()
}

/// The digest that a path promises: `blobs/sha256/<hex>` or `<hex>.json`.
pub fn digest_in(path: &str) -> Option<Digest> {
    let name = Path::new(path).file_name()?.to_str()?;
    Digest::from_hex(name.strip_suffix(".json").unwrap_or(name))
}
