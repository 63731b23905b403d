//! What a registry says an image consists of: manifests and indexes, read and distrusted. Pure.

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::image::manifest::{Descriptor, Index, Manifest, Platform, media};

/// Bytes of a manifest or a config. Real ones have a few thousand; more is an attack or a mistake.
pub const LARGEST: usize = 4 << 20;

/// As many as Docker accepts.
const MOST_LAYERS: usize = 127;

/// What we can read, for the header `Accept`.
pub const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

#[derive(Debug)]
pub enum Document {
    /// One image for several platforms.
    Index(Index),
    Image(Box<Manifest>),
}

/// Which of the two a document is shows in its members, not in its name: that may lie.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: Option<u64>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// `name` is for messages, and so is `content_type`, what the registry calls the document.
    pub fn read(name: &str, content_type: &str, bytes: &[u8]) -> Result<Document> {
        let refuse = |problem: &str| Error::new(ErrorKind::Failed, format!("the manifest of {name} {problem}"));
        let damaged = |error: serde_json::Error| refuse("is not a manifest").because(error);
        if content_type.starts_with("text/html") {
            return Err(refuse("is a web page (text/html): what answers there is no registry; check the address"));
        }
        let outline: Outline = serde_json::from_slice(bytes).map_err(damaged)?;
        if outline.schema_version == Some(1) {
            return Err(refuse("is of the withdrawn schema 1; push the image again with a newer tool"));
        }
        match (outline.config.is_some(), outline.layers.is_some(), outline.manifests.is_some()) {
            (false, false, true) => serde_json::from_slice(bytes).map(Document::Index).map_err(damaged),
            (true, true, false) => {
                let manifest: Manifest = serde_json::from_slice(bytes).map_err(damaged)?;
                if manifest.layers.len() > MOST_LAYERS {
                    return Err(refuse(&format!("has over {MOST_LAYERS} layers, the most that are allowed")));
                }
                if manifest.config.size > LARGEST as u64 {
                    return Err(refuse(&format!("gives its config {} bytes, over {LARGEST}", manifest.config.size)));
                }
                Ok(Document::Image(Box::new(manifest)))
            }
            // One digest, read as an index by one tool and as an image by another: a known trick.
            (_, _, true) => Err(refuse("claims to be an image and an index at once")),
            _ => Err(refuse("names no config or no layers, so it is no image")),
        }
    }
}

/// What the document is to be called when it is stored and pushed again.
pub fn media_type<'a>(manifest: &'a Manifest, content_type: &'a str) -> &'a str {
    let known = [media::MANIFEST, media::DOCKER_MANIFEST];
    let said = manifest.media_type.as_deref().unwrap_or(content_type);
    known.into_iter().find(|known| *known == said).unwrap_or(media::MANIFEST)
}

/// The entry to take: of the platform asked for, or the one that runs best here.
pub fn choose<'a>(name: &str, index: &'a Index, wanted: Option<&str>) -> Result<&'a Descriptor> {
    let wanted = wanted.filter(|wanted| !wanted.is_empty());
    // Docker's clients say `wasi/wasm` for all that Wasm calls itself.
    let kin: &[&str] = if wanted == Some("wasi/wasm") { &["wasip2/wasm", "wasip1/wasm"] } else { &[] };
    let chosen = index.choose(wanted).or_else(|| kin.iter().find_map(|kin| index.choose(Some(kin))));
    chosen.ok_or_else(|| {
        let platforms = index.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        let offered: Vec<String> = platforms.filter(|platform| platform.os != "unknown").map(called).collect();
        let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
        let wanted = wanted.unwrap_or("wasi/wasm");
        let text =
            format!("no matching manifest for {wanted} in the manifest list entries of {name}: there is {offered}");
        Error::new(ErrorKind::NotFound, text)
    })
}

fn called(platform: &Platform) -> String {
    format!("{}/{}", platform.os, platform.architecture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn entry(platform: &str) -> String {
        let (os, architecture) = platform.split_once('/').unwrap();
        let digest = Digest::of(platform.as_bytes());
        format!(
            r#"{{"mediaType":"m","digest":"{digest}","size":2,
                "platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#
        )
    }

    fn chosen(platforms: &[&str], wanted: Option<&str>) -> Result<String> {
        let entries: Vec<String> = platforms.iter().map(|platform| entry(platform)).collect();
        let json = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let Document::Index(index) = Document::read("app", "", json.as_bytes())? else { panic!("no index") };
        choose("app", &index, wanted).map(|entry| called(entry.platform.as_ref().unwrap()))
    }

    #[test]
    fn the_platform_asked_for_is_taken() {
        let offered = ["linux/arm64", "wasip2/wasm"];
        for (wanted, taken) in [
            (None, "wasip2/wasm"),
            (Some(""), "wasip2/wasm"),
            (Some("wasi/wasm"), "wasip2/wasm"),
            (Some("linux/arm64"), "linux/arm64"),
        ] {
            assert_eq!(chosen(&offered, wanted).unwrap(), taken, "{wanted:?}");
        }
        let error = chosen(&["unknown/unknown", "linux/s390x"], None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            "no matching manifest for wasi/wasm in the manifest list entries of app: there is linux/s390x"
        );
    }

    #[test]
    fn broken_manifests_are_refused_with_a_reason() {
        let piece = entry("wasi/wasm");
        let many = vec![piece.as_str(); MOST_LAYERS + 1].join(",");
        let huge = piece.replace("\"size\":2", "\"size\":5000000");
        let image =
            |config: &str, layers: &str| format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#);
        for (text, problem) in [
            ("", "is not a manifest"),
            ("[]", "is not a manifest"),
            ("{}", "names no config or no layers"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "withdrawn schema 1"),
            (&format!(r#"{{"config":{piece},"layers":[],"manifests":[]}}"#), "an image and an index at once"),
            (&image(&piece, &many), "over 127 layers"),
            (&image(&huge, &piece), "gives its config 5000000 bytes"),
            (&image(&piece, r#"{"digest":"sha512:00","size":1}"#), "invalid digest \"sha512:00\""),
            (&image(&piece, r#"{"digest":"../../etc","size":1}"#), "invalid digest"),
            (&image(&piece, &piece.replace("\"size\":2", "\"size\":-2")), "`-2`, expected u64"),
        ] {
            let message = Document::read("app", "application/json", text.as_bytes()).unwrap_err().chain();
            assert!(message.starts_with("the manifest of app ") && message.contains(problem), "{text}: {message}");
        }
        let page = Document::read("app", "text/html; charset=utf-8", b"{}").unwrap_err().to_string();
        assert!(page.contains("is a web page"), "{page}");
    }
}
