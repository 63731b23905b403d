//! What an image's files hold, as far as running them goes: the component or tool its first word names, and its models.
//!
//! Files are found by name here and read by whoever loads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Where commands without a slash are looked for, as in a shell.
const PATH: [&str; 4] = ["/", "/bin", "/usr/bin", "/usr/local/bin"];

/// The file in `root` that `command` names: an absolute path, one relative to `working_dir`, or a name to be
/// found in the usual folders. `component.wasm` may be written without its ending.
///
/// The error's text is what `docker run` turns into exit code 127.
pub fn program(root: &Path, working_dir: &str, command: &str) -> Result<PathBuf> {
    let candidates: Vec<PathBuf> = if command.starts_with('/') {
        vec![PathBuf::from(command)]
    } else {
        let own = Path::new(working_dir).join(command);
        let found = PATH.iter().map(|folder| Path::new(folder).join(command));
        std::iter::once(own).chain(found.filter(|_| !command.contains('/'))).collect()
    };
    for candidate in &candidates {
        let inside = within(root, candidate);
        let with_ending = inside.with_extension("wasm");
        for file in [inside, with_ending] {
            if let Some(file) = file_inside(root, &file) {
                return Ok(file);
            }
        }
    }
    let message = match command.contains('/') {
        true => format!("exec: {command:?}: stat {command}: no such file or directory"),
        false => format!("exec: {command:?}: executable file not found in $PATH"),
    };
    Err(Error::new(ErrorKind::NotFound, message))
}

/// The file that `path` leads to, links followed, if it lies in `root`.
fn file_inside(root: &Path, path: &Path) -> Option<PathBuf> {
    let (root, file) = (fs::canonicalize(root).ok()?, fs::canonicalize(path).ok()?);
    (file.starts_with(root) && file.is_file()).then_some(file)
}

/// `path` as the container sees it → below `root`; `..` cannot climb out.
pub fn within(root: &Path, path: &Path) -> PathBuf {
    let mut inside = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => {
                inside.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    inside.iter().fold(root.to_owned(), |path, name| path.join(name))
}

/// The models of a folder: `NAME.onnx`, the Triton layout `NAME/VERSION/model.onnx`, of which the highest version is
/// taken, or `NAME/model.onnx`. A folder that is not there holds none.
pub fn models(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut models = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(models);
    }
    for path in entries(folder)? {
        if extension(&path) == Some("onnx") {
            models.insert(stem(&path), path);
        } else if path.is_dir()
            && let Some(model) = versioned_or_not(&path)?
        {
            models.insert(stem(&path), model);
        }
    }
    Ok(models)
}

/// The models of a folder that is itself a repository, as Triton's `--model-repository` names one; or that is itself
/// one model, `VERSION/model.onnx`, then called `name`.
pub fn repository(folder: &Path, name: &str) -> Result<BTreeMap<String, PathBuf>> {
    match highest_version(folder)? {
        Some(model) => Ok(BTreeMap::from([(name.to_owned(), model)])),
        None => models(folder),
    }
}

fn versioned_or_not(folder: &Path) -> Result<Option<PathBuf>> {
    let file = folder.join("model.onnx");
    Ok(highest_version(folder)?.or_else(|| file.is_file().then_some(file)))
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
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        paths.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
        paths.sort();
        Ok(paths)
    };
    read().map_err(|error| Error::new(ErrorKind::Io, format!("cannot read folder {}", folder.display())).because(error))
}

pub fn extension(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

/// The file's name without its ending.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, files: &[&str]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("wharf-contents-{name}-{}", std::process::id()));
        for file in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        root
    }

    #[test]
    fn commands_are_found_as_a_shell_finds_them() {
        let root = image("program", &["app.wasm", "srv/tool.wasm", "bin/echo.wasm", "README"]);
        let found = |working_dir: &str, command: &str| {
            let file = program(&root, working_dir, command)?;
            let root = fs::canonicalize(&root).unwrap();
            Ok::<_, Error>(file.strip_prefix(&root).unwrap().display().to_string())
        };
        assert_eq!(found("/", "/app.wasm").unwrap(), "app.wasm");
        assert_eq!(found("/srv", "tool.wasm").unwrap(), "srv/tool.wasm");
        assert_eq!(found("/srv", "./tool.wasm").unwrap(), "srv/tool.wasm");
        assert_eq!(found("/srv", "../app.wasm").unwrap(), "app.wasm");
        assert_eq!(found("/srv", "echo").unwrap(), "bin/echo.wasm");
        assert_eq!(found("/", "../../app").unwrap(), "app.wasm");
        assert!(found("/", "/bin").unwrap_err().to_string().contains("no such file or directory"));
        let missing = found("/", "bash").unwrap_err().to_string();
        assert_eq!(missing, "exec: \"bash\": executable file not found in $PATH");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn links_are_no_way_out() {
        let root = image("links", &["app.wasm"]);
        std::os::unix::fs::symlink("/etc/hostname", root.join("leak.wasm")).unwrap();
        assert!(program(&root, "/", "/leak.wasm").is_err());
        assert_eq!(within(Path::new("/image"), Path::new("/../../etc/passwd")), Path::new("/image/etc/passwd"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_highest_version_of_a_model_counts() {
        let root = image(
            "models",
            &[
                "models/digits.onnx",
                "models/eyes/2/model.onnx",
                "models/eyes/10/model.onnx",
                "models/eyes/model.onnx",
                "models/mouth/model.onnx",
                "models/notes/readme.md",
            ],
        );
        let models = models(&root.join("models")).unwrap();
        assert_eq!(models.keys().collect::<Vec<_>>(), ["digits", "eyes", "mouth"]);
        assert!(models["eyes"].ends_with("eyes/10/model.onnx"));
        assert!(models["mouth"].ends_with("mouth/model.onnx"));
        assert_eq!(repository(&root.join("models"), "models").unwrap(), models);
        let one = repository(&root.join("models/eyes"), "eyes").unwrap();
        assert_eq!(one, BTreeMap::from([("eyes".to_owned(), models["eyes"].clone())]));
        assert!(super::models(&root.join("nowhere")).unwrap().is_empty());
        fs::remove_dir_all(root).unwrap();
    }
}
