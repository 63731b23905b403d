//! Records of build steps: what a step of a Dockerfile came to, so that the next build need not do it again. Disposable.
//!
//! A record is called by a digest of everything the step depends on. It names the images it was used for, and goes with the
//! last of them.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::ImageConfig;
use super::digest::Digest;
use super::durable;
use super::layers::Layer;
use crate::error::{Error, ErrorKind, Result};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub config: ImageConfig,
    pub layers: Vec<Layer>,
    /// Images that were built with it.
    #[serde(default)]
    pub images: BTreeSet<Digest>,
}

/// `None` as well for a record that cannot be read: the step is done again.
pub fn read(folder: &Path, key: &Digest) -> Option<Step> {
    serde_json::from_slice(&fs::read(folder.join(key.hex())).ok()?).ok()
}

pub fn write(folder: &Path, key: &Digest, step: &Step) -> Result<()> {
    let text = serde_json::to_vec(step)
        .map_err(|error| Error::new(ErrorKind::Failed, "cannot keep the result of a step").because(error))?;
    durable::replace(&folder.join(key.hex()), &text)
}

/// Remove the records that none of `images` was built with; the others.
pub fn keep_only(folder: &Path, images: &HashSet<Digest>) -> Result<Vec<Step>> {
    let mut kept = Vec::new();
    for path in durable::entries(folder)? {
        let step = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Step>(&text).ok());
        match step.filter(|step| step.images.iter().any(|image| images.contains(image))) {
            Some(step) => kept.push(step),
            None => {
                durable::remove(&path);
            }
        }
    }
    Ok(kept)
}
