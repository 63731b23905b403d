//! From a path on the command line to a workload: a `.wasm`, an `.onnx`, a folder with a component and models, or a
//! repository of models.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::contents::{entries, extension, models, repository, stem};

/// What a path holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// From the file's or folder's own name.
    pub name: String,
    pub component: Option<PathBuf>,
    pub models: BTreeMap<String, PathBuf>,
}

/// What `folder` holds that is a target, in the order of the names: folders, components and models. There may be
/// nothing yet; files beside them, such as a README, are left alone.
pub fn services(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_target = |path: &PathBuf| path.is_dir() || matches!(extension(path), Some("wasm" | "onnx"));
    Ok(entries(folder)?.into_iter().filter(is_target).collect())
}

impl Target {
    /// Look at `path`. Files are found by their names only; whether they are what they claim shows when they
    /// are loaded.
    pub fn read(path: &Path) -> Result<Target> {
        let metadata = fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::new(
                ErrorKind::NotFound,
                format!(
                    "no such file or folder: {}; a target is a .wasm, an .onnx, a folder with them or with a \
                     Dockerfile, a compose file (.yml, .yaml) or an image's name",
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
            _ => Err(Error::invalid(format!(
                "{} is neither a component (.wasm) nor a model (.onnx), nor a compose file (.yml, .yaml)",
                path.display()
            ))),
        }
    }

    fn read_folder(folder: &Path) -> Result<Target> {
        // `.` and `..` have no name of their own.
        let absolute = fs::canonicalize(folder).map_err(|error| {
            Error::new(ErrorKind::Io, format!("cannot read folder {}", folder.display())).because(error)
        })?;
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
        let mut models = models(&folder.join("models"))?;
        // A folder that is to be built may well have a model lying beside its Dockerfile.
        if component.is_none() && models.is_empty() && !folder.join("Dockerfile").is_file() {
            models = repository(folder, &name)?;
        }
        if component.is_none() && models.is_empty() {
            let hint = match folder.join("Cargo.toml").is_file() {
                true => "; it is a Cargo package: build it first and serve its folder of results".to_owned(),
                false => compose_hint(folder),
            };
            return Err(Error::invalid(format!(
                "{} holds no component (*.wasm), no model (models/*.onnx, *.onnx, NAME/VERSION/model.onnx) and no \
                 Dockerfile{hint}",
                folder.display()
            )));
        }
        Ok(Target { name, component, models })
    }
}

fn compose_hint(folder: &Path) -> String {
    let names = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
    let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.map_or_else(String::new, |path| format!("; for its compose file, name that: {}", path.display()))
}
