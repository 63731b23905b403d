//! The cache of TensorRT's engines, under a key of our own: ONNX Runtime's names the graph but not the weights, so that
//! a retrained model would get the old engine. A key is a folder; what readers see in it was complete before it got its
//! name. Carrying engines elsewhere is [`super::engine_archive`]'s, when to build them [`super::engines`]'.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::machine::NvidiaGpu;
use super::options::TensorRtOptions;
use crate::error::{Error, ErrorKind, Result};

/// The folder in the cache that is TensorRT's.
const FOLDER: &str = "tensorrt";
const LOCK: &str = ".lock";
/// In a key's folder: the engine, with what ONNX Runtime keeps beside it.
const ENGINE: &str = "engine";
/// In a key's folder: what is not an engine yet. Whoever holds the lock may remove it.
const UNFINISHED: &str = ".unfinished";
/// In a key's folder: what was an engine. The same holds.
const DISCARDED: &str = ".discarded";
/// In TensorRT's folder: measured kernel timings, by GPU and TensorRT.
const TIMINGS: &str = "timings";

/// Everything an engine depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EngineKey {
    text: String,
    /// The hash of the archive it came in with an image.
    archive: Option<String>,
}

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
        let text = format!(
            "{}/{}-sm{major}{minor}/trt{}-cuda{}/ort{}/{options}",
            plain(sha256),
            plain(&gpu.name),
            plain(&versions.tensorrt),
            plain(&versions.cuda),
            plain(&versions.onnxruntime)
        );
        Some(EngineKey { text, archive: None })
    }

    /// A key as an archive has it. `None` for a text that is no key.
    pub fn parse(text: &str) -> Option<EngineKey> {
        let parts: Vec<&str> = text.split('/').collect();
        let sound = parts.len() == 5 && parts.iter().all(|part| plain(part) == **part);
        sound.then(|| EngineKey { text: text.to_owned(), archive: None })
    }

    /// The same for an engine that an image brought: only who brings the same archive gets it, so that no image can
    /// slip another one's models an engine.
    #[must_use]
    pub fn of_archive(&self, sha256: &str) -> EngineKey {
        EngineKey { archive: Some(plain(sha256)), ..self.clone() }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is for these weights: see [`Source::weights`](super::load::Source::weights).
    pub fn is_for(&self, weights: &str) -> bool {
        self.text.split('/').next() == Some(&plain(weights))
    }

    fn folder(&self, cache: &Path) -> PathBuf {
        let folder = cache.join(FOLDER).join(&self.text);
        match &self.archive {
            Some(sha256) => folder.join(format!("of-{sha256}")),
            None => folder,
        }
    }
}

/// One safe part of a path.
fn plain(text: &str) -> String {
    let part: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect();
    let part = part.trim_start_matches('.');
    if part.is_empty() { "unknown".into() } else { part.to_owned() }
}

/// The engine's folder, for readers: it has its name only when it is complete. `None` where there is no engine.
pub fn find(cache: &Path, key: &EngineKey) -> Option<PathBuf> {
    complete(&key.folder(cache))
}

fn complete(folder: &Path) -> Option<PathBuf> {
    let engine = folder.join(ENGINE);
    let is_engine = |path: PathBuf| path.extension().is_some_and(|end| end == "engine");
    let found = fs::read_dir(&engine).ok()?.flatten().any(|entry| is_engine(entry.path()));
    found.then_some(engine)
}

/// An engine in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub key: EngineKey,
    /// Of all its files.
    pub bytes: u64,
}

/// All that were built here or imported, by key; those that images brought are theirs.
pub fn list(cache: &Path) -> Vec<Kept> {
    let mut found = vec![(cache.join(FOLDER), String::new())];
    for _ in 0..5 {
        let below = found.iter().flat_map(|(folder, text)| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(move |entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                (entry.path(), if text.is_empty() { name } else { format!("{text}/{name}") })
            })
        });
        found = below.collect();
    }
    let kept = |(folder, text): (PathBuf, String)| {
        let (key, engine) = (EngineKey::parse(&text)?, complete(&folder)?);
        let files = fs::read_dir(engine).into_iter().flatten().flatten();
        let bytes = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
        Some(Kept { key, bytes })
    };
    let mut kept: Vec<Kept> = found.into_iter().filter_map(kept).collect();
    kept.sort_by(|a, b| a.key.text.cmp(&b.key.text));
    kept
}

/// The folder of one key, for one writer at a time. The lock goes with the value, or with the process.
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
        let path = key.folder(cache);
        let lock = locked(&path)?;
        Ok(EngineFolder { path, key: key.clone(), _lock: lock })
    }

    pub fn key(&self) -> &EngineKey {
        &self.key
    }

    /// As [`find`].
    pub fn engine(&self) -> Option<PathBuf> {
        complete(&self.path)
    }

    /// An empty folder to build or unpack in. What a process that was killed left there is gone.
    pub fn begin(&self) -> Result<Unfinished> {
        let path = self.path.join(UNFINISHED);
        remove(&path).and_then(|()| fs::create_dir(&path)).map_err(|error| unusable(&path, error))?;
        Ok(Unfinished { path })
    }

    /// What was begun is the engine now, in place of one that was there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`] where there is no engine in it: TensorRT took none of the model's nodes.
    pub fn publish(&self, unfinished: Unfinished) -> Result<PathBuf> {
        let failed = |error| unusable(&self.path, error);
        let files = files(&unfinished.path).map_err(failed)?;
        if !files.iter().any(|path| path.extension().is_some_and(|end| end == "engine")) {
            return Err(Error::new(ErrorKind::Failed, "TensorRT takes none of the model's nodes"));
        }
        // The folder, too: after a loss of power all of its files are there, or it has not got its name.
        for path in files.iter().chain([&unfinished.path]) {
            File::open(path).and_then(|file| file.sync_all()).map_err(failed)?;
        }
        self.discard()?;
        let engine = self.path.join(ENGINE);
        fs::rename(&unfinished.path, &engine).map_err(failed)?;
        Ok(engine)
    }

    /// Remove the engine: it was found spoilt, or a newer one takes its place. It loses its name first, so that nobody
    /// finds half of it.
    pub fn discard(&self) -> Result<()> {
        let discarded = self.path.join(DISCARDED);
        let renamed = remove(&discarded).and_then(|()| fs::rename(self.path.join(ENGINE), &discarded));
        match renamed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.and_then(|()| remove(&discarded)).map_err(|error| unusable(&self.path, error)),
        }
    }
}

/// Where an engine is made. Removed with the value, unless it was published.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The timings of one GPU and TensorRT, for one builder at a time: of all processes, so that two do not measure each
/// other's load. They are written where the engine is, and kept when it is published: a killed build spoils none.
#[derive(Debug)]
pub struct Timings {
    path: PathBuf,
    _lock: File,
}

impl Timings {
    /// Waits while another builds for this kind of GPU.
    pub fn open(cache: &Path, gpu: &NvidiaGpu, versions: &Versions) -> Result<Timings> {
        let name = format!("{}-{}-trt{}", gpu.index, plain(&gpu.name), plain(&versions.tensorrt));
        let path = cache.join(FOLDER).join(TIMINGS).join(name);
        let lock = locked(&path)?;
        Ok(Timings { path, _lock: lock })
    }

    /// A copy of what was measured so far, in a new folder inside `unfinished`.
    pub fn lend(&self, unfinished: &Unfinished) -> Result<PathBuf> {
        let lent = unfinished.path.join(".timings");
        fs::create_dir(&lent).and_then(|()| copy(&self.path, &lent)).map_err(|error| unusable(&lent, error))?;
        Ok(lent)
    }

    /// Keep what is in the lent folder now, and take it out of the way.
    pub fn keep(&self, lent: &Path) -> Result<()> {
        let failed = |error| unusable(&self.path, error);
        for path in files(lent).map_err(failed)? {
            if let Some(name) = path.file_name() {
                fs::rename(&path, self.path.join(name)).map_err(failed)?;
            }
        }
        fs::remove_dir_all(lent).map_err(failed)
    }
}

/// The lock in a folder, which is made. Waits while somebody else has it.
fn locked(path: &Path) -> Result<File> {
    let failed = |error| unusable(path, error);
    fs::create_dir_all(path).map_err(failed)?;
    let lock = File::options().create(true).append(true).open(path.join(LOCK)).map_err(failed)?;
    lock.lock().map_err(failed)?;
    Ok(lock)
}

/// A folder with all that is in it, if it is there.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The plain files in a folder that are not hidden, sorted.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && !entry.file_name().to_string_lossy().starts_with('.') {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for path in files(from)? {
        if let Some(name) = path.file_name() {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

pub(super) fn unusable(path: &Path, error: io::Error) -> Error {
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
    fn keys_are_read_back_and_nothing_else_is() {
        let key = key("ab12", &TensorRtOptions::default());
        assert_eq!(EngineKey::parse(key.as_str()), Some(key));
        for text in ["", "a/b/c/d", "a/b/c/d/../e", "a/b/../d/e", "/a/b/c/d", "a/b/c/d/.e"] {
            assert_eq!(EngineKey::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_folder_has_one_writer() {
        let (cache, key) = (tempfile::tempdir().unwrap(), key("ab", &TensorRtOptions::default()));
        let first = EngineFolder::open(cache.path(), &key).unwrap();
        let another = File::open(first.path.join(LOCK)).unwrap();
        assert!(another.try_lock().is_err());
        drop(first);
        another.try_lock().unwrap();
        // An engine that an image brought is another's.
        EngineFolder::open(cache.path(), &key.of_archive("cd")).unwrap();
        let file = cache.path().join("file");
        fs::write(&file, "").unwrap();
        let error = EngineFolder::open(&file, &key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }

    #[test]
    fn an_engine_is_seen_when_it_is_complete() {
        let (cache, key) = (tempfile::tempdir().unwrap(), key("ab", &TensorRtOptions::default()));
        assert_eq!(find(cache.path(), &key), None);
        let folder = EngineFolder::open(cache.path(), &key).unwrap();
        let killed = folder.begin().unwrap();
        fs::write(killed.path().join("half.engine"), "half").unwrap();
        assert_eq!((find(cache.path(), &key), list(cache.path())), (None, vec![]));
        std::mem::forget(killed);

        let whole = folder.begin().unwrap();
        assert_eq!(files(whole.path()).unwrap(), [] as [PathBuf; 0], "nothing is left of the build that was killed");
        fs::write(whole.path().join("whole.engine"), "whole").unwrap();
        let engine = folder.publish(whole).unwrap();
        assert_eq!(find(cache.path(), &key), Some(engine.clone()));
        assert_eq!(list(cache.path()), [Kept { key: key.clone(), bytes: 5 }]);
        assert_eq!(find(cache.path(), &key.of_archive("cd")), None);

        // A newer one takes its place as a whole.
        let newer = folder.begin().unwrap();
        fs::write(newer.path().join("newer.engine"), "newer").unwrap();
        folder.publish(newer).unwrap();
        assert_eq!(files(&engine).unwrap(), [engine.join("newer.engine")]);
        // What one left that was killed while it discarded is in nobody's way.
        fs::create_dir_all(folder.path.join(DISCARDED).join("half")).unwrap();
        folder.discard().unwrap();
        assert_eq!((folder.engine(), folder.path.join(DISCARDED).exists()), (None, false));
        folder.discard().unwrap();
    }

    #[test]
    fn a_build_that_makes_no_engine_leaves_nothing() {
        let (cache, key) = (tempfile::tempdir().unwrap(), key("ab", &TensorRtOptions::default()));
        let folder = EngineFolder::open(cache.path(), &key).unwrap();
        let nothing = folder.begin().unwrap();
        let path = nothing.path().to_owned();
        let error = folder.publish(nothing).unwrap_err();
        assert_eq!(error.to_string(), "TensorRT takes none of the model's nodes");
        assert!(!path.exists() && folder.engine().is_none());
    }

    #[test]
    fn timings_are_kept_from_one_build_to_the_next() {
        let (cache, key) = (tempfile::tempdir().unwrap(), key("ab", &TensorRtOptions::default()));
        let versions = Versions { tensorrt: "10.3.0".into(), cuda: "12.6".into(), onnxruntime: "1.31.1".into() };
        let timings = Timings::open(cache.path(), &NvidiaGpu::default(), &versions).unwrap();
        let folder = EngineFolder::open(cache.path(), &key).unwrap();
        for before in [&[][..], b"first"] {
            let unfinished = folder.begin().unwrap();
            let lent = timings.lend(&unfinished).unwrap();
            let file = lent.join("sm87.timing");
            assert_eq!(fs::read(&file).unwrap_or_default(), before);
            fs::write(&file, "first").unwrap();
            timings.keep(&lent).unwrap();
            assert!(!lent.exists());
        }
    }
}
