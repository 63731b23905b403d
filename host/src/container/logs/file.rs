//! The files of one log: `NAME` is written, `NAME.1` is the one before, and so on. Whole lines only: a rotation falls
//! between two, and what a crash cut is cut back at the next open. Blocking.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::packed;
use crate::container::disk::UNFINISHED;

/// Bytes read at once when looking for an end of line from behind.
const BLOCK: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes; `None` is never.
    pub max_size: Option<u64>,
    /// Files kept, the one written included; at least 1.
    pub max_file: u32,
    /// Files put aside are packed, `NAME.1.gz`.
    pub compress: bool,
}

/// The file being written.
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    size: u64,
    rotation: Rotation,
    /// A failed write may have left part of a line behind `size`.
    torn: bool,
}

impl LogFile {
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<LogFile> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        let size = whole_lines(&mut file, length)?;
        let mut opened = LogFile { path: path.to_owned(), file, size, rotation, torn: size < length };
        opened.mend()?;
        Ok(opened)
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a line belongs into this file, after `waiting` bytes that are not written yet. The first line of a file
    /// may have any length.
    pub fn fits(&self, waiting: usize, line: usize) -> bool {
        let before = self.size + waiting as u64;
        before == 0 || self.rotation.max_size.is_none_or(|max| before + line as u64 <= max)
    }

    /// Whole lines, all of them or none.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.mend()?;
        let written = self.file.write_all(lines);
        if written.is_err() {
            self.torn = true;
            // If cutting back fails too, the next append tries again before it writes.
            let _ = self.mend();
            return written;
        }
        self.size += lines.len() as u64;
        Ok(())
    }

    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.size)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Put this file aside and begin the next. If it fails, everything is as it was, and this file goes on growing.
    pub fn rotate(&mut self) -> io::Result<()> {
        self.mend()?;
        // The new file first: it is what fails when the disk is full.
        let next = beside(&self.path, UNFINISHED);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&next)?;
        file.set_len(0)?;
        if self.rotation.max_file > 1 {
            // A crash between two renames leaves a gap, never a lost file: files move up to the first gap only.
            let last = self.rotation.max_file - 1;
            let gap = (1..=last).find(|number| !packed::is_there(&self.path, *number)).unwrap_or(last);
            for number in (1..gap).rev() {
                packed::shift(&self.path, number)?;
            }
            fs::rename(&self.path, numbered(&self.path, 1))?;
            packed::forget(&self.path, 1)?;
        }
        fs::rename(&next, &self.path)?;
        self.file = file;
        self.size = 0;
        if self.rotation.compress && self.rotation.max_file > 1 {
            // Unpacked it is as good, and larger.
            if let Err(error) = packed::pack(&self.path) {
                tracing::warn!("cannot compress {}: {error}", numbered(&self.path, 1).display());
            }
        }
        Ok(())
    }
}

/// All files of a log, oldest first.
pub fn existing(path: &Path, max_file: u32) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    let opened = (1..max_file).rev().map(|number| packed::open(path, number)).chain([File::open(path)]);
    for file in opened {
        match file {
            Ok(file) => files.push(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

pub fn numbered(path: &Path, number: u32) -> PathBuf {
    beside(path, &number.to_string())
}

pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Bytes up to and including the last end of line within `length`.
pub fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let (start, block) = block_before(file, end)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Where the last `count` lines within `length` begin, and how many there are.
pub fn last_lines(file: &mut File, length: u64, count: usize) -> io::Result<(u64, usize)> {
    let mut end = whole_lines(file, length)?;
    if count == 0 {
        return Ok((end, 0));
    }
    let mut ends = 0;
    while end > 0 {
        let (start, block) = block_before(file, end)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if ends == count {
                return Ok((start + at as u64 + 1, count));
            }
            ends += 1;
        }
        end = start;
    }
    Ok((0, ends))
}

fn block_before(file: &mut File, end: u64) -> io::Result<(u64, Vec<u8>)> {
    let start = end.saturating_sub(BLOCK as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut block = Vec::new();
    file.take(end - start).read_to_end(&mut block)?;
    Ok((start, block))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ROTATION: Rotation = Rotation { max_size: None, max_file: 1, compress: false };

    #[test]
    fn a_cut_last_line_is_cut_back_wherever_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let text = "first line\nsecond\n\nlast\n";
        for cut in 0..=text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            let mut log = LogFile::open(&path, NO_ROTATION).unwrap();
            log.append(b"next\n").unwrap();
            let whole = text[..cut].rfind('\n').map_or(0, |at| at + 1);
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}next\n", &text[..whole]), "cut at {cut}");
        }
    }

    #[test]
    fn a_long_cut_line_is_found_over_many_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, format!("one\n{}", "x".repeat(3 * BLOCK))).unwrap();
        assert_eq!(LogFile::open(&path, NO_ROTATION).unwrap().size(), 4);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
    }

    #[test]
    fn the_last_lines_are_found_from_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let long = "y".repeat(BLOCK);
        let text = format!("a\nbb\n{long}\n\nccc\ncut");
        fs::write(&path, &text).unwrap();
        let mut file = File::open(&path).unwrap();
        let length = text.len() as u64;
        let mut tail = |count| {
            let (start, found) = last_lines(&mut file, length, count).unwrap();
            (text[start as usize..].trim_end_matches("cut").to_owned(), found)
        };
        assert_eq!(tail(0), (String::new(), 0));
        assert_eq!(tail(1), ("ccc\n".to_owned(), 1));
        assert_eq!(tail(2), ("\nccc\n".to_owned(), 2));
        assert_eq!(tail(3), (format!("{long}\n\nccc\n"), 3));
        assert_eq!(tail(9), (format!("a\nbb\n{long}\n\nccc\n"), 5));
    }

    #[test]
    fn rotation_keeps_the_newest_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::open(&path, Rotation { max_size: Some(6), max_file: 3, compress: false }).unwrap();
        for number in 0..9 {
            if !log.fits(0, 3) {
                log.rotate().unwrap();
            }
            log.append(format!("l{number}\n").as_bytes()).unwrap();
        }
        let text: Vec<_> =
            existing(&path, 3).unwrap().into_iter().map(|file| io::read_to_string(file).unwrap()).collect();
        assert_eq!(text, ["l4\nl5\n", "l6\nl7\n", "l8\n"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_rotation_cut_between_any_two_steps_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (one, two) = (numbered(&path, 1), numbered(&path, 2));
        let rotation = Rotation { max_size: Some(1), max_file: 4, compress: false };
        // After: the new file was made; the older one moved; the newest moved.
        for step in 0..3 {
            for file in fs::read_dir(folder.path()).unwrap() {
                fs::remove_file(file.unwrap().path()).unwrap();
            }
            fs::write(&one, "old\n").unwrap();
            fs::write(&path, "new\n").unwrap();
            fs::write(beside(&path, UNFINISHED), "").unwrap();
            if step >= 1 {
                fs::rename(&one, &two).unwrap();
            }
            if step >= 2 {
                fs::rename(&path, &one).unwrap();
            }
            let mut log = LogFile::open(&path, rotation).unwrap();
            log.append(b"later\n").unwrap();
            log.rotate().unwrap();
            log.append(b"last\n").unwrap();
            let files = existing(&path, 4).unwrap();
            let text: String = files.into_iter().map(|file| io::read_to_string(file).unwrap()).collect();
            assert_eq!(text, "old\nnew\nlater\nlast\n", "cut after step {step}");
        }
    }

    #[test]
    fn one_file_is_replaced_by_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::open(&path, Rotation { max_size: Some(4), max_file: 1, compress: false }).unwrap();
        log.append(b"one\n").unwrap();
        let mut old = File::open(&path).unwrap();
        log.rotate().unwrap();
        log.append(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        let mut rest = String::new();
        old.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "one\n", "who has it open can read it to its end");
    }
}
