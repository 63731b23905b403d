//! Files by path, over the folders the host has opened.

use crate::bindings::wasi::cli::environment;
use crate::bindings::wasi::filesystem::preopens;
use crate::bindings::wasi::filesystem::types::{Descriptor, DescriptorFlags, DescriptorType, OpenFlags, PathFlags};
use crate::bindings::wasi::io::streams::OutputStream;
use crate::streams;

pub fn read(path: &str, to: &OutputStream) -> Result<(), String> {
    let file = open(path, OpenFlags::empty(), DescriptorFlags::READ)?;
    let stream = file.read_via_stream(0).map_err(|error| format!("cannot read {path}: {error}"))?;
    streams::copy(&stream, to)
}

/// In place of what was there.
pub fn write(path: &str, bytes: &[u8]) -> Result<(), String> {
    let file = create(path)?;
    let stream = file.write_via_stream(0).map_err(|error| format!("cannot write {path}: {error}"))?;
    streams::write(&stream, bytes)
}

pub fn copy(from: &str, to: &str) -> Result<(), String> {
    let file = create(to)?;
    let stream = file.write_via_stream(0).map_err(|error| format!("cannot write {to}: {error}"))?;
    read(from, &stream)
}

/// One name a line, sorted.
pub fn list(path: &str) -> Result<String, String> {
    let folder = open(path, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
    let failed = |error| format!("cannot list {path}: {error}");
    let entries = folder.read_directory().map_err(failed)?;
    let mut names = Vec::new();
    while let Some(entry) = entries.read_directory_entry().map_err(failed)? {
        let end = if entry.type_ == DescriptorType::Directory { "/\n" } else { "\n" };
        names.push(entry.name + end);
    }
    names.sort();
    Ok(names.concat())
}

fn create(path: &str) -> Result<Descriptor, String> {
    open(path, OpenFlags::CREATE | OpenFlags::TRUNCATE, DescriptorFlags::WRITE)
}

fn open(path: &str, how: OpenFlags, rights: DescriptorFlags) -> Result<Descriptor, String> {
    let absolute = absolute(path, environment::initial_cwd().as_deref());
    let opened = preopens::get_directories();
    // The folder nearest to the file: volumes lie inside of the image's root.
    let inside = opened.iter().filter_map(|(folder, name)| Some((folder, within(&absolute, name)?)));
    let Some((folder, rest)) = inside.min_by_key(|(_, rest)| rest.len()) else {
        return Err(format!("cannot open {path}: no folder that holds it is open to this job"));
    };
    let rest = if rest.is_empty() { "." } else { rest };
    folder.open_at(PathFlags::SYMLINK_FOLLOW, rest, how, rights).map_err(|error| format!("cannot open {path}: {error}"))
}

fn absolute(path: &str, folder: Option<&str>) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", folder.unwrap_or_default().trim_end_matches('/')),
    }
}

/// `path` as seen from `folder`, if it lies in there.
fn within<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}
