//! From a path on the command line to a workload: a `.wasm`, an `.onnx`, or a folder with a component and models.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// What a path holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// From the file's or folder's own name.
    pub name: String,
    pub component: Option<PathBuf>,
    pub models: BTreeMap<String, PathBuf>,
}

impl Target {
    /// Look at `path`. Files are found by their names only; whether they are what they claim shows when they
    /// are loaded.
    pub fn read(path: &Path) -> Result<Target> {
        let metadata = fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::new(
                ErrorKind::NotFound,
                format!(
                    "no such file or folder: {}; a target is a .wasm, an .onnx or a folder with them",
                    path.display()
                ),
            ),
            _ => Error::new(ErrorKind::Io, format!("cannot look at {}", path.display())).because(error),
        })?;
        if metadata.is_dir() {
            return Target::read_folder(path);
        }
        let name = stem(path);
        match extension(path) {
            Some("wasm") => Ok(Target { name, component: Some(path.to_owned()), models: BTreeMap::new() }),
            Some("onnx") => {
                Ok(Target { name: name.clone(), component: None, models: BTreeMap::from([(name, path.to_owned())]) })
            }
            _ => Err(Error::invalid(format!("{} is neither a component (.wasm) nor a model (.onnx)", path.display()))),
        }
    }

    fn read_folder(folder: &Path) -> Result<Target> {
        // `.` and `..` have no name of their own.
        let absolute = fs::canonicalize(folder).map_err(|error| unreadable(folder, error))?;
        let name = stem(&absolute);
        let components: Vec<PathBuf> =
            entries(folder)?.into_iter().filter(|path| extension(path) == Some("wasm")).collect();
        let own = components.iter().find(|path| stem(path) == name);
        let component = match (own, components.as_slice()) {
            (Some(own), _) => Some(own.clone()),
            (None, []) => None,
            (None, [only]) => Some(only.clone()),
            (None, several) => {
                let names: Vec<_> = several.iter().map(|path| stem(path) + ".wasm").collect();
                return Err(Error::invalid(format!(
                    "{} holds {} components ({}) and none is called {name}.wasm: name the file itself",
                    folder.display(),
                    several.len(),
                    names.join(", ")
                )));
            }
        };
        let models = match folder.join("models") {
            models if models.is_dir() => read_models(&models)?,
            _ => BTreeMap::new(),
        };
        if component.is_none() && models.is_empty() {
            let hint = match folder.join("Cargo.toml").is_file() {
                true => "; it is a Cargo package: build it first and serve its folder of results",
                false => "",
            };
            return Err(Error::invalid(format!(
                "{} holds no component (*.wasm) and no model (models/*.onnx){hint}",
                folder.display()
            )));
        }
        Ok(Target { name, component, models })
    }
}

/// `NAME.onnx`, or the Triton layout `NAME/VERSION/model.onnx`, of which the highest version is taken.
pub fn read_models(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut models = BTreeMap::new();
    for path in entries(folder)? {
        if extension(&path) == Some("onnx") {
            models.insert(stem(&path), path);
        } else if path.is_dir()
            && let Some(model) = highest_version(&path)?
        {
            models.insert(stem(&path), model);
        }
    }
    Ok(models)
}

fn highest_version(folder: &Path) -> Result<Option<PathBuf>> {
    let versions = entries(folder)?.into_iter().filter_map(|path| {
        let version: u64 = path.file_name()?.to_str()?.parse().ok()?;
        let model = path.join("model.onnx");
        model.is_file().then_some((version, model))
    });
    Ok(versions.max_by_key(|(version, _)| *version).map(|(_, model)| model))
}

/// The entries of a folder, sorted, hidden ones left out.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        paths.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
        paths.sort();
        Ok(paths)
    };
    read().map_err(|error| unreadable(folder, error))
}

fn unreadable(folder: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read folder {}", folder.display())).because(error)
}

fn extension(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
