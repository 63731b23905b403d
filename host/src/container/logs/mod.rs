//! What containers write: kept in Docker's json-file format, given to whoever asks, live or later.
//!
//! A line goes from the guest into its container's [`feed`], which is bounded: a guest that floods waits, nobody else.
//! One thread ([`writer`]) takes from all feeds in turn and appends to each container's [`journal`], which rotates its
//! [`file`](mod@file)s, some of them `packed`. [`reader`] reads them back; [`line`](mod@line) is the format.
//!
//! It must never know a container's state: a reader is told by a flag when no more will come.

pub mod attributes;
pub mod feed;
pub mod file;
pub mod journal;
pub mod line;
mod packed;
pub mod reader;
pub mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

pub use self::reader::LogReader;
use super::runtime::Stream;

/// `docker logs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    pub follow: bool,
    /// The last so many lines; `None` is all.
    pub tail: Option<usize>,
    pub since: Option<SystemTime>,
    pub until: Option<SystemTime>,
    pub stdout: bool,
    pub stderr: bool,
}

impl Default for LogQuery {
    fn default() -> Self {
        LogQuery { follow: false, tail: None, since: None, until: None, stdout: true, stderr: true }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub time: SystemTime,
    pub stream: Stream,
    /// With its newline.
    pub text: Bytes,
    /// `--log-opt labels=…, env=…`, as `logs --details` shows them.
    pub attrs: Arc<BTreeMap<String, String>>,
}
