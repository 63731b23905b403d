//! Images as one file: `save` and `load`.
//!
//! [`save`] writes one tar that is two things at once: an image layout (`oci-layout`, `index.json`, `blobs/`) and Docker's
//! own archive (`manifest.json`), so that old and new tools can read it. [`load`] reads either, also alone: the archive is
//! first unpacked into a folder of its own ([`spool`]), then read as a layout ([`oci`]) or as Docker's ([`docker`]).
//!
//! It must never trust an archive: each blob is checked against its digest and size before it is kept, and no image gets
//! its name before all of them are whole.

mod docker;
mod load;
mod oci;
mod save;
mod spool;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

/// What `load` brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// A familiar name.
    Tag(String),
    /// An image without one.
    Id(super::Digest),
}

const OCI_INDEX: &str = "index.json";
const OCI_MARKER: &str = "oci-layout";
const DOCKER_INDEX: &str = "manifest.json";
const BLOBS: &str = "blobs/sha256";

/// One image in `manifest.json`. Everything is a path in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    /// Other tools write `null` for "none".
    repo_tags: Option<Vec<String>>,
    /// Lowest first.
    layers: Vec<String>,
}
