//! A volume that is mounted for the first time over a folder of the image begins with what the image has there.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::view::{Kind, Last, View};
use crate::error::{Error, ErrorKind, Result};

/// Beside the volume's content while it is made; what a crash leaves is overwritten by the next attempt.
const UNFINISHED: &str = "_seed";

/// Two containers may be made at once that are the first on one volume.
static FILLING: Mutex<()> = Mutex::new(());

/// Fill the folder `content` with what the image's files at `root` have at `target`, if it is empty. Blocking.
pub fn seed(root: &Path, target: &str, content: &Path) -> Result<()> {
    let failed = |error: io::Error| {
        let text = format!("cannot fill the volume at {target} with what the image has there");
        Error::new(ErrorKind::Io, text).because(error)
    };
    let view = View::open(root, &[]).map_err(failed)?;
    let Ok(from) = view.resolve(Path::new(target), Last::Followed) else { return Ok(()) };
    if view.look(&from).map_err(failed)?.kind != Kind::Folder {
        return Ok(());
    }
    let _alone = FILLING.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_empty(content).map_err(failed)? {
        return Ok(());
    }
    let unfinished = content.with_file_name(UNFINISHED);
    let made = fill(&view, &from, &unfinished).and_then(|()| settle(&unfinished, content));
    // The error says more than a leftover would.
    let _ = fs::remove_dir_all(&unfinished);
    made.map_err(failed)
}

fn fill(view: &View, from: &Path, unfinished: &Path) -> io::Result<()> {
    match fs::remove_dir_all(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    copy(view, from, unfinished)
}

/// One name after the other: somebody may have the folder itself open.
fn settle(unfinished: &Path, content: &Path) -> io::Result<()> {
    for entry in fs::read_dir(unfinished)? {
        let entry = entry?;
        fs::rename(entry.path(), content.join(entry.file_name()))?;
    }
    fs::set_permissions(content, fs::metadata(unfinished)?.permissions())
}

fn is_empty(folder: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(folder)?.next().is_none())
}

fn copy(view: &View, from: &Path, to: &Path) -> io::Result<()> {
    let node = view.look(from)?;
    match node.kind {
        Kind::Special => return Ok(()),
        Kind::Link => return symlink(node.target.unwrap_or_default(), to),
        Kind::File => {
            let written = fs::OpenOptions::new().write(true).create_new(true).open(to);
            io::copy(&mut view.file(from)?, &mut written?)?;
        }
        Kind::Folder => {
            fs::create_dir(to)?;
            for name in view.list(from)? {
                copy(view, &from.join(&name), &to.join(&name))?;
            }
        }
    }
    fs::set_permissions(to, Permissions::from_mode(node.mode & 0o777 | 0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_volume_begins_with_the_images_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("image/srv/models")).unwrap();
        fs::write(at("image/srv/models/a"), "1").unwrap();
        symlink("models/a", at("image/srv/link")).unwrap();
        symlink("srv", at("image/over")).unwrap();
        for (number, (target, filled)) in [("/srv", true), ("/over/", true), ("/none", false)].into_iter().enumerate() {
            let content = at(&format!("volume{number}/_data"));
            fs::create_dir_all(&content).unwrap();
            seed(&at("image"), target, &content).unwrap();
            assert_eq!(fs::read_to_string(content.join("link")).ok(), filled.then(|| "1".to_owned()), "{target}");
            assert!(!content.with_file_name(UNFINISHED).exists());
            // Once something is in it, the volume is its user's.
            fs::write(content.join("own"), "").unwrap();
            let _ = fs::remove_file(content.join("link"));
            seed(&at("image"), target, &content).unwrap();
            assert!(content.join("link").symlink_metadata().is_err());
        }
    }
}
