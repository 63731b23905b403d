//! TensorRT engines on the way to another machine: one file, which says first which key it is for. Beside a model in an
//! image it is a layer like any other, and a host whose key it is need not build.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::engine_cache::{EngineFolder, EngineKey, files, unusable};
use super::seen::hashed_file;
use crate::error::{Error, ErrorKind, Result};

/// The first entry of an archive; its content is the key.
const KEY_ENTRY: &str = "wharf-engine-key";

/// How an archive's name ends.
pub const ENDING: &str = "engine";

/// Write the engine in `folder` (see [`super::engine_cache::find`]), and what belongs to it, as a tar.
pub fn export(key: &EngineKey, folder: &Path, to: impl Write) -> Result<()> {
    let failed = |error: io::Error| {
        Error::new(ErrorKind::Io, format!("cannot export the engine {}", key.as_str())).because(error)
    };
    let mut archive = tar::Builder::new(to);
    let key = key.as_str().as_bytes();
    let mut header = tar::Header::new_gnu();
    header.set_size(key.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, KEY_ENTRY, key).map_err(failed)?;
    for path in files(folder).map_err(failed)? {
        let Some(name) = path.file_name() else { continue };
        archive.append_path_with_name(&path, name).map_err(failed)?;
    }
    archive.into_inner().and_then(|mut to| to.flush()).map_err(failed)
}

/// Which key an archive is for.
///
/// # Errors
///
/// [`ErrorKind::InvalidArgument`] for a file that is no exported engine.
pub fn key_of(from: impl Read) -> Result<EngineKey> {
    first(&mut tar::Archive::new(from).entries().map_err(broken)?)
}

/// Take an exported engine in, in place of one that was there. An archive that is refused changes nothing.
///
/// # Errors
///
/// [`ErrorKind::InvalidArgument`] for an archive of another key (both are named), of none, or with entries other than
/// plain files.
pub fn import(folder: &EngineFolder, from: impl Read) -> Result<PathBuf> {
    let mut archive = tar::Archive::new(from);
    let mut entries = archive.entries().map_err(broken)?;
    let (key, wanted) = (first(&mut entries)?, folder.key());
    if key.as_str() != wanted.as_str() {
        let (key, wanted) = (key.as_str(), wanted.as_str());
        return Err(Error::invalid(format!("this engine is for {key}, and {wanted} is needed: build it here")));
    }
    let unfinished = folder.begin()?;
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() || name.contains('/') || name.starts_with('.') {
            return Err(Error::invalid(format!("{name:?} does not belong into the archive of an engine")));
        }
        let path = unfinished.path().join(&name);
        let copied = File::create_new(&path).and_then(|mut file| io::copy(&mut entry, &mut file));
        copied.map_err(|error| unusable(&path, error))?;
    }
    folder.publish(unfinished)
}

fn first<R: Read>(entries: &mut tar::Entries<'_, R>) -> Result<EngineKey> {
    let none = || Error::invalid("this is no exported engine: its key is missing");
    let entry = entries.next().transpose().map_err(broken)?.ok_or_else(none)?;
    if entry.path_bytes().as_ref() != KEY_ENTRY.as_bytes() {
        return Err(none());
    }
    let mut key = String::new();
    entry.take(4096).read_to_string(&mut key).map_err(broken)?;
    EngineKey::parse(&key).ok_or_else(|| Error::invalid(format!("{key:?} is no key of an engine")))
}

fn broken(error: io::Error) -> Error {
    Error::invalid("cannot read the archive of an engine").because(error)
}

/// An archive beside a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    pub path: PathBuf,
    pub key: EngineKey,
    /// Of the whole file, in hexadecimal.
    pub sha256: String,
}

/// The archives beside `NAME.onnx`: `NAME.engine`, or `NAME.ANYTHING.engine` for one of several kinds of GPU. Files that
/// are none are left out with a warning.
pub fn beside(model: &Path) -> Vec<Beside> {
    let (Some(folder), Some(stem)) = (model.parent(), model.file_stem().and_then(|stem| stem.to_str())) else {
        return Vec::new();
    };
    let is_its_own = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(stem));
        name.is_some_and(|rest| rest.starts_with('.') && rest.ends_with(&format!(".{ENDING}")))
    };
    let found = files(folder).unwrap_or_default().into_iter().filter(is_its_own);
    let read = |path: PathBuf| {
        let key = File::open(&path).map_err(broken).and_then(key_of);
        let read = key.and_then(|key| Ok((key, hashed_file(&path).map_err(broken)?)));
        match read {
            Ok((key, sha256)) => Some(Beside { path, key, sha256 }),
            Err(error) => {
                tracing::warn!(file = %path.display(), error = error.chain(), "not taken as an engine");
                None
            }
        }
    };
    found.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::engine_cache::find;

    fn key(sha256: &str) -> EngineKey {
        EngineKey::parse(&format!("{sha256}/Orin-sm87/trt10.3.0-cuda12.6/ort1.31.1/0123456789abcdef")).unwrap()
    }

    /// An archive of one engine and its profile.
    fn archive(sha256: &str) -> Vec<u8> {
        let cache = tempfile::tempdir().unwrap();
        let folder = EngineFolder::open(cache.path(), &key(sha256)).unwrap();
        let unfinished = folder.begin().unwrap();
        fs::write(unfinished.path().join("graph_sm87.engine"), "engine").unwrap();
        fs::write(unfinished.path().join("graph_sm87.profile"), "profile").unwrap();
        let mut archive = Vec::new();
        export(folder.key(), &folder.publish(unfinished).unwrap(), &mut archive).unwrap();
        archive
    }

    #[test]
    fn engines_travel_to_their_own_key_only() {
        let cache = tempfile::tempdir().unwrap();
        let archive = archive("ab");
        assert_eq!(key_of(&archive[..]).unwrap(), key("ab"));
        let target = EngineFolder::open(cache.path(), &key("ab").of_archive("1234")).unwrap();
        let engine = import(&target, &archive[..]).unwrap();
        assert_eq!(fs::read_to_string(engine.join("graph_sm87.profile")).unwrap(), "profile");
        assert_eq!(find(cache.path(), &key("ab")), None, "what an image brought is its own");

        let (key, wrong) = (key("ab"), key("cd"));
        let refusing = EngineFolder::open(cache.path(), &wrong).unwrap();
        let error = import(&refusing, &archive[..]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("this engine is for {}, and {} is needed: build it here", key.as_str(), wrong.as_str())
        );
        assert_eq!(refusing.engine(), None);
    }

    #[test]
    fn archives_of_other_things_are_refused() {
        let cache = tempfile::tempdir().unwrap();
        let key = key("ab");
        let folder = EngineFolder::open(cache.path(), &key).unwrap();
        let append = |archive: &mut tar::Builder<Vec<u8>>, name: &str, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        };
        let refused = |entries: &[(&str, &str)]| {
            let mut archive = tar::Builder::new(Vec::new());
            entries.iter().for_each(|(name, text)| append(&mut archive, name, text));
            import(&folder, &archive.into_inner().unwrap()[..]).unwrap_err().to_string()
        };
        assert_eq!(refused(&[("other", "x")]), "this is no exported engine: its key is missing");
        assert_eq!(refused(&[(KEY_ENTRY, "a/../b")]), "\"a/../b\" is no key of an engine");
        assert_eq!(
            refused(&[(KEY_ENTRY, key.as_str()), ("sub/evil.engine", "x")]),
            "\"sub/evil.engine\" does not belong into the archive of an engine"
        );
        assert_eq!(folder.engine(), None);
    }

    #[test]
    fn archives_beside_a_model_are_found_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        for name in ["digits.onnx", "digits.onnx.bak", "digitsx.engine", "eyes.engine"] {
            write(name, b"");
        }
        write("digits.engine", &archive("ab"));
        write("digits.orin.engine", &archive("cd"));
        write("digits.spoilt.engine", b"no tar");
        let found = beside(&folder.path().join("digits.onnx"));
        assert_eq!(found.iter().map(|one| one.key.clone()).collect::<Vec<_>>(), [key("ab"), key("cd")]);
        assert_ne!(found[0].sha256, found[1].sha256);
    }
}
