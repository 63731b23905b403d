//! Hostile archives.

use super::*;
use crate::error::ErrorKind;
use crate::image::unpack_context;

fn unpacked(archive: &[u8]) -> (tempfile::TempDir, Result<()>) {
    let folder = tempfile::tempdir().unwrap();
    let result = unpack_context(&mut &archive[..], &folder.path().join("into"));
    (folder, result)
}

#[test]
fn entries_that_leave_the_folder_are_refused() {
    use EntryType as Kind;
    for (kind, name, link, text) in [
        (Kind::Regular, "../x", "", "climbs out"),
        (Kind::Regular, "a/../../x", "", "climbs out"),
        (Kind::Regular, "/etc/x", "", "absolute"),
        (Kind::Directory, "/", "", "absolute"),
        (Kind::Symlink, "x", "../y", "points outside"),
        (Kind::Symlink, "a/x", "../../y", "points outside"),
        (Kind::Link, "x", "../y", "climbs out"),
        (Kind::Link, "x", "/etc/passwd", "absolute"),
        (Kind::Link, "x", "none", "holds no file"),
        (Kind::Char, "x", "", "device or a pipe"),
        (Kind::Block, "x", "", "device or a pipe"),
        (Kind::Fifo, "x", "", "device or a pipe"),
    ] {
        let mut out = Builder::new(Vec::new());
        entry(&mut out, kind, name, link, b"");
        let (folder, result) = unpacked(&out.into_inner().unwrap());
        let error = result.unwrap_err();
        assert!(error.to_string().contains(text), "{kind:?} {name}: {error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn links_are_never_written_through() {
    let mut out = Builder::new(Vec::new());
    entry(&mut out, EntryType::Directory, "dir", "", b"");
    entry(&mut out, EntryType::Symlink, "link", "/dir", b"");
    entry(&mut out, EntryType::Regular, "link/file", "", b"x");
    entry(&mut out, EntryType::Symlink, "etc", "/etc", b"");
    entry(&mut out, EntryType::Link, "stolen", "etc/passwd", b"");
    let (folder, result) = unpacked(&out.into_inner().unwrap());
    assert!(result.unwrap_err().to_string().contains("holds no file"));
    let found = listing(&folder.path().join("into"));
    assert_eq!(found, ["dir/", "etc -> etc", "link/", "link/file = x"]);
}

#[test]
fn the_last_of_equal_names_wins() {
    let mut out = Builder::new(Vec::new());
    entry(&mut out, EntryType::Regular, "a", "", b"first");
    entry(&mut out, EntryType::Link, "b", "a", b"");
    entry(&mut out, EntryType::Regular, "./a", "", b"second");
    entry(&mut out, EntryType::Link, "a", "a", b"");
    entry(&mut out, EntryType::Regular, "c", "", b"");
    entry(&mut out, EntryType::Directory, "c", "", b"");
    let (folder, result) = unpacked(&out.into_inner().unwrap());
    result.unwrap();
    assert_eq!(listing(&folder.path().join("into")), ["a = second", "b = first", "c/"]);
}

#[test]
fn bombs_and_sparse_files_are_refused() {
    let (_folder, result) = unpacked(&bomb(16 << 20));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::TooLarge);

    // Ten gigabytes of nothing, as GNU tar writes them.
    let mut header = header(EntryType::GNUSparse, 512);
    let fields = header.as_gnu_mut().unwrap();
    fields.name[..5].copy_from_slice(b"empty");
    let octal = |number: u64| *format!("{number:011o}\0").as_bytes().first_chunk::<12>().unwrap();
    let ten_gigabytes = 10 << 30;
    fields.sparse[0].offset = octal(0);
    fields.sparse[0].numbytes = octal(512);
    fields.sparse[1].offset = octal(ten_gigabytes / 8);
    fields.sparse[1].numbytes = octal(0);
    fields.realsize = octal(ten_gigabytes / 8);
    header.set_cksum();
    let mut out = Builder::new(Vec::new());
    out.append(&header, &[1; 512][..]).unwrap();
    let (_folder, result) = unpacked(&out.into_inner().unwrap());
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{}", error.chain());
}

#[test]
fn a_name_as_long_as_memory_is_refused() {
    let mut out = Builder::new(Vec::new());
    entry(&mut out, EntryType::GNULongName, "././@LongLink", "", &vec![b'a'; 2 << 20]);
    entry(&mut out, EntryType::Regular, "a", "", b"");
    let (_folder, result) = unpacked(&out.into_inner().unwrap());
    assert!(result.unwrap_err().chain().contains("name and attributes"));
}

/// A Dockerfile and `hello.txt`, as bzip2 and xz pack them.
const BZIP2: &[u8] = include_bytes!("../../../tests/fixtures/context.tar.bz2");
const XZ: &[u8] = include_bytes!("../../../tests/fixtures/context.tar.xz");

#[test]
fn damage_is_told_from_an_end() {
    let whole = tar(&[("a", "content")]);
    for (what, archive) in [
        ("cut in the content", whole[..515].to_vec()),
        ("cut in its last block", tar(&[("a", &"x".repeat(700))])[..512 + 699].to_vec()),
        ("cut in the header", whole[..100].to_vec()),
        ("no tar", b"hello, this is no archive".repeat(40)),
        ("cut gzip", gzip(&whole)[..40].to_vec()),
        ("cut bzip2", BZIP2[..BZIP2.len() - 8].to_vec()),
        ("cut xz", XZ[..XZ.len() - 40].to_vec()),
        ("no bzip2", [b"BZh9", &[0; 600][..]].concat()),
        ("no xz", [&[0xfd, b'7', b'z', b'X', b'Z'], &[0; 600][..]].concat()),
    ] {
        assert_eq!(unpacked(&archive).1.unwrap_err().kind(), ErrorKind::InvalidArgument, "{what}");
    }
    // As Docker's client ends a context whose Dockerfile lies elsewhere: with the last byte, without padding or end.
    let unpadded = whole[..512 + "content".len()].to_vec();
    for archive in [whole.clone(), unpadded, gzip(&whole), zstd::encode_all(&whole[..], 0).unwrap()] {
        let (folder, result) = unpacked(&archive);
        result.unwrap();
        assert_eq!(listing(&folder.path().join("into")), ["a = content"]);
    }
    for archive in [BZIP2, XZ, &XZ.repeat(2)] {
        let (folder, result) = unpacked(archive);
        result.unwrap();
        assert!(listing(&folder.path().join("into")).contains(&"hello.txt = hello\n".to_owned()));
    }
}

#[test]
fn an_archive_may_not_ask_for_all_memory() {
    let mut archive = XZ.to_vec();
    // The block's header ends in its own checksum; before that are the filter's number, one byte, and its dictionary.
    assert_eq!(archive[12..17], [2, 0, 0x21, 1, 22]);
    archive[16] = 40;
    let mut checksum = flate2::Crc::new();
    checksum.update(&archive[12..20]);
    archive[20..24].copy_from_slice(&checksum.sum().to_le_bytes());
    let (_folder, result) = unpacked(&archive);
    let error = result.unwrap_err();
    assert!(error.chain().contains("needed memory too big"), "{}", error.chain());
}
