//! The few bytes of a shared library (ELF, 64 bits, little-endian) that say which others it is linked with, and where
//! its sections are.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

const DYNAMIC: u32 = 2;
const LOAD: u32 = 1;
const NEEDED: u64 = 1;
const STRING_TABLE: u64 = 5;
const STRING_TABLE_SIZE: u64 = 10;

/// Larger tables are no library's that we look at.
const LARGEST: u64 = 64 << 20;

/// Whether a file begins as a shared library does.
pub fn is_library(path: &Path) -> io::Result<bool> {
    let mut head = [0; 20];
    match File::open(path)?.read_exact(&mut head) {
        Ok(()) => Ok(is_head(&head)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// ELF, 64 bits, little-endian, of the type "shared object".
fn is_head(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF\x02\x01") && half(head, 16) == Some(3)
}

/// The names a library is linked with (`DT_NEEDED`), in its order. Reads the tables only, not the library.
pub fn needed(path: &Path) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let head = read(&mut file, 0, 64)?;
    if !is_head(&head) {
        return Err(invalid());
    }
    let table = long(&head, 32).ok_or_else(invalid)?;
    let (size, count) = (half(&head, 54).ok_or_else(invalid)?, half(&head, 56).ok_or_else(invalid)?);
    let headers = read(&mut file, table, u64::from(size) * u64::from(count))?;
    let segments: Vec<Segment> = headers.chunks(usize::from(size).max(1)).filter_map(Segment::read).collect();
    let dynamic = segments.iter().find(|segment| segment.kind == DYNAMIC).ok_or_else(invalid)?;
    let entries = read(&mut file, dynamic.offset, dynamic.size)?;
    let entries: Vec<(u64, u64)> =
        entries.chunks_exact(16).filter_map(|entry| Some((long(entry, 0)?, long(entry, 8)?))).collect();
    let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value).ok_or_else(invalid);
    let address = value(STRING_TABLE)?;
    let holds = |segment: &&Segment| {
        segment.kind == LOAD && (segment.address..segment.address.saturating_add(segment.size)).contains(&address)
    };
    let segment = segments.iter().find(holds).ok_or_else(invalid)?;
    let strings = read(&mut file, segment.offset + (address - segment.address), value(STRING_TABLE_SIZE)?)?;
    let name = |offset: u64| {
        let rest = strings.get(usize::try_from(offset).ok()?..)?;
        String::from_utf8(rest.split(|byte| *byte == 0).next()?.to_vec()).ok()
    };
    Ok(entries.iter().filter(|(tag, _)| *tag == NEEDED).filter_map(|(_, offset)| name(*offset)).collect())
}

/// Offset and size in the file of the section called `name`, if there is one.
pub fn section(file: &mut File, name: &str) -> io::Result<Option<(u64, u64)>> {
    let head = read(file, 0, 64)?;
    if !is_head(&head) {
        return Err(invalid());
    }
    let table = long(&head, 40).ok_or_else(invalid)?;
    let field = |at| half(&head, at).map(u64::from).ok_or_else(invalid);
    let (size, count, names) = (field(58)?, field(60)?, field(62)?);
    let headers = read(file, table, size * count)?;
    let place = |header: &[u8]| Some((long(header, 24)?, long(header, 32)?));
    let headers: Vec<&[u8]> = headers.chunks(usize::try_from(size).unwrap_or(1).max(1)).collect();
    let names = usize::try_from(names).ok().and_then(|names| place(headers.get(names)?));
    let Some((offset, size)) = names else { return Ok(None) };
    let names = read(file, offset, size)?;
    let is_named = |header: &&&[u8]| {
        let at = word(header, 0).and_then(|at| usize::try_from(at).ok());
        let rest = at.and_then(|at| names.get(at..)).unwrap_or_default();
        rest.split(|byte| *byte == 0).next() == Some(name.as_bytes())
    };
    Ok(headers.iter().find(is_named).and_then(|header| place(header)))
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    /// In the file.
    size: u64,
}

impl Segment {
    fn read(header: &[u8]) -> Option<Segment> {
        let kind = word(header, 0)?;
        Some(Segment { kind, offset: long(header, 8)?, address: long(header, 16)?, size: long(header, 32)? })
    }
}

/// Bytes of a file; more than any table has are an error.
pub fn read(file: &mut File, offset: u64, size: u64) -> io::Result<Vec<u8>> {
    if size > LARGEST {
        return Err(invalid());
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| invalid())?];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no shared library")
}
