//! TensorRT engines of a host's cache, to be listed and carried to another machine. Works on the files of a data folder,
//! whether or not a host runs on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::model::engine_archive::{self, ENDING};
use crate::model::engine_cache::{self, EngineFolder, EngineKey, Kept};
use crate::model::load::Source;

/// Where the cache is in a data folder.
const CACHE: &str = "cache";

/// All engines of this data folder, by key.
pub fn list(data: &Path) -> Vec<Kept> {
    engine_cache::list(&data.join(CACHE))
}

/// Write the engine that `wanted` means to `output`; by default to `NAME.engine` in the current folder. `wanted` is a
/// model's file, or the start of a key.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] where there is none, [`ErrorKind::Conflict`] where `wanted` means several.
pub fn export(data: &Path, wanted: &str, output: Option<&Path>) -> Result<(PathBuf, EngineKey)> {
    let key = find(data, wanted)?;
    let folder = engine_cache::find(&data.join(CACHE), &key).ok_or_else(|| none(data, wanted))?;
    let stem = Path::new(wanted).file_stem().unwrap_or_default().to_string_lossy();
    let usual = if is_model(wanted) { &*stem } else { key.as_str().get(..12).unwrap_or("model") };
    let output = output.map_or_else(|| PathBuf::from(format!("{usual}.{ENDING}")), Path::to_owned);
    let mut unfinished = output.clone().into_os_string();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let cannot = |error| Error::new(ErrorKind::Io, format!("cannot write {}", output.display())).because(error);
    let file = File::create(&unfinished).map_err(cannot)?;
    let written = engine_archive::export(&key, &folder, file);
    let written = written.and_then(|()| fs::rename(&unfinished, &output).map_err(cannot));
    if let Err(error) = written {
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    Ok((output, key))
}

/// Take an exported engine in. It serves when a model of its key is loaded: on another GPU, or with other libraries, that
/// is never.
pub fn import(data: &Path, path: &Path) -> Result<EngineKey> {
    let cannot = |error| Error::new(ErrorKind::Io, format!("cannot read {}", path.display())).because(error);
    let refused = |error: Error| Error::new(error.kind(), format!("{}", path.display())).because(error.chain());
    let key = engine_archive::key_of(File::open(path).map_err(cannot)?).map_err(refused)?;
    let folder = EngineFolder::open(&data.join(CACHE), &key)?;
    engine_archive::import(&folder, File::open(path).map_err(cannot)?).map_err(refused)?;
    Ok(key)
}

/// Rather than the start of a key.
fn is_model(wanted: &str) -> bool {
    wanted.ends_with(".onnx") || Path::new(wanted).is_file()
}

fn find(data: &Path, wanted: &str) -> Result<EngineKey> {
    let start = match is_model(wanted) {
        true => format!("{}/", Source::read(wanted, Path::new(wanted))?.weights()?),
        false => wanted.to_owned(),
    };
    let mut found: Vec<EngineKey> =
        list(data).into_iter().map(|kept| kept.key).filter(|key| key.as_str().starts_with(&start)).collect();
    match found.len() {
        0 => Err(none(data, wanted)),
        1 => Ok(found.remove(0)),
        several => {
            let keys: Vec<&str> = found.iter().map(EngineKey::as_str).collect();
            let message =
                format!("{several} engines are meant by {wanted:?}; write more of one of: {}", keys.join(", "));
            Err(Error::new(ErrorKind::Conflict, message))
        }
    }
}

fn none(data: &Path, wanted: &str) -> Error {
    let message = format!(
        "no engine of {wanted:?} in {}: an engine is there when a host has served the model with --device tensorrt and \
         says \"engine ready\"",
        data.display()
    );
    Error::new(ErrorKind::NotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(data: &Path, key: &str) {
        let key = EngineKey::parse(key).unwrap();
        let folder = EngineFolder::open(&data.join(CACHE), &key).unwrap();
        let unfinished = folder.begin().unwrap();
        fs::write(unfinished.path().join("graph.engine"), key.as_str()).unwrap();
        folder.publish(unfinished).unwrap();
    }

    #[test]
    fn engines_are_carried_from_one_host_to_another() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = from.path().join("digits.onnx");
        fs::write(&model, "weights").unwrap();
        let sha256 = Source::read("digits", &model).unwrap().sha256;
        let key = |options: &str| format!("{sha256}/Orin-sm87/trt10.3.0-cuda12.6/ort1.31.1/{options}");
        keep(from.path(), &key("aa"));
        let (file, wanted) = (to.path().join("digits.engine"), model.to_str().unwrap());
        let (written, exported) = export(from.path(), wanted, Some(&file)).unwrap();
        assert_eq!((written, exported.as_str()), (file.clone(), &*key("aa")));
        assert_eq!(import(to.path(), &file).unwrap(), exported);
        assert_eq!(list(to.path()), list(from.path()));
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 2, "the archive and the cache: nothing half-written");

        keep(from.path(), &key("bb"));
        let error = export(from.path(), wanted, Some(&file)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(&key("bb")), "{error}");
        assert_eq!(find(from.path(), &key("b")).unwrap().as_str(), key("bb"));
        let error = export(to.path(), "ffff", None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
