//! COPY and ADD: which files, and where they go in the image. Texts are Docker's, because people search for them.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::files::{Content, Files, Workspace};
use super::ignore::Ignore;
use super::instruction::Copying;
use super::{BuildHooks, pattern, settings, wasm};
use crate::error::{Error, ErrorKind, Result};
use crate::image::durable::failed;
use crate::image::tree;
use crate::image::unpack::{self, Purpose};

/// Where an archive says that it is one.
const TAR_MAGIC: (u64, &[u8]) = (257, b"ustar");

/// One COPY or ADD, with its words expanded.
pub struct Copier<'a> {
    pub copying: &'a Copying,
    /// Where sources lie.
    pub from: &'a Path,
    /// What of them takes no part; `None` for another stage.
    pub ignore: Option<&'a Ignore>,
    /// The stage's files so far.
    pub existing: &'a Path,
    pub working_dir: &'a str,
    pub hooks: &'a dyn BuildHooks,
    pub workspace: &'a Workspace,
}

/// A source: its path in `from`, and on this machine.
struct Found {
    path: PathBuf,
    whole: PathBuf,
}

impl Copier<'_> {
    pub fn files(&self) -> Result<Files> {
        let mut files = Files::default();
        self.collect(&mut files).map_err(|error| {
            let text = format!("{} failed: {error}", self.copying.keyword());
            let kind = error.kind();
            match std::error::Error::source(&error).map(ToString::to_string) {
                Some(cause) => Error::new(kind, text).because(cause),
                None => Error::new(kind, text),
            }
        })?;
        Ok(files)
    }

    fn collect(&self, files: &mut Files) -> Result<()> {
        let (mut found, mut documents) = (Vec::new(), Vec::new());
        for source in &self.copying.sources {
            match self.copying.document(source) {
                Some(document) => documents.push(document),
                None => found.extend(self.find(source)?),
            }
        }
        let target = &self.copying.target;
        let names_folder = target.ends_with('/') || matches!(target.rsplit('/').next(), Some("." | ".."));
        if found.len() + documents.len() > 1 && !names_folder {
            return Err(Error::invalid(format!(
                "When using {} with more than one source file, the destination must be a directory and end with a /",
                self.copying.keyword()
            )));
        }
        let target = self.real(settings::resolve(self.working_dir, target).trim_start_matches('/'));
        let is_folder = names_folder || self.existing.join(&target).is_dir();
        let place = |name: &Path| if is_folder { target.join(name) } else { target.clone() };
        for document in documents {
            let content = Content::Bytes(document.content.clone().into_bytes());
            files.put(place(Path::new(&document.name)), content, self.copying.mode)?;
        }
        for found in found {
            if found.whole.is_dir() {
                self.folder(files, &found, &target)?;
            } else if self.copying.unpack && is_archive(&found.whole)? {
                self.archive(files, &found.whole, &target)?;
            } else {
                let name = found.path.file_name().unwrap_or_default();
                let content = self.content(&found.whole)?;
                files.put(place(Path::new(name)), content, self.copying.mode)?;
            }
        }
        Ok(())
    }

    /// A folder's content: the folder itself is what the target names.
    fn folder(&self, files: &mut Files, found: &Found, target: &Path) -> Result<()> {
        self.expect_folder(target)?;
        files.put(target.to_owned(), Content::Folder, self.copying.mode)?;
        for path in tree::walk(&found.whole)? {
            if !self.excludes(&found.path.join(&path)) {
                self.put(files, target.join(&path), &found.whole.join(&path))?;
            }
        }
        Ok(())
    }

    fn archive(&self, files: &mut Files, archive: &Path, target: &Path) -> Result<()> {
        self.expect_folder(target)?;
        let into = self.workspace.fresh();
        let mut input = File::open(archive).map_err(|error| failed("read", archive, error))?;
        unpack::unpack(&mut input, &into, Purpose::Files)?;
        files.put(target.to_owned(), Content::Folder, self.copying.mode)?;
        for path in tree::walk(&into)? {
            self.put(files, target.join(&path), &into.join(&path))?;
        }
        Ok(())
    }

    fn expect_folder(&self, target: &Path) -> Result<()> {
        match self.existing.join(target).metadata() {
            Ok(meta) if !meta.is_dir() => {
                Err(Error::invalid(format!("cannot copy to non-directory: /{}", target.display())))
            }
            _ => Ok(()),
        }
    }

    /// One entry of a folder, as it is.
    fn put(&self, files: &mut Files, path: PathBuf, whole: &Path) -> Result<()> {
        let meta = whole.symlink_metadata().map_err(|error| failed("read", whole, error))?;
        let content = if meta.is_dir() {
            Content::Folder
        } else if meta.is_symlink() {
            let target = fs::read_link(whole).map_err(|error| failed("read", whole, error))?;
            Content::Link(tree::link_target(&path, &target)?)
        } else {
            self.content(whole)?
        };
        files.put(path, content, self.copying.mode)
    }

    /// A file; a core module as the component that can run here.
    fn content(&self, whole: &Path) -> Result<Content> {
        if !whole.metadata().is_ok_and(|meta| meta.is_file()) {
            let name = whole.file_name().unwrap_or_default();
            return Err(Error::invalid(format!("{name:?} is a device or a pipe: leave it out of the context")));
        }
        if whole.extension().is_some_and(|extension| extension == "wasm") && wasm::is_core_module(whole) {
            let module = fs::read(whole).map_err(|error| failed("read", whole, error))?;
            let component = self.hooks.componentise(&module).map_err(|error| {
                let name = whole.file_name().unwrap_or_default().display();
                Error::new(error.kind(), format!("{name}: {}", error.chain()))
            })?;
            if let Some(component) = component {
                return Ok(Content::Bytes(component));
            }
        }
        Ok(Content::File(whole.to_owned()))
    }

    fn excludes(&self, path: &Path) -> bool {
        self.ignore.is_some_and(|ignore| ignore.excludes(&path.to_string_lossy()))
    }

    fn find(&self, source: &str) -> Result<Vec<Found>> {
        let path = self.clean(source)?;
        if pattern::is_pattern(source) {
            let text = path.to_string_lossy();
            let mut found = Vec::new();
            for path in tree::walk(self.from)? {
                if pattern::matches(&text, &path.to_string_lossy()) && !self.is_absent(&path) {
                    found.push(self.one(path, source)?);
                }
            }
            if found.is_empty() {
                return Err(Error::invalid("no source files were specified"));
            }
            return Ok(found);
        }
        if self.is_absent(&path) {
            return Err(self.missing(source));
        }
        Ok(vec![self.one(path, source)?])
    }

    /// The source's path without `.` and `..`.
    fn clean(&self, source: &str) -> Result<PathBuf> {
        let mut clean = PathBuf::new();
        for component in Path::new(source).components() {
            match component {
                Component::Normal(name) => clean.push(name),
                Component::ParentDir if !clean.pop() && self.ignore.is_some() => {
                    let text = format!("forbidden path outside the build context: {source} ()");
                    return Err(Error::invalid(text));
                }
                _ => {}
            }
        }
        Ok(clean)
    }

    /// Excluded. Of an excluded folder something may have been taken back.
    fn is_absent(&self, path: &Path) -> bool {
        let whole = self.from.join(path);
        let has_more =
            || tree::walk(&whole).is_ok_and(|below| below.iter().any(|more| !self.excludes(&path.join(more))));
        self.excludes(path) && !(whole.is_dir() && has_more())
    }

    /// A link is followed, but not out of the place it is in.
    fn one(&self, path: PathBuf, source: &str) -> Result<Found> {
        let root = self.from.canonicalize().map_err(|error| failed("read", self.from, error))?;
        let whole = root.join(&path).canonicalize().map_err(|_| self.missing(source))?;
        if !whole.starts_with(&root) {
            return Err(Error::invalid(format!("forbidden path outside the build context: {source} ()")));
        }
        Ok(Found { path, whole })
    }

    fn missing(&self, source: &str) -> Error {
        let stat = format!("stat {}: file does not exist", source.trim_start_matches('/'));
        let text = match self.ignore {
            Some(_) => format!("file not found in build context or excluded by .dockerignore: {stat}"),
            None => stat,
        };
        Error::new(ErrorKind::InvalidArgument, text)
    }

    /// Where a path of the image leads when its links are followed.
    fn real(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        let Ok(root) = self.existing.canonicalize() else { return path.to_owned() };
        for above in path.ancestors() {
            let Ok(whole) = root.join(above).canonicalize() else { continue };
            let Ok(real) = whole.strip_prefix(&root) else { break };
            let rest = path.strip_prefix(above).into_iter().flat_map(Path::components);
            return rest.fold(real.to_owned(), |real, name| real.join(name));
        }
        path.to_owned()
    }
}

fn is_archive(path: &Path) -> Result<bool> {
    let file = File::open(path).map_err(|error| failed("read", path, error))?;
    let (offset, magic) = TAR_MAGIC;
    let mut head = Vec::new();
    let plain = unpack::decompress(file)?;
    // What cannot be unpacked is a file like any other.
    let read = plain.take(offset + magic.len() as u64).read_to_end(&mut head);
    Ok(read.is_ok() && head.ends_with(magic) && head.len() as u64 == offset + magic.len() as u64)
}
