//! From the store to a registry: first what the manifest names, then the manifest.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use serde_json::json;

use super::Pushed;
use super::download::{blocking, pause};
use super::failure::Fault;
use super::narrate::{Listener, Story, tell};
use super::session::{Ask, Content, Session};
use super::upload::{Arrival, upload};
use crate::error::{Error, ErrorKind, Result};
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::{Digest, Image, Images, Progress, Reference};

/// Layers on their way at once, as many as Docker's.
const AT_ONCE: usize = 5;

pub struct Push<'a> {
    pub session: &'a Session<'a>,
    pub images: &'a Images,
    pub listener: Listener<'a>,
    /// Repositories of the same registry that hold this very image.
    pub sources: &'a [String],
}

impl Push<'_> {
    pub async fn run(&self, reference: &Reference, image: &Image) -> Result<Pushed> {
        let tag = reference.tag.as_deref().unwrap_or("latest");
        let (store, digest) = (self.images.blobs().clone(), image.manifest.clone());
        let bytes = blocking(move || store.read(&digest)).await?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("the manifest of {reference} is damaged; build it again"))
                .because(error)
        })?;
        tell(self.listener, format!("The push refers to repository [{}]", reference.familiar_name()));
        for layer in &manifest.layers {
            Story::new(self.listener, layer.digest.short()).tell("Preparing");
        }
        // Boxed: the compiler cannot tell that the unboxed futures may be sent to another thread.
        let layers = manifest.layers.iter().map(|layer| -> BoxFuture<'_, _> { Box::pin(self.layer(layer)) });
        let layers: Vec<_> = layers.collect();
        stream::iter(layers).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        let mut silent = Story::new(&|_| {}, "");
        let config = upload(self.session, self.images.blobs(), &manifest.config, self.source(), &mut silent).await;
        config.map_err(Fault::into_error)?;

        let size = bytes.len() as u64;
        self.manifest(tag, &image.media_type, bytes.into(), &image.manifest).await.map_err(Fault::into_error)?;
        let digest = image.manifest.clone();
        tell(self.listener, format!("{tag}: digest: {digest} size: {size}"));
        (self.listener)(Progress::Aux(json!({ "Tag": tag, "Digest": digest.to_string(), "Size": size })));
        Ok(Pushed { tag: tag.to_owned(), digest, size })
    }

    async fn layer(&self, layer: &Descriptor) -> Result<()> {
        let mut story = Story::new(self.listener, layer.digest.short());
        let source = self.source();
        let arrival = upload(self.session, self.images.blobs(), layer, source, &mut story).await;
        match arrival.map_err(Fault::into_error)? {
            Arrival::Existed => story.tell("Layer already exists"),
            Arrival::Mounted => story.tell(&format!("Mounted from {}", source.unwrap_or_default())),
            Arrival::Sent => {
                story.moved("Pushing", layer.size, layer.size);
                story.tell("Pushed");
            }
        }
        Ok(())
    }

    /// One is enough: a registry that cannot take a blob from there offers an upload in the same answer.
    fn source(&self) -> Option<&str> {
        self.sources.first().map(String::as_str)
    }

    async fn manifest(&self, tag: &str, media_type: &str, bytes: Bytes, digest: &Digest) -> Result<(), Fault> {
        let uri = self.session.url(&format!("/manifests/{tag}"))?;
        let media_type = HeaderValue::from_str(media_type)
            .map_err(|_| Fault::lasting(format!("{media_type:?} is no media type of a manifest")))?;
        let content = Content::Bytes(bytes);
        let ask = Ask { method: Method::PUT, uri, headers: vec![(CONTENT_TYPE, media_type)], content };
        let mut silent = Story::new(&|_| {}, "");
        let mut attempt = 1;
        let answer = loop {
            match self.session.send(&ask).await {
                Err(fault) if fault.may_pass() && attempt < self.session.transport.pace.attempts => {}
                result => break result?,
            }
            attempt += 1;
            pause(&self.session.transport.pace, attempt, &mut silent).await;
        };
        let said = answer.response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        match said {
            Some(said) if said != digest.as_str() => Err(Fault::lasting(format!(
                "the registry stored {said} where {digest} was sent; it cannot be relied on"
            ))),
            _ => Ok(()),
        }
    }
}
