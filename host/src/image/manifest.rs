//! The image format's descriptors, manifests and indexes, and its media types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::digest::Digest;

/// Media types that are read or written here.
pub mod media {
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// A layer that is no archive but one component; newest first.
    pub const WASM: [&str; 3] = [
        "application/wasm",
        "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
        "application/vnd.module.wasm.content.layer.v1+wasm",
    ];

    pub fn is_index(media_type: &str) -> bool {
        [INDEX, DOCKER_LIST].contains(&media_type)
    }

    pub fn is_wasm(media_type: &str) -> bool {
        WASM.contains(&media_type)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Manifest {
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            config,
            layers,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }

    /// One component and no file system.
    pub fn is_artifact(&self) -> bool {
        matches!(&self.layers[..], [layer] if media::is_wasm(&layer.media_type))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Index {
    pub fn new(manifests: Vec<Descriptor>) -> Index {
        Index { schema_version: 2, media_type: Some(media::INDEX.to_owned()), manifests, other: Map::new() }
    }
}

/// `os/architecture` in the order in which an index is searched; then any `wasm`, then this machine's Linux.
const PREFERRED: [&str; 3] = ["wasi/wasm", "wasip2/wasm", "wasip1/wasm"];
/// Marks entries that are no images.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

impl Index {
    /// The entries that are images, and not what somebody attests about one.
    pub fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|entry| !entry.annotations.contains_key(REFERENCE_TYPE))
    }

    /// The image of several that suits this host: the `platform` asked for (`os/architecture`), or the best one.
    pub fn choose(&self, platform: Option<&str>) -> Option<&Descriptor> {
        let images: Vec<&Descriptor> = self.images().collect();
        let named = |entry: &Descriptor| {
            let platform = entry.platform.as_ref();
            platform.map(|platform| format!("{}/{}", platform.os, platform.architecture)).unwrap_or_default()
        };
        let find = |wanted: &str| images.iter().find(|entry| named(entry) == wanted);
        let found = match platform {
            Some(platform) => find(platform),
            None => {
                let machine = match std::env::consts::ARCH {
                    "x86_64" => "linux/amd64",
                    "aarch64" => "linux/arm64",
                    _ => "linux/wasm",
                };
                PREFERRED
                    .iter()
                    .find_map(|wanted| find(wanted))
                    .or_else(|| images.iter().find(|entry| named(entry).ends_with("/wasm")))
                    .or_else(|| find(machine))
                    // One image without a platform is the image.
                    .or_else(|| images.first().filter(|entry| images.len() == 1 && entry.platform.is_none()))
            }
        };
        found.copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(os: &str, architecture: &str) -> Descriptor {
        let platform = Platform { os: os.into(), architecture: architecture.into(), ..Platform::default() };
        let digest = Digest::of(format!("{os}/{architecture}").as_bytes());
        Descriptor { platform: Some(platform), ..Descriptor::new(media::MANIFEST, digest, 1) }
    }

    #[test]
    fn an_index_gives_the_wasm_image() {
        let mut attestation = entry("wasi", "wasm");
        attestation.annotations.insert(REFERENCE_TYPE.into(), "attestation-manifest".into());
        let index =
            Index::new(vec![attestation, entry("linux", "s390x"), entry("js", "wasm"), entry("wasip1", "wasm")]);
        assert_eq!(index.choose(None), Some(&index.manifests[3]));
        assert_eq!(index.choose(Some("js/wasm")), Some(&index.manifests[2]));
        assert_eq!(index.choose(Some("linux/arm64")), None);
        assert_eq!(Index::new(vec![entry("linux", "s390x")]).choose(None), None);
    }

    #[test]
    fn a_manifest_says_whether_it_is_one_component() {
        let digest = Digest::of(b"");
        let manifest = |media_type| {
            Manifest::new(
                Descriptor::new(media::CONFIG, digest.clone(), 0),
                vec![Descriptor::new(media_type, digest.clone(), 0)],
            )
        };
        assert!(manifest(media::WASM[0]).is_artifact() && !manifest(media::LAYER).is_artifact());
    }
}
