//! One container's log on disk, as its writer and its readers share it. A full disk costs lines, never the container:
//! they are counted, and the log says so when there is room again.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use super::file::{LogFile, Rotation, existing};
use super::line::{Line, encode};
use crate::container::runtime::Stream;

/// Files a reader may be behind; one that reads slower than that misses lines.
const BEHIND: usize = 64;

pub struct Journal {
    path: PathBuf,
    rotation: Rotation,
    attrs: Mutex<BTreeMap<String, String>>,
    /// Held while a batch is written or the files are opened for reading: both are short, and neither waits.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Opened by the first line, closed when the container ends.
    file: Option<LogFile>,
    followers: Vec<Weak<Follower>>,
    /// Lines lost since the last one that was written.
    lost: u64,
}

/// A reader that goes on: files begun since it opened the log.
#[derive(Default)]
pub struct Follower {
    files: Mutex<VecDeque<File>>,
}

/// The files of a log at one instant, oldest first.
pub struct Opened {
    pub files: Vec<File>,
    /// Bytes of whole lines in the last one.
    pub last_size: u64,
    pub follower: Option<Arc<Follower>>,
}

impl Journal {
    pub fn new(path: PathBuf, rotation: Rotation, attrs: BTreeMap<String, String>) -> Journal {
        Journal { path, rotation, attrs: Mutex::new(attrs), inner: Mutex::default() }
    }

    /// Lines carry these from now on.
    pub fn set_attrs(&self, attrs: BTreeMap<String, String>) {
        *self.attrs.lock().unwrap_or_else(PoisonError::into_inner) = attrs;
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Never fails: what cannot be written is counted. Blocking.
    pub fn append(&self, lines: &[Line]) {
        let attrs = self.attrs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let inner = &mut *self.inner();
        let opened = match &mut inner.file {
            Some(file) => Ok(file),
            none => LogFile::open(&self.path, self.rotation).map(|file| none.insert(file)),
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) => return self.lose(&mut inner.lost, lines.len() as u64, &error),
        };
        let mut batch = Batch::default();
        let remark = (inner.lost > 0).then(|| lost(inner.lost));
        for (line, counts) in remark.iter().map(|line| (line, 0)).chain(lines.iter().map(|line| (line, 1))) {
            let mut encoded = Vec::new();
            encode(line, &attrs, &mut encoded);
            if !file.fits(batch.bytes.len(), encoded.len()) {
                self.flush(file, &mut inner.lost, &mut batch);
                self.rotate(file, &mut inner.followers);
            }
            batch.bytes.extend_from_slice(&encoded);
            batch.lines += counts;
        }
        self.flush(file, &mut inner.lost, &mut batch);
    }

    fn flush(&self, file: &mut LogFile, lost: &mut u64, batch: &mut Batch) {
        let batch = std::mem::take(batch);
        if batch.bytes.is_empty() {
            return;
        }
        match file.append(&batch.bytes) {
            Ok(()) => *lost = 0,
            Err(error) => self.lose(lost, batch.lines, &error),
        }
    }

    /// Said once per full disk, not once per line.
    fn lose(&self, lost: &mut u64, lines: u64, error: &io::Error) {
        if *lost == 0 {
            tracing::warn!("cannot write {}: {error}: lines are lost until there is room", self.path.display());
        }
        *lost += lines;
    }

    fn rotate(&self, file: &mut LogFile, followers: &mut Vec<Weak<Follower>>) {
        if let Err(error) = file.rotate() {
            tracing::warn!("cannot rotate {}: {error}: the file goes on growing", self.path.display());
            return;
        }
        followers.retain(|follower| follower.strong_count() > 0);
        for follower in followers.iter().filter_map(Weak::upgrade) {
            follower.offer(&self.path);
        }
    }

    /// For reading; blocking. `last_size` leaves out a line that a crash cut.
    pub fn open(&self, follow: bool) -> io::Result<Opened> {
        let mut inner = self.inner();
        // A follower waits on the file that will be written, so there must be one.
        if follow && inner.file.is_none() {
            inner.file = Some(LogFile::open(&self.path, self.rotation)?);
        }
        let last_size = inner.file.as_ref().map(LogFile::size);
        let files = existing(&self.path, self.rotation.max_file)?;
        let last_size = match (last_size, files.last()) {
            (Some(size), _) => size,
            (None, Some(file)) => file.metadata()?.len(),
            (None, None) => 0,
        };
        let follower = follow.then(Arc::<Follower>::default);
        inner.followers.extend(follower.iter().map(Arc::downgrade));
        Ok(Opened { files, last_size, follower })
    }

    /// Until the next line.
    pub fn close(&self) {
        self.inner().file = None;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    fn offer(&self, path: &Path) {
        let mut files = self.files();
        if files.len() == BEHIND {
            files.pop_front();
        }
        match File::open(path) {
            Ok(file) => files.push_back(file),
            Err(error) => tracing::warn!("a reader loses {}: {error}", path.display()),
        }
    }

    pub fn has_next(&self) -> bool {
        !self.files().is_empty()
    }

    pub fn next(&self) -> Option<File> {
        self.files().pop_front()
    }

    fn files(&self) -> MutexGuard<'_, VecDeque<File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

fn lost(count: u64) -> Line {
    let text = format!("wharf: {count} lines of this log were lost: they could not be written to the disk");
    Line { time: SystemTime::now(), stream: Stream::Stderr, text: text.into() }
}
