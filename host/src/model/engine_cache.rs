//! The cache of TensorRT's engines, under a key of our own: ONNX Runtime's names the graph but not the weights, so that
//! a retrained model would get the old engine. Engines take minutes to build, so they can be carried to another machine
//! of the same kind; they fit no other, which is why an archive says what it is for.

use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::machine::NvidiaGpu;
use super::options::TensorRtOptions;
use crate::error::{Error, ErrorKind, Result};

/// The folder in the cache that is TensorRT's.
const FOLDER: &str = "tensorrt";
const LOCK: &str = ".lock";
/// The first entry of an archive; its content is the key.
const KEY_ENTRY: &str = "wharf-engine-key";

/// Everything an engine depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineKey(String);

/// The versions an engine was made with, as the libraries tell them, e.g. `10.13.2`, `13.0`, `1.31.1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    pub tensorrt: String,
    pub cuda: String,
    pub onnxruntime: String,
}

impl EngineKey {
    /// `<model sha256>/<gpu name>-sm<cc>/trt<ver>-cuda<ver>/ort<ver>/<hash of options>`. `None` for a GPU whose compute
    /// capability is not known: an engine of unknown fit is not kept.
    pub fn new(sha256: &str, gpu: &NvidiaGpu, versions: &Versions, options: &TensorRtOptions) -> Option<EngineKey> {
        let (major, minor) = gpu.compute_capability?;
        let mut hash = Sha256::new();
        for (name, value) in options.pairs_that_shape_engines() {
            hash.update(format!("{name}={value}\n"));
        }
        let mut options = String::new();
        for byte in hash.finalize().iter().take(8) {
            let _ = write!(options, "{byte:02x}");
        }
        Some(EngineKey(format!(
            "{}/{}-sm{major}{minor}/trt{}-cuda{}/ort{}/{options}",
            plain(sha256),
            plain(&gpu.name),
            plain(&versions.tensorrt),
            plain(&versions.cuda),
            plain(&versions.onnxruntime)
        )))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One safe part of a path.
fn plain(text: &str) -> String {
    let part: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect();
    let part = part.trim_start_matches('.');
    if part.is_empty() { "unknown".into() } else { part.to_owned() }
}

/// The folder of one key, for one writer at a time. Others wait; the lock goes with the value, or with the process.
#[derive(Debug)]
pub struct EngineFolder {
    path: PathBuf,
    key: EngineKey,
    _lock: File,
}

impl EngineFolder {
    /// Make the folder and wait for its lock: another process may build the very engine we need. Not for an
    /// asynchronous thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] where the folder is not writable.
    pub fn open(cache: &Path, key: &EngineKey) -> Result<EngineFolder> {
        let (path, lock) = EngineFolder::prepare(cache, key)?;
        lock.lock().map_err(|error| unusable(&path, error))?;
        EngineFolder::locked(path, key, lock)
    }

    /// As [`EngineFolder::open`], but `None` where somebody writes.
    pub fn try_open(cache: &Path, key: &EngineKey) -> Result<Option<EngineFolder>> {
        let (path, lock) = EngineFolder::prepare(cache, key)?;
        match lock.try_lock() {
            Ok(()) => EngineFolder::locked(path, key, lock).map(Some),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(unusable(&path, error)),
        }
    }

    fn prepare(cache: &Path, key: &EngineKey) -> Result<(PathBuf, File)> {
        let path = cache.join(FOLDER).join(key.as_str());
        fs::create_dir_all(&path).map_err(|error| unusable(&path, error))?;
        let lock = File::options().create(true).append(true).open(path.join(LOCK));
        let lock = lock.map_err(|error| unusable(&path, error))?;
        Ok((path, lock))
    }

    fn locked(path: PathBuf, key: &EngineKey, lock: File) -> Result<EngineFolder> {
        Ok(EngineFolder { path, key: key.clone(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is an engine, so that a session opens in seconds.
    pub fn holds_an_engine(&self) -> bool {
        self.files().is_ok_and(|files| files.iter().any(|path| path.extension().is_some_and(|end| end == "engine")))
    }

    /// All but our own lock, sorted.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if entry.file_type()?.is_file() && !hidden {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }

    /// Write the engine and what belongs to it as a tar, which [`EngineFolder::import`] reads.
    pub fn export(&self, to: impl Write) -> Result<()> {
        let failed = |error: io::Error| {
            Error::new(ErrorKind::Io, format!("cannot export the engine {}", self.key.as_str())).because(error)
        };
        let mut archive = tar::Builder::new(to);
        let key = self.key.as_str().as_bytes();
        let mut header = tar::Header::new_gnu();
        header.set_size(key.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, KEY_ENTRY, key).map_err(failed)?;
        for path in self.files().map_err(failed)? {
            let Some(name) = path.file_name() else { continue };
            archive.append_path_with_name(&path, name).map_err(failed)?;
        }
        archive.into_inner().and_then(|mut to| to.flush()).map_err(failed)
    }

    /// Take an exported engine in. Nothing is changed by an archive that is refused.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for an archive of another key (both are named), of none, or with entries other
    /// than plain files.
    pub fn import(&self, from: impl Read) -> Result<()> {
        let broken = |error: io::Error| Error::invalid("cannot read the archive of an engine").because(error);
        let mut archive = tar::Archive::new(from);
        let mut entries = archive.entries().map_err(broken)?;
        let mut first = entries.next().transpose().map_err(broken)?;
        let mut key = String::new();
        if let Some(entry) = first.as_mut().filter(|entry| entry.path_bytes().as_ref() == KEY_ENTRY.as_bytes()) {
            entry.take(4096).read_to_string(&mut key).map_err(broken)?;
        } else {
            return Err(Error::invalid("this is no exported engine: its key is missing"));
        }
        if key != self.key.as_str() {
            let wanted = self.key.as_str();
            return Err(Error::invalid(format!("this engine is for {key}, and {wanted} is needed: build it here")));
        }
        // Complete before the first is moved to its place.
        let incoming = self.path.join(".incoming");
        let outcome = self.unpack(entries, &incoming);
        let _ = fs::remove_dir_all(&incoming);
        outcome
    }

    fn unpack<R: Read>(&self, entries: tar::Entries<'_, R>, incoming: &Path) -> Result<()> {
        let failed = |error: io::Error| unusable(&self.path, error);
        let _ = fs::remove_dir_all(incoming);
        fs::create_dir(incoming).map_err(failed)?;
        let mut names = Vec::new();
        for entry in entries {
            let mut entry = entry.map_err(failed)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if !entry.header().entry_type().is_file() || name.contains('/') || name.starts_with('.') {
                return Err(Error::invalid(format!("{name:?} does not belong into the archive of an engine")));
            }
            let mut file = File::create_new(incoming.join(&name)).map_err(failed)?;
            io::copy(&mut entry, &mut file).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            names.push(name);
        }
        for name in names {
            fs::rename(incoming.join(&name), self.path.join(&name)).map_err(failed)?;
        }
        Ok(())
    }
}

fn unusable(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("the engine cache {} cannot be written", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sha256: &str, options: &TensorRtOptions) -> EngineKey {
        let gpu = NvidiaGpu { name: "Orin (nvgpu)".into(), compute_capability: Some((8, 7)), ..NvidiaGpu::default() };
        let versions = Versions { tensorrt: "10.3.0".into(), cuda: "12.6".into(), onnxruntime: "1.31.1".into() };
        EngineKey::new(sha256, &gpu, &versions, options).unwrap()
    }

    #[test]
    fn all_that_an_engine_depends_on_is_in_its_key() {
        let plain = key("ab12", &TensorRtOptions::default());
        let (head, hash) = plain.as_str().rsplit_once('/').unwrap();
        assert_eq!(head, "ab12/Orin__nvgpu_-sm87/trt10.3.0-cuda12.6/ort1.31.1");
        assert_eq!(hash.len(), 16);
        let half = key("ab12", &TensorRtOptions { fp16: true, ..TensorRtOptions::default() });
        assert_ne!(plain, half);
        // Where it lies changes nothing in it.
        let elsewhere = TensorRtOptions { engine_cache: Some("x".into()), ..TensorRtOptions::default() };
        assert_eq!(plain, key("ab12", &elsewhere));
        let nobody = Versions { tensorrt: "../..".into(), cuda: String::new(), onnxruntime: "a/b".into() };
        let gpu = NvidiaGpu { compute_capability: Some((8, 7)), ..NvidiaGpu::default() };
        let odd = EngineKey::new("..", &gpu, &nobody, &TensorRtOptions::default()).unwrap();
        assert!(odd.as_str().starts_with("unknown/unknown-sm87/trt_..-cudaunknown/orta_b/"), "{}", odd.as_str());
        assert_eq!(EngineKey::new("a", &NvidiaGpu::default(), &nobody, &TensorRtOptions::default()), None);
    }

    #[test]
    fn a_folder_has_one_writer() {
        let (cache, key) = (tempfile::tempdir().unwrap(), key("ab", &TensorRtOptions::default()));
        let first = EngineFolder::open(cache.path(), &key).unwrap();
        assert!(EngineFolder::try_open(cache.path(), &key).unwrap().is_none());
        assert!(!first.holds_an_engine());
        drop(first);
        assert!(EngineFolder::try_open(cache.path(), &key).unwrap().is_some());
        let file = cache.path().join("file");
        fs::write(&file, "").unwrap();
        let error = EngineFolder::open(&file, &key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }

    #[test]
    fn engines_travel_to_their_own_key_only() {
        let (cache, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key_ = key("ab", &TensorRtOptions::default());
        let folder = EngineFolder::open(cache.path(), &key_).unwrap();
        fs::write(folder.path().join("graph_sm87.engine"), "engine").unwrap();
        fs::write(folder.path().join("graph_sm87.profile"), "profile").unwrap();
        let mut archive = Vec::new();
        folder.export(&mut archive).unwrap();

        let target = EngineFolder::open(other.path(), &key_).unwrap();
        target.import(&archive[..]).unwrap();
        assert!(target.holds_an_engine());
        assert_eq!(fs::read_to_string(target.path().join("graph_sm87.profile")).unwrap(), "profile");

        let wrong = key("cd", &TensorRtOptions::default());
        let refusing = EngineFolder::open(other.path(), &wrong).unwrap();
        let error = refusing.import(&archive[..]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("this engine is for {}, and {} is needed: build it here", key_.as_str(), wrong.as_str())
        );
        assert!(!refusing.holds_an_engine());
    }

    #[test]
    fn archives_of_other_things_are_refused() {
        let cache = tempfile::tempdir().unwrap();
        let key = key("ab", &TensorRtOptions::default());
        let folder = EngineFolder::open(cache.path(), &key).unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        let append = |archive: &mut tar::Builder<Vec<u8>>, name: &str, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        };
        append(&mut archive, "other", "x");
        let error = folder.import(&archive.into_inner().unwrap()[..]).unwrap_err().to_string();
        assert_eq!(error, "this is no exported engine: its key is missing");
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, KEY_ENTRY, key.as_str());
        append(&mut archive, "sub/evil.engine", "x");
        let error = folder.import(&archive.into_inner().unwrap()[..]).unwrap_err().to_string();
        assert_eq!(error, "\"sub/evil.engine\" does not belong into the archive of an engine");
        assert!(!folder.holds_an_engine());
    }
}
