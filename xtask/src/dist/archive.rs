//! A folder as a `.tar.gz`: sorted, of one time and one owner, so that the same tree gives the same bytes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::python_guest::hex;
use crate::{layout, step};

/// Packs `folder` beside itself, with its checksum as `sha256sum --check` reads it. `epoch` is the time of all files.
pub fn pack(folder: &Path, epoch: u64) -> Result<PathBuf> {
    let (parent, name) = (folder.parent().context("a folder has a parent")?, folder.file_name().context("a name")?);
    let archive = beside(folder, ".tar.gz");
    let mut tar = Command::new("tar");
    tar.args(same_each_time(epoch)).arg("-C").arg(parent).arg("-c").arg(name);
    let mut tar_child = tar.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start tar")?;
    let stream = tar_child.stdout.take().context("tar has an output")?;
    // -n: neither name nor time of the archive inside it.
    let mut gzip = Command::new("gzip");
    let packed = gzip.args(["-9", "-n", "-c"]).stdin(stream).stderr(Stdio::inherit()).output()?;
    step::check(&tar, tar_child.wait()?)?;
    step::check(&gzip, packed.status)?;
    layout::write(&archive, &packed.stdout)?;
    let sum = hex(&Sha256::digest(&packed.stdout));
    let file = archive.file_name().context("a name")?.to_string_lossy();
    layout::write(&beside(folder, ".tar.gz.sha256"), format!("{sum}  {file}\n").as_bytes())?;
    step::note(format_args!("{} ({} MB), sha256 {sum}", archive.display(), packed.stdout.len() / 1_000_000));
    Ok(archive)
}

fn same_each_time(epoch: u64) -> [String; 6] {
    let time = format!("--mtime=@{epoch}");
    ["--sort=name", &time, "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"].map(str::to_owned)
}

/// `path` with more at its end: a version's dots are no extension.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes_whenever_they_were_written() {
        let folder = std::env::temp_dir().join(format!("wharf-xtask-archive-{}", std::process::id()));
        let root = folder.join("wharf-1.2.3");
        for name in ["b/two", "a", "b/one"] {
            layout::write(&root.join(name), name.as_bytes()).unwrap();
        }
        let first = fs::read(pack(&root, 1_700_000_000).unwrap()).unwrap();
        let later = fs::File::options().write(true).open(root.join("a")).unwrap();
        later.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let archive = pack(&root, 1_700_000_000).unwrap();
        assert_eq!(archive, folder.join("wharf-1.2.3.tar.gz"));
        assert!(fs::read(&archive).unwrap() == first);
        let sums = fs::read_to_string(beside(&root, ".tar.gz.sha256")).unwrap();
        assert!(sums.ends_with("  wharf-1.2.3.tar.gz\n") && sums.len() == 64 + 2 + 18 + 1 + 1 - 1, "{sums}");
        fs::remove_dir_all(folder).unwrap();
    }
}
