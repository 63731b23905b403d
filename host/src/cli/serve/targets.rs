//! What each TARGET of `wharf serve` is: files that are served as they are, or what needs the host's images and
//! containers: an image, a folder to build, a compose file. Looks at names and folders only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::serve::target::Target;

/// One TARGET, as it was typed, with the name it goes by.
pub struct Named {
    pub path: PathBuf,
    pub name: String,
    pub kind: Kind,
}

pub enum Kind {
    Files(Target),
    Image(String),
    /// To build an image from, of this name.
    Folder {
        tag: String,
    },
    Compose,
}

impl Named {
    /// A path that is there wins over an image of its name; in a folder, what can be served as it is wins over a
    /// Dockerfile.
    pub fn read(path: &Path) -> Result<Named> {
        let typed = path.to_string_lossy();
        let named = |name: String, kind| Ok(Named { path: path.to_owned(), name, kind });
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Named::folder(path),
            Ok(_) if is_compose(path) => named(typed.into_owned(), Kind::Compose),
            Ok(_) if path.file_name().is_some_and(|name| name == "Dockerfile") => {
                Err(Error::invalid(format!("{typed} is a Dockerfile: name the folder it is in")))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_be_image(&typed) => {
                named(repository(&typed).to_owned(), Kind::Image(typed.into_owned()))
            }
            // One that cannot be looked at is an error there.
            _ => {
                let target = Target::read(path)?;
                named(target.name.clone(), Kind::Files(target))
            }
        }
    }

    fn folder(path: &Path) -> Result<Named> {
        let (name, kind) = match Target::read(path) {
            Ok(target) => (target.name.clone(), Kind::Files(target)),
            Err(error) if error.kind() == ErrorKind::InvalidArgument && path.join("Dockerfile").is_file() => {
                let tag = folder_name(path)?;
                (tag.clone(), Kind::Folder { tag })
            }
            Err(error) => return Err(error),
        };
        Ok(Named { path: path.to_owned(), name, kind })
    }

    /// Whether it may have a port of its own. Images are taken to have one.
    pub fn is_service(&self) -> bool {
        match &self.kind {
            Kind::Files(target) => target.component.is_some(),
            Kind::Image(_) | Kind::Folder { .. } => true,
            Kind::Compose => false,
        }
    }

    pub fn is_files(&self) -> bool {
        matches!(self.kind, Kind::Files(_))
    }
}

fn is_compose(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
}

/// Not written as a path, and with no letter that no image's name has.
fn may_be_image(typed: &str) -> bool {
    let written_as_path = typed.starts_with(['.', '/', '~']) || typed.ends_with('/');
    let file = [".wasm", ".onnx", ".yml", ".yaml"].iter().any(|end| typed.ends_with(end));
    let letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.:/@".contains(letter);
    !typed.is_empty() && !written_as_path && !file && typed.chars().all(letter)
}

/// The last part of an image's name, without tag and digest.
fn repository(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(['@', ':']).next().unwrap_or(last)
}

/// As an image may be called: small letters, digits, and `-`, `_`, `.` between them.
fn folder_name(path: &Path) -> Result<String> {
    let absolute = fs::canonicalize(path)
        .map_err(|error| Error::new(ErrorKind::Io, format!("cannot read folder {}", path.display())).because(error))?;
    let name = absolute.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String =
        name.chars().filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')).collect();
    let name = name.trim_matches(['-', '_', '.']);
    Ok(if name.is_empty() { "target".to_owned() } else { name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_a_path_is_no_image() {
        for image in ["digits", "digits:1.0", "localhost:5000/team/digits@sha256:0123", "a/b"] {
            assert!(may_be_image(image), "{image}");
        }
        for path in ["./digits", "/digits", "../x", "~/x", "digits/", "digits.wasm", "compose.yml", "two words", ""] {
            assert!(!may_be_image(path), "{path}");
        }
        assert_eq!(repository("localhost:5000/team/digits:1.0"), "digits");
        assert_eq!(repository("digits@sha256:0123"), "digits");
    }
}
