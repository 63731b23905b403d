//! From a registry into the store: manifest, config, layers; the image appears when all of it is there and checked.

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::document::{self, Document};
use super::download::{blocking, download};
use super::failure::Fault;
use super::flights::Flights;
use super::lookup::{self, Fetched};
use super::narrate::{Listener, Story, tell};
use super::session::Session;
use super::{Pulled, artifact};
use crate::error::{Error, ErrorKind, Result};
use crate::image::manifest::{Descriptor, Index, Manifest, media};
use crate::image::{Digest, Image, Images, Progress, Reference};

/// Layers on their way at once, as many as Docker's.
const AT_ONCE: usize = 3;

pub struct Pull<'a> {
    pub session: &'a Session<'a>,
    pub images: &'a Images,
    pub flights: &'a Flights,
    pub listener: Listener<'a>,
}

impl Pull<'_> {
    /// `reference` has a tag or a digest. Nothing is told before it is known to exist.
    pub async fn run(&self, reference: &Reference, platform: Option<&str>) -> Result<Pulled> {
        let name = reference.familiar();
        let top = lookup::top(self.session, reference).await?;
        let digest = top.digest.clone();
        let wanted = reference.digest.as_ref().map(Digest::to_string).or_else(|| reference.tag.clone());
        let status = format!("Pulling from {}", reference.repository);
        let before = self.known(reference).await;
        let present = match &top.document {
            Document::Image(_) => self.known(&reference.with_digest(&digest)).await,
            // Which image of an index is wanted may differ from last time.
            Document::Index(_) => None,
        };
        let image = match present {
            Some(image) => {
                (self.listener)(Progress::Status { id: wanted, status, current: None, total: None });
                self.name_again(image, reference).await?
            }
            None => {
                let choose = |index: &Index| document::choose(&name, index, platform).cloned();
                let fetched = lookup::image(self.session, &name, top, choose).await?;
                (self.listener)(Progress::Status { id: wanted, status, current: None, total: None });
                self.bring(reference, &digest, fetched).await?
            }
        };
        let newer = before.is_none_or(|before| before.id != image.id);
        tell(self.listener, format!("Digest: {digest}"));
        let outcome = if newer { "Downloaded newer image" } else { "Image is up to date" };
        tell(self.listener, format!("Status: {outcome} for {name}"));
        Ok(Pulled { image, digest, newer })
    }

    async fn name_again(&self, image: Image, reference: &Reference) -> Result<Image> {
        let (images, reference) = (self.images.clone(), reference.clone());
        blocking(move || {
            if reference.digest.is_none() {
                images.tag(&image.id, &reference)?;
            }
            images.find(image.id.as_str())
        })
        .await
    }

    /// What the name stands for here until now.
    async fn known(&self, reference: &Reference) -> Option<Image> {
        let (images, name) = (self.images.clone(), reference.familiar());
        blocking(move || images.find(&name)).await.ok()
    }

    async fn bring(&self, reference: &Reference, top: &Digest, fetched: Fetched) -> Result<Image> {
        let Document::Image(manifest) = fetched.document else {
            return Err(Error::new(ErrorKind::Failed, format!("the manifest of {reference} is an index")));
        };
        // A reference by digest gives the image no tag.
        let mut names = vec![reference.with_digest(top)];
        if reference.digest.is_none() {
            names.insert(0, reference.clone());
        }
        let is_artifact = artifact::is_artifact(&manifest)?;
        let fresh = self.blobs(&manifest).await?;
        for layer in &fresh {
            Story::new(self.listener, layer.digest.short()).moved("Extracting", layer.size, layer.size);
        }
        let images = self.images.clone();
        // The store unpacks the layers and checks them against the config before it gives the image a name.
        let image = blocking(move || {
            if is_artifact {
                let bytes = artifact::into_image(images.blobs(), &manifest)?;
                return images.commit_manifest(&bytes, media::MANIFEST, &names, None);
            }
            let media_type = document::media_type(&manifest, &fetched.content_type);
            images.commit_manifest(&fetched.bytes, media_type, &names, None)
        });
        let image = image.await?;
        self.pulled(&fresh);
        Ok(image)
    }

    /// Config and layers into the store. Returns the layers that were not there before.
    async fn blobs(&self, manifest: &Manifest) -> Result<Vec<Descriptor>> {
        let store = self.images.blobs();
        for layer in &manifest.layers {
            Story::new(self.listener, layer.digest.short()).tell("Pulling fs layer");
        }
        let config = async {
            let _alone = self.flights.enter(&manifest.config.digest).await;
            if store.has(&manifest.config.digest) {
                return Ok(());
            }
            let mut silent = Story::new(&|_| {}, "");
            download(self.session, store, &manifest.config, &mut silent).await.map_err(Fault::into_error)
        };
        config.await?;
        // Boxed: the compiler cannot tell that the unboxed futures may be sent to another thread.
        let layers = manifest.layers.iter().map(|layer| -> BoxFuture<'_, _> { Box::pin(self.layer(layer)) });
        let layers: Vec<_> = layers.collect();
        let fresh: Vec<Option<Descriptor>> = stream::iter(layers).buffered(AT_ONCE).try_collect().await?;
        Ok(fresh.into_iter().flatten().collect())
    }

    async fn layer(&self, layer: &Descriptor) -> Result<Option<Descriptor>> {
        let mut story = Story::new(self.listener, layer.digest.short());
        // Two pulls, or two layers of one image, may want the same blob: the second finds it there.
        let _alone = self.flights.enter(&layer.digest).await;
        if self.images.blobs().has(&layer.digest) {
            story.tell("Already exists");
            return Ok(None);
        }
        let done = download(self.session, self.images.blobs(), layer, &mut story).await;
        done.map_err(Fault::into_error)?;
        story.tell("Download complete");
        Ok(Some(layer.clone()))
    }

    fn pulled(&self, layers: &[Descriptor]) {
        for layer in layers {
            Story::new(self.listener, layer.digest.short()).tell("Pull complete");
        }
    }
}
