//! A container's files from outside: `docker cp`, `export` and `diff`, whether it runs or not. Knows no HTTP.
//!
//! - [`view`]: the image and the mounts as one tree, which no path leads out of
//! - [`pack`], [`place`]: parts of it as an archive, and an archive into its volumes
//! - [`seed`]: what the image has where a volume is mounted, into the volume

mod pack;
mod place;
mod seed;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::cell::Cell;
use super::engine::{Containers, Shared};
use super::spec::Mount;
use crate::error::{Error, ErrorKind, Result};

pub use place::Clash;
pub use seed::seed;
use view::{Kind, Last, Node, View};

/// What clients are told of a path before they copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub kind: PathKind,
    /// Permissions.
    pub mode: u32,
    pub modified: SystemTime,
    /// Where a link leads, as a path in the container. Empty for all else.
    pub link_target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    Folder,
    File,
    Link,
    Special,
}

/// How a path differs from the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Modified(String),
    Added(String),
}

/// One container's files. Everything here reads and writes the disk: for threads that may block.
pub struct Files {
    shared: Arc<Shared>,
    cell: Arc<Cell>,
    /// As the caller called the container.
    called: String,
    root: PathBuf,
    view: View,
}

/// A path found, and its last name in docker's reading.
struct Found<'a> {
    way: PathBuf,
    node: Node,
    name: &'a str,
}

impl Containers {
    /// Blocking.
    pub fn files(&self, id: &str) -> Result<Files> {
        let cell = self.shared.cell(id)?;
        let spec = cell.spec();
        let root = self.shared.images.rootfs(&spec.image_id)?;
        let mount = |mount: super::ResolvedMount| Mount {
            source: mount.source,
            target: mount.target,
            read_only: mount.read_only,
        };
        let mounts: Vec<Mount> = cell.mounts(&spec, &self.shared.volumes).into_iter().map(mount).collect();
        let view = View::open(&root, &mounts).map_err(|error| unopened(id, error))?;
        Ok(Files { shared: self.shared.clone(), cell, called: id.to_owned(), root, view })
    }
}

impl Files {
    /// `HEAD archive`.
    pub fn stat(&self, path: &str) -> Result<PathStat> {
        let Found { way, node, name } = self.find(path)?;
        let link_target = match node.kind {
            // Where it leads, whether or not something is there.
            Kind::Link => self.view.reach(&way, Last::Followed).map(|(way, rest)| shown(&way, &rest)),
            _ => Ok(String::new()),
        };
        let (seconds, nanos) = node.modified;
        let modified = SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), nanos);
        let kind = match node.kind {
            Kind::Folder => PathKind::Folder,
            Kind::File => PathKind::File,
            Kind::Link => PathKind::Link,
            Kind::Special => PathKind::Special,
        };
        let link_target = link_target.unwrap_or_default();
        Ok(PathStat { name: name.to_owned(), size: node.size, kind, mode: node.mode, modified, link_target })
    }

    /// `GET archive`: a file, or a folder and what is below. A link at the end of `path` is packed as a link.
    pub fn pack(&self, path: &str, out: &mut dyn Write) -> Result<()> {
        let Found { way, name, .. } = self.find(path)?;
        pack::pack(&self.view, &way, name.as_bytes(), out)?;
        pack::finish(out)
    }

    /// `PUT archive`: unpack into the folder at `path`, which must be there, and in a volume or a writable bind.
    pub fn unpack(&self, path: &str, input: &mut dyn Read, clash: Clash) -> Result<()> {
        check(path)?;
        let way = self.view.resolve(Path::new(path), Last::Followed).map_err(|error| self.unfound(path, error))?;
        let node = self.view.look(&way).map_err(|error| self.unfound(path, error))?;
        if node.kind != Kind::Folder {
            return Err(Error::invalid("extraction point is not a directory"));
        }
        place::check_writable(&self.view, &way)?;
        place::unpack(&self.view, &way, input, clash)?;
        self.shared.tell(&self.cell, "extract-to-dir", &[]);
        Ok(())
    }

    /// Tell the world that somebody copies from here.
    pub fn tell_archive(&self) {
        self.shared.tell(&self.cell, "archive-path", &[]);
    }

    /// The container's root as an archive. What is in volumes is left out, as docker leaves it out; the folders where
    /// they are mounted are there.
    pub fn export(&self, out: &mut dyn Write) -> Result<()> {
        self.shared.tell(&self.cell, "export", &[]);
        let places = self.view.targets().filter(|target| !self.root_has(target)).map(|target| Mount {
            // Nothing is there, so that it is an empty folder.
            source: self.root.join("\u{1}none"),
            target: target.to_string_lossy().into_owned(),
            read_only: true,
        });
        let view =
            View::open(&self.root, &places.collect::<Vec<_>>()).map_err(|error| unopened(&self.called, error))?;
        pack::children(&view, Path::new("/"), b"", out)?;
        pack::finish(out)
    }

    /// What the container's own files differ in from its image's: the folders that mounts needed, once it was started.
    pub fn changes(&self) -> Vec<Change> {
        if self.cell.live().record.started.is_none() {
            return Vec::new();
        }
        let mut changes: Vec<Change> = Vec::new();
        for target in self.view.targets() {
            let made = target.ancestors().take_while(|way| !self.root_has(way)).collect::<Vec<_>>();
            let above = made.last().and_then(|way| way.parent()).filter(|way| *way != Path::new("/"));
            changes.extend(above.map(|way| Change::Modified(way.display().to_string())));
            changes.extend(made.into_iter().map(|way| Change::Added(way.display().to_string())));
        }
        changes.sort_by(|a, b| a.path().cmp(b.path()));
        changes.dedup();
        changes
    }

    fn root_has(&self, way: &Path) -> bool {
        way.strip_prefix("/").is_ok_and(|rest| self.root.join(rest).symlink_metadata().is_ok())
    }

    /// Docker's rules: a slash or `/.` at the end follows a link and asks for a folder.
    fn find<'a>(&self, path: &'a str) -> Result<Found<'a>> {
        check(path)?;
        let as_folder = path.ends_with('/') || path.ends_with("/.") || path == ".";
        let last = if as_folder { Last::Followed } else { Last::Kept };
        let way = self.view.resolve(Path::new(path), last).map_err(|error| self.unfound(path, error))?;
        let node = self.view.look(&way).map_err(|error| self.unfound(path, error))?;
        if as_folder && node.kind != Kind::Folder {
            return Err(Error::invalid(format!("{path} in container {} is not a directory", self.called)));
        }
        // `/..` is the root.
        let name = if way == Path::new("/") && view::base(path) != "." { "/" } else { view::base(path) };
        let name = if name == ".." { "." } else { name };
        Ok(Found { way, node, name })
    }

    fn unfound(&self, path: &str, error: io::Error) -> Error {
        let loops = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        match error.kind() {
            io::ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, format!("Could not find the file {path} in container {}", self.called))
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
                Error::invalid(format!("cannot look up {path} in container {}", self.called)).because(error)
            }
            _ if loops => Error::invalid(format!("cannot look up {path} in container {}", self.called)).because(error),
            _ => {
                Error::new(ErrorKind::Io, format!("cannot look up {path} in container {}", self.called)).because(error)
            }
        }
    }
}

impl Change {
    pub fn path(&self) -> &str {
        match self {
            Change::Modified(path) | Change::Added(path) => path,
        }
    }
}

fn check(path: &str) -> Result<()> {
    if path.contains('\0') {
        return Err(Error::invalid("bad parameter: path must not hold a zero byte"));
    }
    Ok(())
}

fn shown(way: &Path, rest: &Path) -> String {
    let whole = if rest.as_os_str().is_empty() { way.to_owned() } else { way.join(rest) };
    whole.display().to_string()
}

fn unopened(id: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot open the files of container {id}")).because(error)
}
