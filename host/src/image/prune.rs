//! Taking names away and removing images.

use std::time::SystemTime;

use super::digest::Digest;
use super::layout;
use super::reference::Reference;
use super::store::{Image, Images};
use crate::error::{Error, ErrorKind, Result};

/// Who uses an image: the id of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    None,
    Stopped(String),
    Running(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A familiar name, with a tag or a digest.
    Untagged(String),
    Deleted(Digest),
}

#[derive(Clone, Debug, Default)]
pub struct PruneFilter {
    /// Named images too.
    pub all: bool,
    /// Only images made before.
    pub until: Option<SystemTime>,
    /// `name` or `name=value`, all of which an image must have.
    pub labels: Vec<String>,
    /// The same, none of which it may have.
    pub without_labels: Vec<String>,
}

impl PruneFilter {
    fn takes(&self, image: &Image) -> bool {
        let has = |label: &String| match label.split_once('=') {
            Some((name, value)) => image.labels().get(name).is_some_and(|found| found == value),
            None => image.labels().contains_key(label),
        };
        (self.all || image.tags.is_empty())
            && self.until.is_none_or(|until| image.created < until)
            && self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Pruned {
    pub removed: Vec<Removed>,
    /// Bytes.
    pub reclaimed: u64,
}

impl Images {
    /// Remove a name, and the image with its last one. By id the image goes; if it has several names, only by force.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        prune_parents: bool,
        use_of: &dyn Fn(&Digest) -> Use,
    ) -> Result<Vec<Removed>> {
        let image = self.find(name)?;
        let typed = name.parse::<Reference>().map(Reference::or_latest).ok();
        let typed = typed.map(|typed| typed.familiar()).filter(|typed| is_name_of(&image, typed));
        let names = image.tags.len() + image.repo_digests.len();
        let others = image.tags.iter().any(|tag| Some(tag) != typed.as_ref());
        if let Some(name) = typed.filter(|name| others && (image.tags.contains(name) || names > 1)) {
            return self.untag(&image, &[name]);
        }
        if image.tags.len() > 1 && !force {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                    image.id.short()
                ),
            ));
        }
        refuse_if_used(&image, force, &use_of(&image.id))?;
        let mut removed = self.delete(&image)?;
        if prune_parents {
            removed.extend(self.delete_parents(&image, use_of)?);
        }
        self.collect_garbage()?;
        Ok(removed)
    }

    fn untag(&self, image: &Image, names: &[String]) -> Result<Vec<Removed>> {
        self.inner.layout.update(|index| {
            // Where a repository keeps no tag, its digest has nothing to stand beside.
            let mut removed = Vec::new();
            for name in names {
                let Ok(reference) = name.parse::<Reference>() else { continue };
                if layout::clear_name(index, &reference) {
                    removed.push(Removed::Untagged(name.clone()));
                }
                let repository = reference.familiar_name();
                let last = !image.tags.iter().any(|tag| tag != name && repository_of(tag) == Some(&repository));
                for digest in
                    image.repo_digests.iter().filter(|digest| last && repository_of(digest) == Some(&repository))
                {
                    if digest.parse().is_ok_and(|digest| layout::clear_name(index, &digest)) {
                        removed.push(Removed::Untagged(digest.clone()));
                    }
                }
            }
            Ok(removed)
        })
    }

    fn delete(&self, image: &Image) -> Result<Vec<Removed>> {
        self.inner.layout.update(|index| {
            index.manifests.retain(|entry| !self.parse(entry).is_ok_and(|parsed| *parsed.id() == image.id));
            let names = image.tags.iter().chain(&image.repo_digests).cloned().map(Removed::Untagged);
            Ok(names.chain([Removed::Deleted(image.id.clone())]).collect())
        })
    }

    /// Images below a removed one, as long as they have no name, no use and nothing else upon them.
    fn delete_parents(&self, image: &Image, use_of: &dyn Fn(&Digest) -> Use) -> Result<Vec<Removed>> {
        let mut removed = Vec::new();
        let mut parent = image.parent.clone();
        while let Some(id) = parent.take() {
            let images = self.list()?;
            let Some(image) = images.iter().find(|image| image.id == id) else { break };
            let has_children = images.iter().any(|other| other.parent.as_ref() == Some(&id));
            let has_names = !image.tags.is_empty() || !image.repo_digests.is_empty();
            if has_children || has_names || use_of(&id) != Use::None {
                break;
            }
            removed.extend(self.delete(image)?);
            parent.clone_from(&image.parent);
        }
        Ok(removed)
    }

    /// Remove images that have no name (or, with `all`, no container) and what nothing refers to any more.
    pub fn prune(&self, filter: &PruneFilter, used: &dyn Fn(&Digest) -> bool) -> Result<Pruned> {
        let mut removed = Vec::new();
        for image in self.list()? {
            if filter.takes(&image) && !used(&image.id) {
                removed.extend(self.delete(&image)?);
            }
        }
        Ok(Pruned { removed, reclaimed: self.collect_garbage()? })
    }
}

fn is_name_of(image: &Image, name: &String) -> bool {
    image.tags.contains(name) || image.repo_digests.contains(name)
}

/// `localhost:5000/app` of `localhost:5000/app:1` and of `localhost:5000/app@sha256:…`.
fn repository_of(name: &str) -> Option<&str> {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let colon = name.rfind(':').filter(|at| !name[*at..].contains('/'));
    name.get(..colon.unwrap_or(name.len()))
}

fn refuse_if_used(image: &Image, force: bool, used: &Use) -> Result<()> {
    let (how, state, container) = match used {
        Use::Running(container) => ("cannot be forced", "running", container),
        Use::Stopped(container) if !force => ("must be forced", "stopped", container),
        _ => return Ok(()),
    };
    let container = container.get(..12).unwrap_or(container);
    let text = format!(
        "conflict: unable to delete {} ({how}) - image is being used by {state} container {container}",
        image.id.short()
    );
    Err(Error::new(ErrorKind::Conflict, text))
}
