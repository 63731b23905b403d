//! Remembers the hash of files that were read before, so that an unchanged one (a layer's model, at each start of its
//! container) is neither hashed again nor, while it is loaded, read again.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::load::Source;
use crate::error::Result;

/// A file that was changed so recently may change again without its times showing it: they tick slowly.
const SETTLED: Duration = Duration::from_secs(2);

/// What changes when a file does. The time of the last change of the inode cannot be set back by a user.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    /// `None` for what is not there.
    fn of(path: &Path) -> Option<Identity> {
        let file = fs::metadata(path).ok()?;
        Some(Identity {
            device: file.dev(),
            inode: file.ino(),
            length: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }

    fn is_settled(&self) -> bool {
        let changed =
            u64::try_from(self.changed.0).map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > SETTLED))
    }
}

#[derive(Clone)]
struct Known {
    identity: Identity,
    sha256: String,
    external: bool,
}

#[derive(Default)]
pub(super) struct Seen {
    files: Mutex<HashMap<PathBuf, Known>>,
}

/// A model's file: its hash, and its bytes if they had to be read for that.
pub(super) struct Look {
    pub sha256: String,
    pub external: bool,
    path: PathBuf,
    rest: Rest,
}

enum Rest {
    Read(Vec<u8>),
    Unread(Identity),
}

impl Seen {
    pub fn look(&self, name: &str, path: &Path) -> Result<Look> {
        let identity = Identity::of(path);
        let known = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let (Some(identity), Some(known)) = (&identity, known)
            && *identity == known.identity
        {
            let rest = Rest::Unread(known.identity);
            return Ok(Look { sha256: known.sha256, external: known.external, path: path.to_path_buf(), rest });
        }
        let source = Source::read(name, path)?;
        // Unless it changed while it was read.
        if let Some(identity) =
            identity.filter(|before| before.is_settled() && Identity::of(path).as_ref() == Some(before))
        {
            let known = Known { identity, sha256: source.sha256.clone(), external: source.external };
            self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_path_buf(), known);
        }
        Ok(Look { sha256: source.sha256, external: source.external, path: source.path, rest: Rest::Read(source.bytes) })
    }
}

impl Look {
    /// The file's bytes. One that has changed since it was looked at is hashed after all.
    pub fn source(self, name: &str) -> Result<Source> {
        let bytes = match self.rest {
            Rest::Read(bytes) => bytes,
            Rest::Unread(identity) => match fs::read(&self.path) {
                Ok(bytes) if Identity::of(&self.path).as_ref() == Some(&identity) => bytes,
                _ => {
                    let source = Source::read(name, &self.path)?;
                    if source.sha256 != self.sha256 {
                        let message = format!("model {name:?}: {} changes while it is loaded", self.path.display());
                        return Err(crate::error::Error::new(crate::error::ErrorKind::Conflict, message));
                    }
                    source.bytes
                }
            },
        };
        Ok(Source { path: self.path, bytes, sha256: self.sha256, external: self.external })
    }
}

/// In hexadecimal.
pub(super) fn hashed(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// As [`hashed`], of a file that need not fit in memory.
pub(super) fn hashed_file(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let (mut sha256, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&sha256.finalize())),
            read => sha256.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if it had been read long ago.
    fn remember(seen: &Seen, path: &Path, sha256: &str) {
        let known = Known { identity: Identity::of(path).unwrap(), sha256: sha256.into(), external: false };
        seen.files.lock().unwrap().insert(path.to_path_buf(), known);
    }

    #[test]
    fn an_unchanged_file_is_not_hashed_again() {
        let folder = tempfile::tempdir().unwrap();
        let (seen, path) = (Seen::default(), folder.path().join("model.onnx"));
        fs::write(&path, "one").unwrap();
        remember(&seen, &path, "remembered");
        let look = seen.look("m", &path).unwrap();
        assert_eq!(look.sha256, "remembered");
        assert_eq!(look.source("m").unwrap().bytes, b"one");
    }

    #[test]
    fn a_changed_or_replaced_file_is_hashed_again() {
        let folder = tempfile::tempdir().unwrap();
        let (seen, path) = (Seen::default(), folder.path().join("model.onnx"));
        fs::write(&path, "one").unwrap();
        remember(&seen, &path, "remembered");
        // Of the same length, under the same name.
        fs::write(folder.path().join("other"), "two").unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        let look = seen.look("m", &path).unwrap();
        assert_eq!(look.sha256, hashed(b"two"));
        // It was changed just now, so nothing is remembered of it.
        assert_eq!(seen.files.lock().unwrap().get(&path).unwrap().sha256, "remembered");
        remember(&seen, &path, "remembered");
        let look = seen.look("m", &path).unwrap();
        fs::write(&path, "three").unwrap();
        assert!(look.source("m").err().unwrap().to_string().ends_with("changes while it is loaded"));
    }
}
