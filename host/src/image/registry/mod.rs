//! A client of OCI distribution registries: pull, push, login, resolve.
//!
//! Everything a registry says is checked before the store relies on it: digests, sizes, kinds, lengths. A pull that
//! fails or is dropped leaves no image, only partial blobs, with which the next one goes on. It must never know
//! Dockerfiles, containers, HTTP servers or whose socket a request came from; credentials come from the caller and
//! are kept nowhere.
//!
//! - [`address`]: from a name to a server and its URLs; where one may be sent on to
//! - [`artifact`]: a component pushed alone becomes an image
//! - [`challenge`]: the header in which a registry asks who is there
//! - [`document`]: manifests and indexes, distrusted
//! - [`download`], [`upload`]: one blob
//! - `fake`, `tests`: a registry that lies, and what comes of it
//! - [`failure`]: what goes wrong, in people's words
//! - [`flights`]: what transfers under way keep from each other
//! - [`lookup`]: what a name stands for
//! - [`narrate`]: what is told meanwhile
//! - [`pull`], [`push`]: a whole image
//! - [`session`]: being let in, redirects, refusals
//! - [`transport`]: HTTP and TLS with limits
//! - [`trust`]: whose certificates are believed

mod address;
mod artifact;
mod challenge;
mod document;
mod download;
mod failure;
mod flights;
mod lookup;
mod narrate;
mod pull;
mod push;
mod session;
mod transport;
mod trust;
mod upload;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::StatusCode;

use self::address::Address;
use self::failure::Fault;
use self::flights::{Flights, Held};
use self::narrate::Listener;
use self::session::Session;
use self::transport::{Pace, Transport};
use crate::error::{Error, ErrorKind, Result};
use crate::image::manifest::Platform;
use crate::image::{Digest, Image, Images, Reference};

/// Where people put certificates for Docker; its folder is read as well as the host's own.
const DOCKERS_CERTIFICATES: &str = "/etc/docker/certs.d";
const CERTIFICATES: &str = "certs.d";

/// Who somebody is to a registry.
#[derive(Clone, Default)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    /// In place of a password, from an earlier login.
    pub identity_token: Option<String>,
}

/// What a pull came to.
#[derive(Debug)]
pub struct Pulled {
    pub image: Image,
    /// What the registry calls it; of an index if there was one.
    pub digest: Digest,
    /// Whether the name stood for something else before, or nothing.
    pub newer: bool,
}

/// What a push came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Pushed {
    pub tag: String,
    pub digest: Digest,
    pub size: u64,
}

/// What a name stands for in a registry.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    pub platforms: Vec<Platform>,
}

/// The client. Cheap to clone; safe from many tasks at once.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    images: Images,
    transport: Transport,
    flights: Flights,
}

impl Registry {
    /// Certificates of authorities are looked for in `certs.d/<host[:port]>/*.crt` below `data`.
    pub fn new(images: Images, data: &Path) -> Result<Registry> {
        let folders = vec![data.join(CERTIFICATES), PathBuf::from(DOCKERS_CERTIFICATES)];
        Ok(Registry::with(images, folders, Pace::default()))
    }

    fn with(images: Images, folders: Vec<PathBuf>, pace: Pace) -> Registry {
        let transport = Transport::new(folders, pace);
        Registry { inner: Arc::new(Inner { images, transport, flights: Flights::default() }) }
    }

    /// Fetch an image; without tag or digest, `latest`. Dropping the future ends it; what came is kept for the next.
    pub async fn pull(
        &self,
        reference: &Reference,
        auth: Option<&Credentials>,
        platform: Option<&str>,
        progress: Listener<'_>,
    ) -> Result<Pulled> {
        let Inner { images, flights, .. } = &*self.inner;
        let reference = reference.clone().or_latest();
        let session = &self.session(&reference, auth, vec![pull_scope(&reference.repository)]).await?;
        let _held = Held::new(images);
        pull::Pull { session, images, flights, listener: progress }.run(&reference, platform).await
    }

    /// Send the image that is called `reference` here; without a tag, `latest`.
    pub async fn push(
        &self,
        reference: &Reference,
        auth: Option<&Credentials>,
        progress: Listener<'_>,
    ) -> Result<Pushed> {
        let reference = reference.clone().or_latest();
        let _held = Held::new(&self.inner.images);
        let (images, name) = (self.inner.images.clone(), reference.familiar());
        let image = download::blocking(move || images.find(&name)).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let name = reference.familiar_name();
                Error::new(ErrorKind::NotFound, format!("An image does not exist locally with the tag: {name}"))
            }
            _ => error,
        })?;
        let sources = siblings(&image, &reference);
        let mut scopes = vec![format!("repository:{}:pull,push", reference.repository)];
        scopes.extend(sources.first().map(|source| pull_scope(source)));
        let session = &self.session(&reference, auth, scopes).await?;
        let push = push::Push { session, images: &self.inner.images, listener: progress, sources: &sources };
        let pushed = push.run(&reference, &image).await?;
        // A later push to another repository of the same registry can then refer to this one.
        let (images, place) = (self.inner.images.clone(), reference.with_digest(&pushed.digest));
        download::blocking(move || images.note_digest(&image.id, &place)).await?;
        Ok(pushed)
    }

    /// Whether the registry `server` lets `credentials` in.
    pub async fn login(&self, server: &str, credentials: &Credentials) -> Result<()> {
        let address = Address::of_server(server);
        let transport = &self.inner.transport;
        transport.forget(&address);
        let session = Session::open(transport, address, "", Some(credentials), Vec::new()).await;
        let session = session.map_err(Fault::into_error)?;
        let uri = session.address.url("/v2/")?;
        match session.get(uri.clone(), Vec::new()).await {
            Ok(_) => Ok(()),
            Err(Fault::Refused(refusal)) if refusal.status == StatusCode::UNAUTHORIZED => {
                let text = format!("Get \"{uri}\": {}; check the user name and the password", refusal.message);
                Err(Error::new(ErrorKind::Unauthorized, text))
            }
            Err(fault) => Err(fault.into_error()),
        }
    }

    /// What `reference` stands for, without fetching it.
    pub async fn resolve(&self, reference: &Reference, auth: Option<&Credentials>) -> Result<Found> {
        let reference = reference.clone().or_latest();
        let session = self.session(&reference, auth, vec![pull_scope(&reference.repository)]).await?;
        lookup::resolve(&session, &reference).await
    }

    /// The tags of a repository, for a pull of all of them.
    pub async fn tags(&self, reference: &Reference, auth: Option<&Credentials>) -> Result<Vec<String>> {
        let session = self.session(reference, auth, vec![pull_scope(&reference.repository)]).await?;
        lookup::tags(&session, reference).await
    }

    async fn session<'a>(
        &'a self,
        reference: &Reference,
        auth: Option<&'a Credentials>,
        scopes: Vec<String>,
    ) -> Result<Session<'a>> {
        let transport = &self.inner.transport;
        let address = Address::of(&reference.domain);
        // Certificates may have been added since the last time, and connections are dear only within one transfer.
        transport.forget(&address);
        let session = Session::open(transport, address, &reference.repository, auth, scopes).await;
        session.map_err(Fault::into_error)
    }
}

fn pull_scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

/// Other repositories of the registry from which, or to which, this image went before.
fn siblings(image: &Image, reference: &Reference) -> Vec<String> {
    let known = image.repo_digests.iter().filter_map(|name| name.parse::<Reference>().ok());
    let there = known.filter(|known| known.domain == reference.domain && known.repository != reference.repository);
    there.map(|known| known.repository).collect()
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}
