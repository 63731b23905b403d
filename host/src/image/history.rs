//! How an image came to be, step by step.

use std::time::SystemTime;

use super::digest::Digest;
use super::store::{Image, Images, parse_time};
use crate::error::Result;

#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// The image itself for its last step; earlier steps are no images.
    pub id: Option<Digest>,
    pub created: SystemTime,
    pub created_by: String,
    /// Bytes of files that the step added.
    pub size: u64,
    pub comment: String,
    pub tags: Vec<String>,
}

impl Images {
    /// Newest step first.
    pub fn history(&self, image: &Image) -> Result<Vec<HistoryEntry>> {
        let _hold = self.hold();
        let mut layers = self.layers_of(&image.id)?.into_iter();
        let mut entries = Vec::new();
        for step in &image.config.history {
            let layer = if step.empty_layer { None } else { layers.next() };
            let size = layer.map(|layer| self.inner.layers.ensure(&layer)).transpose()?;
            entries.push(HistoryEntry {
                id: None,
                created: step.created.as_deref().and_then(parse_time).unwrap_or(image.created),
                created_by: step.created_by.clone(),
                size: size.unwrap_or_default(),
                comment: step.comment.clone(),
                tags: Vec::new(),
            });
        }
        // Layers that the history does not tell of, e.g. of a bare component.
        for layer in layers {
            let size = self.inner.layers.ensure(&layer)?;
            let (created_by, comment) = (String::new(), String::new());
            entries.push(HistoryEntry {
                id: None,
                created: image.created,
                created_by,
                size,
                comment,
                tags: Vec::new(),
            });
        }
        if let Some(last) = entries.last_mut() {
            last.id = Some(image.id.clone());
            last.tags.clone_from(&image.tags);
        }
        entries.reverse();
        Ok(entries)
    }
}
