//! Tar archives made byte by byte: honest contexts, and ones that no program would write.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

const BLOCK: usize = 512;

/// One entry. Its name and its target are written as they are, however impossible.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub name: &'a str,
    pub kind: Kind<'a>,
}

#[derive(Clone, Debug)]
pub enum Kind<'a> {
    File(&'a [u8]),
    Folder,
    Link(&'a str),
    HardLink(&'a str),
    CharDevice,
    BlockDevice,
    Fifo,
    /// A GNU sparse file of this size that holds one byte, at its end.
    Sparse(u64),
    /// A file that claims this size, whatever follows.
    Claims(u64),
}

pub fn file<'a>(name: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry { name, kind: Kind::File(content) }
}

pub fn entry<'a>(name: &'a str, kind: Kind<'a>) -> Entry<'a> {
    Entry { name, kind }
}

/// The archive of these entries, with its end.
pub fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        append(entry, &mut archive);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(content).unwrap();
    packed.finish().unwrap()
}

fn append(entry: &Entry<'_>, archive: &mut Vec<u8>) {
    let (letter, content, size, target): (u8, &[u8], u64, &str) = match &entry.kind {
        Kind::File(content) => (b'0', content, content.len() as u64, ""),
        Kind::HardLink(target) => (b'1', b"", 0, target),
        Kind::Link(target) => (b'2', b"", 0, target),
        Kind::CharDevice => (b'3', b"", 0, ""),
        Kind::BlockDevice => (b'4', b"", 0, ""),
        Kind::Folder => (b'5', b"", 0, ""),
        Kind::Fifo => (b'6', b"", 0, ""),
        Kind::Sparse(_) => (b'S', b"x", 1, ""),
        Kind::Claims(size) => (b'0', b"x", *size, ""),
    };
    let mut head = [0_u8; BLOCK];
    put(&mut head, 0, entry.name.as_bytes());
    put(&mut head, 100, b"0000755\0");
    put(&mut head, 108, b"0000000\0");
    put(&mut head, 116, b"0000000\0");
    number(&mut head, 124, size);
    number(&mut head, 136, 0);
    head[156] = letter;
    put(&mut head, 157, target.as_bytes());
    // GNU's own format: the sparse map lies where others keep a prefix of the name.
    put(&mut head, 257, b"ustar  \0");
    if let Kind::Sparse(size) = entry.kind {
        number(&mut head, 386, size - 1);
        number(&mut head, 398, 1);
        number(&mut head, 483, size);
    }
    put(&mut head, 148, b"        ");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut head, 148, format!("{sum:06o}\0 ").as_bytes());
    archive.extend_from_slice(&head);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

fn put(head: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    head[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Eleven octal digits, or GNU's base 256 for what is larger.
fn number(head: &mut [u8; BLOCK], at: usize, value: u64) {
    if value < 1 << 33 {
        put(head, at, format!("{value:011o}\0").as_bytes());
    } else {
        put(head, at, &[&[0x80, 0, 0, 0][..], &value.to_be_bytes()].concat());
    }
}
