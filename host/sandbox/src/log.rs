//! A guest's stdout and stderr, as lines into the container's log. Memory is bounded whatever a guest
//! writes: a full log makes the guest wait, and nobody else.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// A longer line is cut into pieces of this size, as Docker does. Bytes.
const LINE: usize = 16 << 10;

/// The most one write may carry. Bytes.
const PERMIT: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogStream {
    Stdout,
    Stderr,
}

/// Where the lines of a container go.
pub trait LogSink: Send + Sync {
    /// Take one line, without its newline; `false` when there is no room now. Never blocks.
    fn try_write(&self, stream: LogStream, line: Bytes) -> bool;

    /// Resolves when there may be room again.
    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// One of an instance's two streams: all handles a guest opens share the line being written.
#[derive(Clone)]
pub(crate) struct LogPipe {
    lines: Arc<Mutex<Lines>>,
    sink: Arc<dyn LogSink>,
}

impl LogPipe {
    pub(crate) fn new(sink: Arc<dyn LogSink>, stream: LogStream) -> LogPipe {
        LogPipe {
            lines: Arc::new(Mutex::new(Lines {
                stream,
                sink: sink.clone(),
                partial: BytesMut::new(),
                waiting: VecDeque::new(),
            })),
            sink,
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Lines {
    stream: LogStream,
    sink: Arc<dyn LogSink>,
    /// The line being written, shorter than [`LINE`].
    partial: BytesMut,
    /// Lines the sink had no room for; at most one permit's worth.
    waiting: VecDeque<Bytes>,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = LINE - self.partial.len();
            let newline = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let end = newline.unwrap_or(room.min(bytes.len()));
            let (part, rest) = bytes.split_at(end);
            self.partial.extend_from_slice(part);
            bytes = if newline.is_some() { rest.get(1..).unwrap_or_default() } else { rest };
            if newline.is_some() || self.partial.len() == LINE {
                let line = self.partial.split().freeze();
                self.waiting.push_back(line);
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(line) = self.waiting.pop_front() {
            if !self.sink.try_write(self.stream, line.clone()) {
                self.waiting.push_front(line);
                return;
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // The instance is gone and nobody is left to wait: what does not fit now is lost, at most one permit.
        if !self.partial.is_empty() {
            let line = self.partial.split().freeze();
            self.waiting.push_back(line);
        }
        self.drain();
    }
}

impl IsTerminal for LogPipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogPipe {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only 0.3 guests ask for this one, and they are refused when their component is loaded.
        Box::new(tokio::io::sink())
    }
}

#[async_trait::async_trait]
impl Pollable for LogPipe {
    async fn ready(&mut self) {
        loop {
            {
                let mut lines = self.lines();
                lines.drain();
                if lines.waiting.is_empty() {
                    return;
                }
            }
            self.sink.ready().await;
        }
    }
}

impl OutputStream for LogPipe {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > PERMIT {
            return Err(StreamError::trap("write is larger than the permit"));
        }
        self.lines().push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let mut lines = self.lines();
        lines.drain();
        Ok(if lines.waiting.is_empty() { PERMIT } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Memory {
        lines: Mutex<Vec<Bytes>>,
        room: usize,
    }

    impl LogSink for Memory {
        fn try_write(&self, _stream: LogStream, line: Bytes) -> bool {
            let mut lines = self.lines.lock().unwrap();
            let fits = lines.len() < self.room;
            if fits {
                lines.push(line);
            }
            fits
        }

        fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn lines_are_joined_split_and_kept_in_order() {
        let sink = Arc::new(Memory { room: 10, ..Memory::default() });
        let pipe = LogPipe::new(sink.clone(), LogStream::Stdout);
        pipe.lines().push(b"one\ntw");
        pipe.lines().push(b"o\n\nlast");
        drop(pipe);
        assert_eq!(*sink.lines.lock().unwrap(), ["one", "two", "", "last"]);
    }

    #[test]
    fn a_long_line_is_cut() {
        let sink = Arc::new(Memory { room: 10, ..Memory::default() });
        LogPipe::new(sink.clone(), LogStream::Stdout).lines().push(&vec![b'x'; LINE * 2 + 1]);
        let sizes: Vec<_> = sink.lines.lock().unwrap().iter().map(Bytes::len).collect();
        assert_eq!(sizes, [LINE, LINE, 1]);
    }

    #[test]
    fn a_full_log_takes_no_more() {
        let sink = Arc::new(Memory { room: 1, ..Memory::default() });
        let mut pipe = LogPipe::new(sink, LogStream::Stderr);
        assert_eq!(pipe.check_write().unwrap(), PERMIT);
        pipe.write(Bytes::from_static(b"a\nb\n")).unwrap();
        assert_eq!(pipe.check_write().unwrap(), 0);
    }
}
