//! Reading images out of an archive. All of them are made whole first and named together last: a load that fails has named
//! nothing, and what it kept goes with the collector.

use std::io::Read;

use super::spool::Spool;
use super::{DOCKER_INDEX, DockerImage, Loaded, OCI_INDEX, docker, oci};
use crate::error::{Error, Result};
use crate::image::Progress;
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::store::{Images, Prepared};

/// How often a layer's progress is told; bytes.
const TOLD_EVERY: u64 = 4 << 20;

/// An image whose blobs are in the store.
pub struct Found {
    pub prepared: Prepared,
    pub names: Vec<Reference>,
}

pub type Told<'a> = &'a (dyn Fn(Progress) + Send + Sync);

impl Images {
    /// Bring in all images of an archive, plain or packed; an image layout or Docker's own form.
    pub fn load(&self, input: &mut dyn Read, progress: Told<'_>) -> Result<Vec<Loaded>> {
        let loaded = self.load_held(input, progress);
        if loaded.is_err()
            && let Err(error) = self.collect_garbage()
        {
            tracing::warn!(error = %error.chain(), "cannot collect what a failed load left");
        }
        loaded
    }

    fn load_held(&self, input: &mut dyn Read, progress: Told<'_>) -> Result<Vec<Loaded>> {
        let _hold = self.hold();
        let spool = Spool::fill(input, &self.inner.work, self.blobs().clone())?;
        let docker = match spool.has(DOCKER_INDEX) {
            true => docker::images(&spool)?,
            false => Vec::new(),
        };
        let found = if spool.has(OCI_INDEX) {
            oci::find(self, &spool, &docker, progress)?
        } else if spool.has(DOCKER_INDEX) {
            docker::find(self, &spool, &docker, progress)?
        } else {
            return Err(no_archive(&spool));
        };
        if found.is_empty() {
            return Err(Error::invalid("the archive holds no image"));
        }
        self.enlist(found.iter().map(|image| (&image.prepared, &image.names[..])))?;
        Ok(found.iter().flat_map(loaded).collect())
    }
}

fn no_archive(spool: &Spool) -> Error {
    if spool.has("repositories") {
        let text = "the archive was saved by a Docker older than 1.10, whose form is not supported: load it with a newer \
                    one and save it again";
        return Error::invalid(text);
    }
    Error::invalid(
        "the archive holds no images: it has neither index.json nor manifest.json. Is it a file system, as `docker export` \
         writes? `load` takes what `save` wrote",
    )
}

fn loaded(image: &Found) -> Vec<Loaded> {
    if image.names.is_empty() {
        return vec![Loaded::Id(image.prepared.id().clone())];
    }
    image.names.iter().map(|name| Loaded::Tag(name.familiar())).collect()
}

/// Tells how much of one layer was read.
pub fn layer_progress<'a>(digest: &'a Digest, total: u64, progress: Told<'a>) -> impl Fn(u64) + 'a {
    let last = std::cell::Cell::new(None);
    move |current| {
        let due = last.get().is_none_or(|last| current >= last + TOLD_EVERY) || current == total;
        if due && last.get() != Some(current) {
            last.set(Some(current));
            progress(Progress::Status {
                id: Some(digest.short().to_owned()),
                status: "Loading layer".to_owned(),
                current: Some(current),
                total: Some(total),
            });
        }
    }
}

/// Names that Docker's part of the archive gives to the image with this configuration.
pub fn docker_names(images: &[DockerImage], config: &Digest) -> Result<Vec<Reference>> {
    let mut names = Vec::new();
    for image in images.iter().filter(|image| docker::digest_in(&image.config).as_ref() == Some(config)) {
        names.extend(docker::names(image)?);
    }
    Ok(names)
}
