//! What a name stands for in a registry: manifests and small blobs read into memory, and checked.

use bytes::Bytes;
use http::HeaderValue;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;

use super::document::{ACCEPTED, Document, LARGEST};
use super::failure::Fault;
use super::narrate::Story;
use super::session::{Answer, Session};
use super::{Found, download};
use crate::error::{Error, ErrorKind, Result};
use crate::image::manifest::{Descriptor, Platform};
use crate::image::{Digest, Reference};

/// How often an index may lead to an index.
const DEEPEST: usize = 3;

/// A manifest as it came.
#[derive(Debug)]
pub struct Fetched {
    pub bytes: Bytes,
    pub digest: Digest,
    pub content_type: String,
    pub document: Document,
}

/// What `reference` names: its digest, or its tag.
pub async fn top(session: &Session<'_>, reference: &Reference) -> Result<Fetched> {
    let name = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.clone().unwrap_or_else(|| "latest".into()),
    };
    let fetched = manifest(session, &reference.familiar(), &name, reference.digest.as_ref()).await;
    fetched.map_err(|fault| missing(fault, reference))
}

/// From what a name stands for to one image: through indexes, by platform.
pub async fn image(
    session: &Session<'_>,
    name: &str,
    top: Fetched,
    choose: impl Fn(&crate::image::manifest::Index) -> Result<Descriptor>,
) -> Result<Fetched> {
    let mut fetched = top;
    for _ in 0..DEEPEST {
        let Document::Index(index) = &fetched.document else { return Ok(fetched) };
        let entry = choose(index)?;
        let next = manifest(session, name, entry.digest.as_str(), Some(&entry.digest)).await;
        fetched = next.map_err(Fault::into_error)?;
    }
    match fetched.document {
        Document::Image(_) => Ok(fetched),
        Document::Index(_) => {
            Err(Error::new(ErrorKind::Failed, format!("the manifest of {name} leads from index to index without end")))
        }
    }
}

/// The manifest called `tag_or_digest`, whose digest must be `expected` if that is known. Tried again if that may help.
async fn manifest(
    session: &Session<'_>,
    name: &str,
    tag_or_digest: &str,
    expected: Option<&Digest>,
) -> Result<Fetched, Fault> {
    let mut silent = Story::new(&|_| {}, "");
    let mut attempt = 1;
    loop {
        match manifest_once(session, name, tag_or_digest, expected).await {
            Err(fault) if fault.may_pass() && attempt < session.transport.pace.attempts => {}
            result => return result,
        }
        attempt += 1;
        download::pause(&session.transport.pace, attempt, &mut silent).await;
    }
}

async fn manifest_once(
    session: &Session<'_>,
    name: &str,
    tag_or_digest: &str,
    expected: Option<&Digest>,
) -> Result<Fetched, Fault> {
    let uri = session.url(&format!("/manifests/{tag_or_digest}"))?;
    let Answer { uri, response } = session.get(uri, vec![(ACCEPT, HeaderValue::from_static(ACCEPTED))]).await?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let content_type = header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let said: Option<Digest> = header("docker-content-digest").and_then(|digest| digest.parse().ok());
    let what = format!("the manifest of {name}");
    let bytes = session.transport.read(&uri, response.into_body(), LARGEST, &what).await?;
    let digest = Digest::of(&bytes);
    if let Some(expected) = expected.or(said.as_ref()).filter(|expected| **expected != digest) {
        return Err(Fault::lasting(format!(
            "manifest verification failed for digest {expected}: the registry sent {digest}; something on the way \
             changes what it sends, or the registry is damaged"
        )));
    }
    let document = Document::read(name, &content_type, &bytes)?;
    Ok(Fetched { bytes, digest, content_type, document })
}

/// What `reference` stands for, without fetching it.
pub async fn resolve(session: &Session<'_>, reference: &Reference) -> Result<Found> {
    let Fetched { bytes, digest, content_type, document } = top(session, reference).await?;
    let (media_type, platforms) = match &document {
        Document::Index(index) => {
            let platforms = index.manifests.iter().filter_map(|entry| entry.platform.clone());
            (index.media_type.clone(), platforms.collect())
        }
        Document::Image(manifest) => {
            let config = small_blob(session, &manifest.config).await.map_err(Fault::into_error)?;
            (manifest.media_type.clone(), platform(&config).into_iter().collect())
        }
    };
    Ok(Found { media_type: media_type.unwrap_or(content_type), digest, size: bytes.len() as u64, platforms })
}

fn platform(config: &[u8]) -> Option<Platform> {
    let platform: Platform = serde_json::from_slice(config).ok()?;
    // The rest of the config is no business of a platform's.
    Some(Platform { other: Default::default(), ..platform })
}

/// A config, whose size was checked with its manifest.
async fn small_blob(session: &Session<'_>, blob: &Descriptor) -> Result<Bytes, Fault> {
    let Answer { uri, response } = session.get(session.url(&format!("/blobs/{}", blob.digest))?, Vec::new()).await?;
    let bytes = session.transport.read(&uri, response.into_body(), LARGEST, "the config").await?;
    if Digest::of(&bytes) != blob.digest {
        return Err(Fault::lasting(format!("the registry sent something else for {}", blob.digest)));
    }
    Ok(bytes)
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// All tags of the repository.
pub async fn tags(session: &Session<'_>, reference: &Reference) -> Result<Vec<String>> {
    let uri = session.url("/tags/list").map_err(Fault::into_error)?;
    let answer = session.get(uri, Vec::new()).await;
    let Answer { uri, response } = answer.map_err(|fault| missing(fault, reference))?;
    let text = session.transport.read(&uri, response.into_body(), LARGEST, "the list of tags").await;
    let text = text.map_err(Fault::into_error)?;
    let tags: Tags = serde_json::from_slice(&text).map_err(|error| {
        let text = format!("{} gave something else than a list of tags", session.address.authority);
        Error::new(ErrorKind::Failed, text).because(error)
    })?;
    Ok(tags.tags.unwrap_or_default())
}

/// In Docker's words: a repository that one may not see and one that is not there look alike.
fn missing(fault: Fault, reference: &Reference) -> Error {
    let Fault::Refused(refusal) = fault else { return fault.into_error() };
    let (name, message) = (reference.familiar_name(), &refusal.message);
    let text = if refusal.is_denied() {
        format!("pull access denied for {name}, repository does not exist or may require 'docker login': {message}")
    } else if refusal.code == "NAME_UNKNOWN" {
        format!("repository {name} not found: {message}")
    } else if refusal.code == "MANIFEST_UNKNOWN" || refusal.is_missing() && refusal.code.is_empty() {
        format!("manifest for {} not found: manifest unknown", reference.familiar())
    } else {
        return Fault::Refused(refusal).into_error();
    };
    Error::new(ErrorKind::NotFound, text)
}
