//! Files of a log that were put aside and packed: `NAME.1.gz` for `NAME.1`. A file is there in one of the two forms; where
//! a crash left both, the plain one counts. Blocking.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::file::{beside, numbered};
use crate::container::disk::UNFINISHED;

fn packed(path: &Path, number: u32) -> PathBuf {
    beside(&numbered(path, number), "gz")
}

/// In either form.
pub fn is_there(path: &Path, number: u32) -> bool {
    numbered(path, number).exists() || packed(path, number).exists()
}

/// Rename a file to the next number, whose file is replaced.
pub fn shift(path: &Path, number: u32) -> io::Result<()> {
    let plain = numbered(path, number);
    if plain.exists() {
        fs::rename(plain, numbered(path, number + 1))?;
        forget(path, number)?;
        return forget(path, number + 1);
    }
    fs::rename(packed(path, number), packed(path, number + 1))?;
    absent(fs::remove_file(numbered(path, number + 1)))
}

/// Remove the packed form: the plain one counts.
pub fn forget(path: &Path, number: u32) -> io::Result<()> {
    absent(fs::remove_file(packed(path, number)))
}

/// Pack the newest file that was put aside. When it fails, it stays as it is.
pub fn pack(path: &Path) -> io::Result<()> {
    let (plain, whole) = (numbered(path, 1), packed(path, 1));
    let unfinished = beside(&whole, UNFINISHED);
    let write = || {
        // Fast: the writer of all logs waits for it.
        let mut encoder = GzEncoder::new(File::create(&unfinished)?, Compression::fast());
        io::copy(&mut File::open(&plain)?, &mut encoder)?;
        encoder.finish()?.sync_all()?;
        fs::rename(&unfinished, &whole)
    };
    if let Err(error) = write() {
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    fs::remove_file(plain)
}

/// For reading, in its plain form: what is packed is unpacked into a file that has no name.
pub fn open(path: &Path, number: u32) -> io::Result<File> {
    match File::open(numbered(path, number)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let source = File::open(packed(path, number))?;
    let name = beside(&packed(path, number), &format!("read-{}.{UNFINISHED}", std::process::id()));
    let mut plain = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&name)?;
    fs::remove_file(&name)?;
    io::copy(&mut MultiGzDecoder::new(source), &mut plain)?;
    plain.rewind()?;
    Ok(plain)
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::logs::file::{LogFile, Rotation, existing};

    fn text(path: &Path, max_file: u32) -> Vec<String> {
        existing(path, max_file).unwrap().into_iter().map(|file| io::read_to_string(file).unwrap()).collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn packed_files_are_read_like_plain_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotation = Rotation { max_size: Some(6), max_file: 3, compress: true };
        let mut log = LogFile::open(&path, rotation).unwrap();
        for number in 0..9 {
            if !log.fits(0, 3) {
                log.rotate().unwrap();
            }
            log.append(format!("l{number}\n").as_bytes()).unwrap();
        }
        assert_eq!(text(&path, 3), ["l4\nl5\n", "l6\nl7\n", "l8\n"]);
        assert_eq!(names(folder.path()), ["log", "log.1.gz", "log.2.gz"]);
        // Without the option from now on: the forms mix.
        let mut log = LogFile::open(&path, Rotation { compress: false, ..rotation }).unwrap();
        log.rotate().unwrap();
        log.append(b"l9\n").unwrap();
        assert_eq!(text(&path, 3), ["l6\nl7\n", "l8\n", "l9\n"]);
        assert_eq!(names(folder.path()), ["log", "log.1", "log.2.gz"]);
        log.rotate().unwrap();
        assert_eq!(text(&path, 3), ["l8\n", "l9\n", ""]);
        assert_eq!(names(folder.path()), ["log", "log.1", "log.2"]);
    }

    #[test]
    fn a_crash_that_leaves_both_forms_leaves_one_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(numbered(&path, 1), "old\n").unwrap();
        pack(&path).unwrap();
        fs::write(numbered(&path, 1), "old\n").unwrap();
        fs::write(&path, "new\n").unwrap();
        assert_eq!(text(&path, 3), ["old\n", "new\n"]);
        let mut log = LogFile::open(&path, Rotation { max_size: Some(1), max_file: 3, compress: true }).unwrap();
        log.rotate().unwrap();
        assert_eq!(text(&path, 3), ["old\n", "new\n", ""]);
        assert_eq!(names(folder.path()), ["log", "log.1.gz", "log.2"]);
    }
}
