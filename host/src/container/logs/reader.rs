//! Reads a log back: the last lines, or those of a span of time, and then what is still being written. Survives
//! rotation: the files it needs are open before anybody renames them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Buf, BytesMut};
use tokio::sync::watch;
use tokio::time::Instant;

use super::feed::Feed;
use super::file::last_lines;
use super::journal::{Follower, Journal, Opened};
use super::line::decode;
use super::{LogEntry, LogQuery};
use crate::container::runtime::Stream;
use crate::error::{Error, ErrorKind, Result};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

pub struct LogReader {
    query: LogQuery,
    files: VecDeque<Part>,
    follower: Option<Arc<Follower>>,
    buffer: BytesMut,
    written: watch::Receiver<u64>,
    /// Whether the container may still write.
    alive: watch::Receiver<bool>,
    end: Option<Instant>,
}

/// A file, and how many of its bytes are meant.
struct Part {
    file: File,
    left: u64,
}

impl LogReader {
    pub async fn open(feed: &Feed, alive: watch::Receiver<bool>, query: LogQuery) -> Result<LogReader> {
        let Some(journal) = feed.journal().cloned() else {
            let message = "configured logging driver does not support reading";
            return Err(Error::new(ErrorKind::Unimplemented, message));
        };
        let follow = query.follow && *alive.borrow();
        let written = feed.written();
        // What was accepted before this call is part of the answer.
        feed.flushed().await;
        let opened = tokio::task::spawn_blocking(move || parts(&journal, follow, query.tail)).await;
        let (files, follower) = opened
            .map_err(io::Error::other)
            .and_then(|opened| opened)
            .map_err(|error| Error::new(ErrorKind::Io, "cannot open the container's log").because(error))?;
        let left = query.until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
        let end = left.map(|left| Instant::now() + left);
        Ok(LogReader { query, files, follower, buffer: BytesMut::new(), written, alive, end })
    }

    /// `None` at the end: of the log, of the span, or of the container when following.
    pub async fn next(&mut self) -> Option<LogEntry> {
        loop {
            while let Some(entry) = self.take_line() {
                if self.query.until.is_some_and(|until| entry.time > until) {
                    return None;
                }
                if self.is_wanted(&entry) {
                    return Some(entry);
                }
            }
            // In this order: what is seen before a read that finds nothing held for all that was written.
            self.written.borrow_and_update();
            let rotated = self.files.len() > 1 || self.follower.as_ref().is_some_and(|follower| follower.has_next());
            let alive = *self.alive.borrow_and_update() && self.alive.has_changed().is_ok();
            match self.fill().await {
                Ok(0) => {}
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!("reading a container's log ends: {error}");
                    return None;
                }
            }
            if rotated {
                self.advance();
            } else if self.follower.is_none() || !alive || !self.more().await {
                return None;
            }
        }
    }

    fn is_wanted(&self, entry: &LogEntry) -> bool {
        let stream = match entry.stream {
            Stream::Stdout => self.query.stdout,
            Stream::Stderr => self.query.stderr,
        };
        stream && self.query.since.is_none_or(|since| entry.time >= since)
    }

    fn take_line(&mut self) -> Option<LogEntry> {
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            if let Some(entry) = decode(&line) {
                return Some(entry);
            }
        }
    }

    /// Bytes read from the current file.
    async fn fill(&mut self) -> io::Result<usize> {
        let Some(mut part) = self.files.pop_front() else { return Ok(0) };
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::new();
            let read = (&mut part.file).take(part.left.min(CHUNK as u64)).read_to_end(&mut chunk);
            (part, read.map(|_| chunk))
        });
        let (mut part, chunk) = read.await.map_err(io::Error::other)?;
        let chunk = chunk?;
        part.left -= chunk.len() as u64;
        self.files.push_front(part);
        self.buffer.extend_from_slice(&chunk);
        Ok(chunk.len())
    }

    fn advance(&mut self) {
        self.files.pop_front();
        // A line that a crash cut, at the end of a file that was put aside: it never becomes whole.
        self.buffer.clear();
        if self.files.is_empty() {
            let next = self.follower.as_ref().and_then(|follower| follower.next());
            self.files.extend(next.map(|file| Part { file, left: u64::MAX }));
        }
    }

    /// Waits for more; `false` when the span is over.
    async fn more(&mut self) -> bool {
        let (written, alive) = (&mut self.written, &mut self.alive);
        let changed = async {
            tokio::select! {
                // An error means that the container is gone: then there is one more look, and the end.
                _ = written.changed() => {}
                _ = alive.wait_for(|alive| !alive) => {}
            }
        };
        match self.end {
            Some(end) => tokio::time::timeout_at(end, changed).await.is_ok(),
            None => {
                changed.await;
                true
            }
        }
    }
}

/// The files to read, each at its place. Blocking.
fn parts(journal: &Journal, follow: bool, tail: Option<usize>) -> io::Result<(VecDeque<Part>, Option<Arc<Follower>>)> {
    let Opened { files, last_size, follower } = journal.open(follow)?;
    let mut parts = VecDeque::new();
    let mut wanted = tail;
    for (from_end, mut file) in files.into_iter().rev().enumerate() {
        if from_end > 0 && wanted == Some(0) {
            break;
        }
        let last = from_end == 0;
        let length = if last { last_size } else { file.metadata()?.len() };
        let mut start = 0;
        if let Some(wanted) = &mut wanted {
            let (from, found) = last_lines(&mut file, length, *wanted)?;
            *wanted -= found;
            start = from;
        }
        file.seek(SeekFrom::Start(start))?;
        let left = if last && follow { u64::MAX } else { length - start };
        parts.push_front(Part { file, left });
    }
    Ok((parts, follower))
}
