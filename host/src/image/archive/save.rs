//! Writing images into a tar, as a stream: nothing is kept in memory or on disk beside the store. The same images give the
//! same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use serde::Serialize;
use tar::{Builder, EntryType, Header};

use super::{BLOBS, DOCKER_INDEX, DockerImage, OCI_INDEX, OCI_MARKER};
use crate::error::{Error, ErrorKind, Result};
use crate::image::digest::Digest;
use crate::image::layers::{Hashing, Layer};
use crate::image::layout;
use crate::image::manifest::{Descriptor, Index, Manifest, media};
use crate::image::reference::Reference;
use crate::image::store::{Images, Parsed};
use crate::image::unpack;

/// A blob of the archive.
enum Part {
    Document(Vec<u8>),
    /// A blob of the store, as it is.
    Blob(Digest),
    /// A compressed blob of the store, which becomes the plain layer.
    Packed(Digest),
}

/// What the archive will hold; in the order of names, so that it is the same each time.
#[derive(Default)]
struct Plan {
    parts: BTreeMap<Digest, (u64, Part)>,
    index: Vec<Descriptor>,
    docker: Vec<DockerImage>,
}

impl Images {
    /// Write images by name or id. Those given by id have no name in the archive.
    pub fn save(&self, names: &[String], out: &mut dyn Write) -> Result<()> {
        let _hold = self.hold();
        let mut plan = Plan::default();
        for (manifest, references) in self.wanted(names)? {
            self.plan(&manifest, &references, &mut plan)?;
        }
        self.write(&plan, out)
    }

    /// Manifests in the order asked for, each with the names it was asked for by.
    fn wanted(&self, names: &[String]) -> Result<Vec<(Descriptor, BTreeSet<Reference>)>> {
        let mut wanted: Vec<(Descriptor, BTreeSet<Reference>)> = Vec::new();
        for name in names {
            let image = self.find(name)?;
            let typed = name.parse::<Reference>().ok().map(Reference::or_latest);
            let typed = typed.filter(|typed| typed.digest.is_none() && image.tags.contains(&typed.familiar()));
            if let Some((_, names)) = wanted.iter_mut().find(|(entry, _)| entry.digest == image.manifest) {
                names.extend(typed);
                continue;
            }
            let entry = Descriptor::new(&image.media_type, image.manifest, image.manifest_size);
            wanted.push((entry, typed.into_iter().collect()));
        }
        Ok(wanted)
    }

    fn plan(&self, entry: &Descriptor, names: &BTreeSet<Reference>, plan: &mut Plan) -> Result<()> {
        let content = self.blobs().read(&entry.digest)?;
        let parsed = self.parse_manifest(&content, entry.clone())?;
        let layers = self.plain_layers(&parsed, plan)?;
        // A manifest stays what it is, to the byte, unless its layers changed.
        let (media_type, content) = if layers == parsed.manifest.layers {
            (entry.media_type.as_str(), content)
        } else {
            (media::MANIFEST, repacked(&parsed.manifest, &layers)?)
        };
        let entry = Descriptor::new(media_type, Digest::of(&content), content.len() as u64);
        plan.parts.insert(entry.digest.clone(), (entry.size, Part::Document(content)));
        let config = self.blobs().read(parsed.id())?;
        plan.parts.insert(parsed.id().clone(), (config.len() as u64, Part::Document(config)));
        // Docker's archive has no place for an image that is one component.
        if !parsed.manifest.is_artifact() {
            plan.docker.push(DockerImage {
                config: path(parsed.id()),
                repo_tags: Some(names.iter().map(Reference::familiar).collect()),
                layers: layers.iter().map(|layer| path(&layer.digest)).collect(),
            });
        }
        if names.is_empty() {
            plan.index.push(entry.clone());
        }
        for name in names {
            let mut entry = entry.clone();
            entry.annotations.insert(layout::IMAGE_NAME.to_owned(), name.canonical());
            entry.annotations.insert(layout::REFERENCE_NAME.to_owned(), name.tag.clone().unwrap_or_default());
            plan.index.push(entry);
        }
        Ok(())
    }

    /// The layers as the archive holds them: not compressed, so that every reader of archives understands them.
    fn plain_layers(&self, parsed: &Parsed, plan: &mut Plan) -> Result<Vec<Descriptor>> {
        let mut plain = Vec::new();
        for Layer { diff_id, blob } in parsed.layers()? {
            if blob.digest == diff_id {
                let size = self.blobs().size(&blob.digest)?;
                plan.parts.insert(diff_id, (size, Part::Blob(blob.digest.clone())));
                plain.push(blob);
                continue;
            }
            // The size comes before the content in a tar: the layer is read twice rather than kept.
            let size = io::copy(&mut unpack::decompress(self.blobs().open(&blob.digest)?)?, &mut io::sink())
                .map_err(|error| unreadable(&blob.digest, error))?;
            plan.parts.insert(diff_id.clone(), (size, Part::Packed(blob.digest)));
            plain.push(Descriptor::new(media::LAYER, diff_id, size));
        }
        Ok(plain)
    }

    fn write(&self, plan: &Plan, out: &mut dyn Write) -> Result<()> {
        let mut archive = Builder::new(out);
        for folder in ["blobs/", "blobs/sha256/"] {
            archive.append_data(&mut header(EntryType::Directory, 0), folder, io::empty()).map_err(unsent)?;
        }
        for (digest, (size, part)) in &plan.parts {
            let content: Box<dyn Read> = match part {
                Part::Document(content) => Box::new(&content[..]),
                Part::Blob(blob) => Box::new(self.blobs().open(blob)?),
                Part::Packed(blob) => unpack::decompress(self.blobs().open(blob)?)?,
            };
            // What changed on disk since it was measured must not shift everything after it.
            let mut content = Hashing::new(content.take(*size));
            archive.append_data(&mut header(EntryType::Regular, *size), path(digest), &mut content).map_err(unsent)?;
            if content.finish() != *digest {
                return Err(Error::new(
                    ErrorKind::Failed,
                    format!("{digest} is corrupt in the store: pull, load or build the image again, then save it"),
                ));
            }
        }
        let documents = [
            (OCI_INDEX, json(&Index::new(plan.index.clone()))?),
            (DOCKER_INDEX, json(&plan.docker)?),
            (OCI_MARKER, layout::VERSION.as_bytes().to_owned()),
        ];
        for (name, content) in documents {
            let mut header = header(EntryType::Regular, content.len() as u64);
            archive.append_data(&mut header, name, &content[..]).map_err(unsent)?;
        }
        archive.finish().map_err(unsent)
    }
}

fn repacked(manifest: &Manifest, layers: &[Descriptor]) -> Result<Vec<u8>> {
    let config = Descriptor { media_type: media::CONFIG.to_owned(), ..manifest.config.clone() };
    let annotations = manifest.annotations.clone();
    json(&Manifest { annotations, ..Manifest::new(config, layers.to_owned()) })
}

fn path(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_size(size);
    // No time and no owner: they would make equal archives differ.
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::new(ErrorKind::Failed, "cannot describe the archive").because(error))
}

fn unsent(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot write the archive").because(error)
}

fn unreadable(blob: &Digest, error: io::Error) -> Error {
    let text = format!("layer {blob} cannot be unpacked: pull, load or build its image again");
    Error::new(ErrorKind::Failed, text).because(error)
}
