//! The layout's index: which manifests are images, and what they are called.
//!
//! One entry per name (`name:tag` or `name@digest`), or one without a name for an image that lost its last. The reference
//! name is the whole familiar name, so that tools which look only at it can tell `app:latest` from `web:latest`. The file
//! is read anew each time: another tool may have copied an image into the layout.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::durable::{self, failed};
use super::manifest::{Descriptor, Index};
use super::reference::Reference;
use crate::error::{Error, ErrorKind, Result};

pub const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

pub const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";
pub const IMAGE_NAME: &str = "io.containerd.image.name";
/// The image this one was built upon.
pub const PARENT: &str = "wharf.image.parent";
/// When the name was given, in RFC 3339.
pub const TAGGED: &str = "wharf.image.tagged";
/// Bytes of the files in all layers.
pub const SIZE: &str = "wharf.image.size";

#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
    writing: Mutex<()>,
}

impl Layout {
    pub fn open(folder: &Path) -> Result<Layout> {
        durable::create_folder(folder)?;
        let marker = folder.join("oci-layout");
        if !marker.exists() {
            durable::replace(&marker, VERSION.as_bytes())?;
        }
        let layout = Layout { folder: folder.to_owned(), writing: Mutex::new(()) };
        if !layout.file().exists() {
            layout.write(&Index::new(Vec::new()))?;
        }
        for leftover in durable::entries(folder)?.iter().filter(|path| durable::is_unfinished(path)) {
            durable::remove(leftover);
        }
        Ok(layout)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("index.json")
    }

    pub fn read(&self) -> Result<Index> {
        let path = self.file();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::new(Vec::new())),
            text => text.map_err(|error| failed("read", &path, error))?,
        };
        serde_json::from_slice(&text).map_err(|error| {
            let text = format!(
                "{} is not an index of images. Mend or remove it; the images' blobs are beside it",
                path.display()
            );
            Error::new(ErrorKind::Failed, text).because(error)
        })
    }

    /// Read, change, write; one at a time. Nothing is written if `change` fails or changes nothing.
    pub fn update<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let _writing = self.lock();
        let before = self.read()?;
        let mut index = before.clone();
        let result = change(&mut index)?;
        if index != before {
            self.write(&index)?;
        }
        Ok(result)
    }

    fn write(&self, index: &Index) -> Result<()> {
        let text = serde_json::to_vec(index)
            .map_err(|error| Error::new(ErrorKind::Failed, "cannot write the index of images").because(error))?;
        durable::replace(&self.file(), &text)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an entry is called. Other tools write only the reference name.
pub fn name(entry: &Descriptor) -> Option<Reference> {
    let name = [IMAGE_NAME, REFERENCE_NAME].into_iter().find_map(|key| entry.annotations.get(key))?;
    name.parse::<Reference>().ok().map(Reference::or_latest)
}

/// Give an image a name, and take it from the one that had it.
pub fn set_name(index: &mut Index, image: &Descriptor, name: &Reference, now: &str) {
    clear_name(index, name);
    let mut entry = image.clone();
    entry.annotations.insert(IMAGE_NAME.to_owned(), name.canonical());
    entry.annotations.insert(REFERENCE_NAME.to_owned(), name.familiar());
    entry.annotations.insert(TAGGED.to_owned(), now.to_owned());
    index.manifests.retain(|other| other.digest != image.digest || self::name(other).is_some());
    index.manifests.push(entry);
}

/// Take a name away. The last entry of an image stays, without one: only removing it makes it go.
pub fn clear_name(index: &mut Index, name: &Reference) -> bool {
    let Some(at) = index.manifests.iter().position(|entry| self::name(entry).as_ref() == Some(name)) else {
        return false;
    };
    let entry = index.manifests.remove(at);
    if !index.manifests.iter().any(|other| other.digest == entry.digest) {
        index.manifests.push(nameless(entry));
    }
    true
}

pub fn nameless(mut entry: Descriptor) -> Descriptor {
    for key in [IMAGE_NAME, REFERENCE_NAME, TAGGED] {
        entry.annotations.remove(key);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;
    use crate::image::manifest::media;

    fn image(content: &str) -> Descriptor {
        Descriptor::new(media::MANIFEST, Digest::of(content.as_bytes()), 1)
    }

    fn names(index: &Index) -> Vec<(String, Option<String>)> {
        let name = |entry: &Descriptor| name(entry).map(|name| name.familiar());
        index.manifests.iter().map(|entry| (entry.digest.short().to_owned(), name(entry))).collect()
    }

    #[test]
    fn a_name_moves_and_its_old_image_stays() {
        let (one, two) = (image("one"), image("two"));
        let (app, web) = ("app:latest".parse().unwrap(), "web:1".parse().unwrap());
        let mut index = Index::new(vec![nameless(one.clone())]);
        set_name(&mut index, &one, &app, "now");
        set_name(&mut index, &one, &web, "now");
        set_name(&mut index, &two, &app, "later");
        let (first, second) = (one.digest.short().to_owned(), two.digest.short().to_owned());
        assert_eq!(names(&index), [(first.clone(), Some("web:1".into())), (second, Some("app:latest".into()))]);
        assert!(clear_name(&mut index, &web) && !clear_name(&mut index, &web));
        assert_eq!(names(&index)[1], (first, None));
    }

    #[test]
    fn a_broken_change_leaves_the_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        layout
            .update(|index| {
                index.manifests.push(image("one"));
                Ok(())
            })
            .unwrap();
        let failed: Result<()> = layout.update(|index| {
            index.manifests.clear();
            Err(Error::invalid("no"))
        });
        assert!(failed.is_err());
        assert_eq!(Layout::open(folder.path()).unwrap().read().unwrap().manifests.len(), 1);
        fs::write(folder.path().join("index.json"), "{").unwrap();
        assert!(layout.read().unwrap_err().to_string().contains("is not an index of images"));
    }
}
