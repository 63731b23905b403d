//! Finds ONNX Runtime's shared library. It is looked for at run time and never linked, so that one host
//! binary serves the plain CPU build, the CUDA build and whatever a Jetson image brings.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The version the project is tested with, and the command that fetches it.
const FETCH: &str = "fetch it with `cargo xtask onnxruntime`, or with `pip download --no-deps onnxruntime==1.31.1` and \
                     unzip onnxruntime/capi/libonnxruntime.so.* from the wheel; then name it in ORT_DYLIB_PATH";

const FILE_STEM: &str = "libonnxruntime.so";

/// The places to look at, in this order. Read from the environment and the command line by the caller.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// From the command line or the configuration: if set, nothing else is tried.
    pub explicit: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`: if set (and `explicit` is not), nothing else is tried.
    pub ort_dylib_path: Option<PathBuf>,
    /// The host's own executable: its folder and `../lib` are searched.
    pub executable: Option<PathBuf>,
    /// `$WHARF_DATA`: its `lib` is searched.
    pub data: Option<PathBuf>,
}

/// The library that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    pub path: PathBuf,
    /// E.g. `1.31.1`, or ONNX Runtime's build description where the file does not tell its version.
    pub version: String,
}

/// One place, and what is there.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    described: String,
    /// What to hand to the loader, best first.
    files: Vec<PathBuf>,
}

impl Search {
    fn places(&self) -> Vec<Place> {
        if let Some(path) = &self.explicit {
            return vec![Place::named("the given path", path)];
        }
        if let Some(path) = &self.ort_dylib_path {
            return vec![Place::named("ORT_DYLIB_PATH", path)];
        }
        let mut places = Vec::new();
        if let Some(folder) = self.executable.as_deref().and_then(Path::parent) {
            places.push(Place::folder(folder));
            places.push(Place::folder(&folder.join("../lib")));
        }
        if let Some(data) = &self.data {
            places.push(Place::folder(&data.join("lib")));
        }
        places.push(Place {
            described: "the system's library path".into(),
            files: vec![format!("{FILE_STEM}.1").into(), FILE_STEM.into()],
        });
        places
    }

    /// Hand the candidates to `open`, best first, until one opens. The error lists every place, what was
    /// found there and why it did not serve.
    pub fn open<T>(&self, mut open: impl FnMut(&Path) -> Result<T, String>) -> Result<(T, PathBuf)> {
        let mut seen = String::new();
        for place in self.places() {
            let mut found = Vec::new();
            for file in &place.files {
                match open(file) {
                    Ok(opened) => return Ok((opened, file.clone())),
                    Err(reason) => found.push(reason),
                }
            }
            let found = if found.is_empty() { "nothing there".into() } else { found.join("; ") };
            let _ = write!(seen, "\n  - {}: {found}", place.described);
        }
        Err(Error::new(
            ErrorKind::Unmet,
            format!(
                "ONNX Runtime's library ({FILE_STEM}, 1.{} or newer) was not found:{seen}\n{FETCH}",
                ort::MINOR_VERSION
            ),
        ))
    }
}

impl Place {
    /// A path somebody named: a file, or a folder with the library in it.
    fn named(who: &str, path: &Path) -> Place {
        let described = format!("{who} ({})", path.display());
        let files = if path.is_dir() { libraries_in(path) } else { vec![path.to_path_buf()] };
        Place { described, files }
    }

    fn folder(path: &Path) -> Place {
        Place { described: path.display().to_string(), files: libraries_in(path) }
    }
}

/// `libonnxruntime.so` and its versioned names in a folder, highest version first. The wheels hold only the
/// fully versioned name; distributions add links.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let rest = name.to_str()?.strip_prefix(FILE_STEM)?;
            Some((parse_version(rest)?, entry.path()))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// `.1.31.1` to its numbers; the empty string is the unversioned name.
fn parse_version(suffix: &str) -> Option<Vec<u32>> {
    if suffix.is_empty() {
        return Some(Vec::new());
    }
    suffix.strip_prefix('.')?.split('.').map(|part| part.parse().ok()).collect()
}

/// Why ONNX Runtime's binding did not take a file, in a few words with the file's name.
pub fn refusal(error: ort::LoadDynamicError) -> String {
    match error {
        // The system's loader names the file.
        ort::LoadDynamicError::Dlopen { error, .. } => error.to_string(),
        ort::LoadDynamicError::MissingApi { path } => format!("{} is no ONNX Runtime library", path.display()),
        ort::LoadDynamicError::BadVersion { version_str, path } => {
            format!(
                "{} is too old: it is version {version_str}, 1.{} or newer is needed",
                path.display(),
                ort::MINOR_VERSION
            )
        }
        other => other.to_string(),
    }
}

/// The path and version of what `opened` (a path, or a bare name the system resolved) turned out to be.
pub fn identify(opened: &Path) -> Library {
    let path = fs::canonicalize(opened).ok().or_else(mapped_library).unwrap_or_else(|| opened.to_path_buf());
    let version =
        version_in_name(&path).or_else(|| version_in_symbols(&path)).unwrap_or_else(|| ort::info().to_string());
    Library { path, version }
}

/// Where the system's loader found a library it was asked for by bare name.
fn mapped_library() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.contains(FILE_STEM))?;
    line.find('/').and_then(|start| line.get(start..)).map(PathBuf::from)
}

fn version_in_name(path: &Path) -> Option<String> {
    let version = path.file_name()?.to_str()?.strip_prefix(FILE_STEM)?.strip_prefix('.')?;
    // `.so.1` names the ABI, not the release.
    (parse_version(&format!(".{version}"))?.len() > 1).then(|| version.to_string())
}

/// ONNX Runtime exports its symbols under the version node `VERS_<release>`.
fn version_in_symbols(path: &Path) -> Option<String> {
    const NODE: &[u8] = b"VERS_";
    let bytes = fs::read(path).ok()?;
    let at = bytes.windows(NODE.len()).position(|window| window == NODE)?;
    let version: String = bytes
        .get(at + NODE.len()..)?
        .iter()
        .map(|byte| char::from(*byte))
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    (!version.is_empty()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, files: &[&str]) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wharf-library-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for file in files {
            fs::write(folder.join(file), "").unwrap();
        }
        folder
    }

    #[test]
    fn the_highest_version_is_tried_first() {
        let folder = folder(
            "highest",
            &["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1", "libonnxruntime.so", "libonnxruntime.so.bak"],
        );
        let names: Vec<_> = libraries_in(&folder).iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["libonnxruntime.so.1.31.1", "libonnxruntime.so.1.9.0", "libonnxruntime.so"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_places_are_tried_in_order() {
        let root = folder("order", &[]);
        for sub in ["bin", "lib", "data/lib"] {
            fs::create_dir_all(root.join(sub)).unwrap();
            fs::write(root.join(sub).join("libonnxruntime.so.1.31.1"), "").unwrap();
        }
        let search =
            Search { executable: Some(root.join("bin/wharf")), data: Some(root.join("data")), ..Search::default() };
        let mut tried = Vec::new();
        let error = search
            .open(|path| {
                tried.push(path.strip_prefix(&root).unwrap_or(path).to_path_buf());
                Err::<(), _>("no".into())
            })
            .unwrap_err();
        let expected = [
            "bin/libonnxruntime.so.1.31.1",
            "bin/../lib/libonnxruntime.so.1.31.1",
            "data/lib/libonnxruntime.so.1.31.1",
            "libonnxruntime.so.1",
            "libonnxruntime.so",
        ];
        assert_eq!(tried, expected.map(PathBuf::from));
        assert_eq!(error.kind(), ErrorKind::Unmet);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_named_path_is_the_only_one_tried() {
        let search = Search {
            explicit: Some("/nowhere/libonnxruntime.so".into()),
            executable: Some("/usr/bin/wharf".into()),
            ..Search::default()
        };
        let error = search.open(|path| Err::<(), _>(format!("{}: no such file", path.display()))).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("the given path (/nowhere/libonnxruntime.so): /nowhere/libonnxruntime.so: no such file"));
        assert!(!text.contains("/usr/bin"), "{text}");
        assert!(text.contains("cargo xtask onnxruntime"), "{text}");
    }

    #[test]
    fn versions_are_read_from_names() {
        assert_eq!(version_in_name(Path::new("/a/libonnxruntime.so.1.31.1")).as_deref(), Some("1.31.1"));
        assert_eq!(version_in_name(Path::new("/a/libonnxruntime.so.1")), None);
        assert_eq!(version_in_name(Path::new("/a/libonnxruntime.so")), None);
    }
}
