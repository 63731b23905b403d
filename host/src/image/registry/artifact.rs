//! A component pushed as an artifact (what `wkg`, wasmCloud, Spin and older tools push) becomes an ordinary image with
//! one file. The same artifact always becomes the same image, to the byte. Blocking.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::image::blobs::Blobs;
use crate::image::config::{History, ImageConfig, RootFs};
use crate::image::manifest::{Descriptor, Manifest, media};

/// Where the component lies, and what is run.
const PLACE: &str = "/app.wasm";
const MAGIC: &[u8] = b"\0asm";
/// Of the earliest tools; not among those that images may have.
const EARLY_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// Whether it is no image but a component alone.
pub fn is_artifact(manifest: &Manifest) -> Result<bool> {
    let is_component = |layer: &&Descriptor| media::is_wasm(&layer.media_type) || layer.media_type == EARLY_LAYER;
    let components = manifest.layers.iter().filter(is_component).count();
    let others = manifest.layers.len() - components;
    match (components, others) {
        (0, _) if manifest.config.media_type != media::WASM_CONFIG => Ok(false),
        (1, 0) => Ok(true),
        _ => Err(Error::new(
            ErrorKind::Failed,
            format!(
                "a Wasm artifact has exactly one layer, the component; this one has {components} components and \
                 {others} other layers"
            ),
        )),
    }
}

/// Write the image; its parts are already in the store. Returns its manifest.
pub fn into_image(blobs: &Blobs, manifest: &Manifest) -> Result<Vec<u8>> {
    let [component] = &manifest.layers[..] else {
        return Err(Error::new(ErrorKind::Failed, "a Wasm artifact has exactly one layer"));
    };
    let (layer, size) = write_layer(blobs, component)?;
    let mut config = described(blobs, manifest);
    config.rootfs = RootFs { diff_ids: vec![layer.clone()], ..RootFs::default() };
    let created_by = format!("COPY app.wasm {PLACE}");
    config.history = vec![History { created: config.created.clone(), created_by, ..History::default() }];
    let config = serde_json::to_vec(&config).map_err(unwritable)?;
    let digest = blobs.put(&config)?;
    let layer = Descriptor::new(media::LAYER, layer, size);
    let image = Manifest {
        annotations: manifest.annotations.clone(),
        ..Manifest::new(Descriptor::new(media::CONFIG, digest, config.len() as u64), vec![layer])
    };
    serde_json::to_vec(&image).map_err(unwritable)
}

/// What the artifact says of itself, as far as it means something for an image.
fn described(blobs: &Blobs, manifest: &Manifest) -> ImageConfig {
    let bytes = blobs.read(&manifest.config.digest).unwrap_or_default();
    let ordinary = [media::CONFIG, media::DOCKER_CONFIG].contains(&manifest.config.media_type.as_str());
    // Early tools write an empty config, or none that is JSON: nothing is lost with it.
    let mut config: ImageConfig = if ordinary {
        serde_json::from_slice(&bytes).unwrap_or_default()
    } else {
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        ImageConfig { created: text("created"), author: text("author"), ..ImageConfig::default() }
    };
    let labels: BTreeMap<String, String> = manifest.annotations.clone();
    config.config.labels.extend(labels);
    config.architecture = "wasm".into();
    config.os = "wasi".into();
    config.config.entrypoint = Some(vec![PLACE.to_owned()]);
    config
}

/// A tar of the one file, without anything that differs from machine to machine.
fn write_layer(blobs: &Blobs, component: &Descriptor) -> Result<(crate::image::Digest, u64)> {
    let failed = |error: io::Error| Error::new(ErrorKind::Io, "cannot write the component's layer").because(error);
    let mut file = blobs.open(&component.digest)?;
    let mut magic = [0; MAGIC.len()];
    if file.read_exact(&mut magic).is_err() || magic != MAGIC {
        return Err(Error::new(ErrorKind::Failed, "exec format error: the artifact is not a WebAssembly component"));
    }
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(component.size);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    let mut archive = tar::Builder::new(blobs.writer()?);
    let content = magic.chain(file).take(component.size);
    archive.append_data(&mut header, PLACE.trim_start_matches('/'), content).map_err(failed)?;
    let mut writer = archive.into_inner().map_err(failed)?;
    writer.flush().map_err(failed)?;
    writer.commit(None)
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Failed, "cannot write the component's image").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn manifest(config: &str, layers: &[&str]) -> Manifest {
        let piece = |media_type: &&str| Descriptor::new(media_type, Digest::of(media_type.as_bytes()), 1);
        Manifest::new(piece(&config), layers.iter().map(piece).collect())
    }

    #[test]
    fn artifacts_are_told_from_images() {
        for (config, layers, artifact) in [
            (media::CONFIG, &[media::LAYER][..], Some(false)),
            (media::CONFIG, &[], Some(false)),
            (media::WASM_CONFIG, &["application/wasm"], Some(true)),
            (media::CONFIG, &[media::WASM[1]], Some(true)),
            ("application/vnd.wasm.config.v1+json", &[EARLY_LAYER], Some(true)),
            (media::WASM_CONFIG, &[], None),
            (media::WASM_CONFIG, &[media::LAYER], None),
            (media::WASM_CONFIG, &["application/wasm", "application/wasm"], None),
            (media::CONFIG, &["application/wasm", media::LAYER], None),
        ] {
            assert_eq!(is_artifact(&manifest(config, layers)).ok(), artifact, "{config} {layers:?}");
        }
    }
}
