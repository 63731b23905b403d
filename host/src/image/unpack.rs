//! Archives from outside into a folder: contexts, layers, saved images. Nothing lands outside the folder, devices are
//! refused, and neither a bomb nor a sparse file fills the disk.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use tar::{Archive, Entry, EntryType};

use super::durable::failed;
use super::tree;
use crate::error::{Error, ErrorKind, Result};

const MAGIC_GZIP: &[u8] = &[0x1f, 0x8b];
const MAGIC_ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const MAGIC_BZIP2: &[u8] = b"BZh";
const MAGIC_XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z'];

/// What an xz archive may ask for to be unpacked; KiB. `xz -9` asks for 65 MiB, zstd takes at most 128 MiB.
const XZ_MEMORY: u32 = 128 << 10;

const PIECE: usize = 1 << 16;
/// What a tar archive is made of; bytes.
const BLOCK: u64 = 512;
const MOST_ENTRIES: u64 = 1_000_000;
/// What may precede a file in the archive; bytes.
const LONGEST_HEADER: u64 = 1 << 20;
/// An archive may unpack to this much whatever its own size; bytes. Tests should not need a gigabyte to reach it.
const SUSPICIOUS: u64 = if cfg!(test) { 8 << 20 } else { 1 << 30 };
/// Beyond that it may unpack to this many times its own size. Weights and programs shrink to a third, not to this.
const HIGHEST_RATIO: u64 = 200;

/// What an archive came to.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Bytes of its files.
    pub size: u64,
    /// Entries whose names say that something is missing, for whoever asked for them.
    pub whiteouts: Vec<PathBuf>,
}

/// What an archive is unpacked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Its files are all there is.
    Files,
    /// `.wh.` names are marks; files last on disk, because they are kept as content.
    Layer,
}

/// The name prefix of a layer's marks.
pub const WHITEOUT: &str = ".wh.";

/// The tar of a build's context: plain, gzip, bzip2, xz or zstd.
pub fn unpack_context(input: &mut dyn Read, into: &Path) -> Result<()> {
    unpack(input, into, Purpose::Files).map(drop)
}

/// Whatever it is compressed with.
pub fn unpack(input: &mut dyn Read, into: &Path, purpose: Purpose) -> Result<Unpacked> {
    let (packed, taken) = counted(input);
    unpack_plain(&mut decompress(packed)?, taken, into, purpose)
}

/// `taken` counts the bytes that the archive has packed.
pub fn unpack_plain(plain: &mut dyn Read, taken: Rc<Cell<u64>>, into: &Path, purpose: Purpose) -> Result<Unpacked> {
    tree_root(into)?;
    let (names, is_filled) = (Rc::new(Cell::new(u64::MAX)), Rc::new(Cell::new(false)));
    let plain = Blocks { input: plain, position: 0, is_filled: is_filled.clone() };
    let mut plain = Limited { input: plain, left: names.clone() };
    let mut archive = Archive::new(&mut plain);
    let mut unpacking = Unpacking { root: into, purpose, taken, result: Unpacked::default(), folders: Vec::new() };
    let mut entries = archive.entries().map_err(unreadable)?;
    let mut count = 0;
    loop {
        // What precedes a file is kept in memory: long names and attributes.
        names.set(LONGEST_HEADER);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(unreadable)?;
        names.set(u64::MAX);
        count += 1;
        if count > MOST_ENTRIES {
            return Err(Error::new(ErrorKind::TooLarge, format!("the archive has over {MOST_ENTRIES} entries")));
        }
        unpacking.entry(&mut entry)?;
        // Content of what has none, e.g. of a folder.
        io::copy(&mut entry, &mut io::sink()).map_err(unreadable)?;
        if is_filled.get() {
            return Err(unreadable(io::Error::new(io::ErrorKind::UnexpectedEof, "its last file is not whole")));
        }
    }
    names.set(u64::MAX);
    // The rest is padding, and is read so that whoever hashes the stream has seen it all.
    io::copy(&mut plain, &mut io::sink()).map_err(unreadable)?;
    let Unpacking { folders, result, .. } = unpacking;
    for (folder, mode) in folders {
        // A later entry may have put something else there.
        if folder.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            tree::set_mode(&folder, mode)?;
        }
    }
    Ok(result)
}

fn tree_root(into: &Path) -> Result<()> {
    fs::create_dir_all(into).map_err(|error| failed("create", into, error))
}

fn unreadable(error: io::Error) -> Error {
    Error::invalid("the archive cannot be read: it is damaged, cut short, or no tar").because(error)
}

/// A stream, and how many bytes of it were read.
pub fn counted<R: Read>(input: R) -> (impl Read, Rc<Cell<u64>>) {
    let taken = Rc::new(Cell::new(0));
    (Counted { input, taken: taken.clone() }, taken)
}

/// What a stream that begins so is compressed with.
pub fn compression(head: &[u8]) -> Option<&'static str> {
    let known = [(MAGIC_GZIP, "gzip"), (MAGIC_ZSTD, "zstd"), (MAGIC_BZIP2, "bzip2"), (MAGIC_XZ, "xz")];
    known.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| name)
}

/// The plain bytes of a stream, whatever it is compressed with.
pub fn decompress<'a>(input: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(PIECE, input);
    let head = input.fill_buf().map_err(unreadable)?;
    match compression(head) {
        None => Ok(Box::new(input)),
        Some("gzip") => Ok(Box::new(MultiGzDecoder::new(input))),
        Some("zstd") => Ok(Box::new(zstd::Decoder::with_buffer(input).map_err(unreadable)?)),
        Some("bzip2") => Ok(Box::new(MultiBzDecoder::new(input))),
        Some(_) => Ok(Box::new(XzReader::new_mem_limit(input, true, XZ_MEMORY))),
    }
}

struct Counted<R> {
    input: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.taken.set(self.taken.get() + read as u64);
        Ok(read)
    }
}

/// Fills the last block with zeros. Docker's client ends a context with the last byte of a file where the Dockerfile lies
/// outside of it (`-f`), and what reads archives in Go has always taken that for an end.
struct Blocks<R> {
    input: R,
    position: u64,
    /// Whether zeros were read that are not in the archive.
    is_filled: Rc<Cell<bool>>,
}

impl<R: Read> Read for Blocks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = self.input.read(buffer)?;
        if read == 0 {
            let missing = self.position.next_multiple_of(BLOCK) - self.position;
            read = buffer.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
            buffer[..read].fill(0);
            self.is_filled.set(self.is_filled.get() || read > 0);
        }
        self.position += read as u64;
        Ok(read)
    }
}

/// Refuses to be read beyond a limit that moves.
struct Limited<R> {
    input: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other(format!(
                "an entry's name and attributes are over {LONGEST_HEADER} bytes long"
            )));
        }
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.input.read(&mut buffer[..length])?;
        self.left.set(left - read as u64);
        Ok(read)
    }
}

struct Unpacking<'a> {
    root: &'a Path,
    purpose: Purpose,
    /// Bytes of the archive that were read so far.
    taken: Rc<Cell<u64>>,
    result: Unpacked,
    /// Modes of folders, set last: a folder may be read-only and full.
    folders: Vec<(PathBuf, u32)>,
}

impl Unpacking<'_> {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = tree::inside(&entry.path().map_err(unreadable)?)?;
        let is_mark = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(WHITEOUT));
        if self.purpose == Purpose::Layer && is_mark {
            self.result.whiteouts.push(path);
            return Ok(());
        }
        let mode = entry.header().mode().unwrap_or(0o644);
        match kind {
            EntryType::Directory => {
                let folder = tree::folder(self.root, &path)?;
                self.folders.push((folder, mode));
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.file(entry, &path, mode),
            EntryType::Symlink => tree::link(self.root, &path, &target(entry)?),
            EntryType::Link => self.second_name(&path, &target(entry)?),
            EntryType::Char | EntryType::Block | EntryType::Fifo => Err(Error::invalid(format!(
                "{:?} is refused: it is a device or a pipe, and a sandbox has none. Leave it out of the archive",
                path.display()
            ))),
            other => Err(Error::invalid(format!("{:?} is refused: unknown kind of entry {other:?}", path.display()))),
        }
    }

    fn file(&mut self, content: &mut impl Read, path: &Path, mode: u32) -> Result<()> {
        let whole = tree::place(self.root, path)?;
        let mut file = File::create_new(&whole).map_err(|error| failed("create", &whole, error))?;
        let mut piece = vec![0; PIECE];
        let mut length = 0;
        loop {
            let read = fill(content, &mut piece).map_err(unreadable)?;
            let bytes = &piece[..read];
            self.result.size += read as u64;
            self.check_ratio(path)?;
            // Zeros become holes.
            let hole = read == PIECE && bytes.iter().all(|byte| *byte == 0);
            let put = if hole { file.seek(SeekFrom::Current(PIECE as i64)).map(drop) } else { file.write_all(bytes) };
            put.map_err(|error| failed("write", &whole, error))?;
            length += read as u64;
            if read < PIECE {
                break;
            }
        }
        let ended = file.set_len(length).and_then(|()| match self.purpose {
            Purpose::Layer => file.sync_data(),
            Purpose::Files => Ok(()),
        });
        ended.map_err(|error| failed("write", &whole, error))?;
        tree::set_mode(&whole, mode)
    }

    fn check_ratio(&self, path: &Path) -> Result<()> {
        let (size, taken) = (self.result.size, self.taken.get());
        if size > SUSPICIOUS && size > taken.saturating_mul(HIGHEST_RATIO) {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "{:?} is refused: {taken} bytes of archive became over {SUSPICIOUS} bytes of files, so it is \
                     sparse or a bomb",
                    path.display()
                ),
            ));
        }
        Ok(())
    }

    /// A hard link: its target is an earlier file of this archive.
    fn second_name(&mut self, path: &Path, target: &Path) -> Result<()> {
        let target = tree::inside(target)?;
        let from = self.root.join(&target);
        // The way there must not lead through a link.
        let real = target
            .ancestors()
            .skip(1)
            .all(|above| self.root.join(above).symlink_metadata().is_ok_and(|meta| meta.is_dir()));
        let is_file = real && from.symlink_metadata().is_ok_and(|meta| meta.is_file());
        if !is_file {
            let (path, target) = (path.display(), target.display());
            return Err(Error::invalid(format!(
                "link {path:?} is refused: the archive holds no file {target:?} before it"
            )));
        }
        if path == target {
            return Ok(());
        }
        let whole = tree::place(self.root, path)?;
        // Making room for it may have removed the target.
        tree::hard_link(&from, &whole)
    }
}

fn target<R: Read>(entry: &Entry<'_, R>) -> Result<PathBuf> {
    let target = entry.link_name().map_err(unreadable)?;
    target.map(std::borrow::Cow::into_owned).ok_or_else(|| Error::invalid("the archive holds a link without a target"))
}

/// Read until the buffer is full or the input ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
