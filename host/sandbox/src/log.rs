//! A guest's stdout and stderr as lines into the container's log. Memory is bounded whatever a guest
//! writes: a full log makes the guest wait, and nobody else.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// A longer line is cut into pieces of this size, as Docker does. Bytes.
const LINE: usize = 16 << 10;

/// The most one write may carry. Bytes.
pub(crate) const PERMIT: usize = 64 << 10;

/// The most that waits for room. Each handle a guest has opened may come with a permit of its own, and nothing makes
/// a guest ask for one: whoever writes beyond this is trapped. Bytes.
pub(crate) const WAITING: usize = 4 * PERMIT;

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
                waiting_bytes: 0,
            })),
            sink,
        }
    }

    /// Resolves when the log has taken everything, a last line without its newline too.
    pub(crate) async fn finish(&mut self) {
        self.lines().end_line();
        self.ready().await;
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
    /// Lines the sink had no room for.
    waiting: VecDeque<Bytes>,
    /// Their bytes, newlines included.
    waiting_bytes: usize,
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
                self.queue_partial();
            }
        }
        self.drain();
    }

    fn end_line(&mut self) {
        if !self.partial.is_empty() {
            self.queue_partial();
        }
    }

    fn queue_partial(&mut self) {
        let line = self.partial.split().freeze();
        self.waiting_bytes += line.len() + 1;
        self.waiting.push_back(line);
    }

    fn drain(&mut self) {
        while let Some(line) = self.waiting.pop_front() {
            if !self.sink.try_write(self.stream, line.clone()) {
                self.waiting.push_front(line);
                return;
            }
            self.waiting_bytes -= line.len() + 1;
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // The instance is gone and nobody is left to wait: what does not fit now is lost.
        self.end_line();
        self.drain();
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
        let mut lines = self.lines();
        if lines.waiting_bytes + bytes.len() > WAITING {
            return Err(StreamError::trap("write without a permit"));
        }
        lines.push(&bytes);
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

    #[test]
    fn who_ignores_a_full_log_is_trapped() {
        let mut pipe = LogPipe::new(Arc::new(Memory::default()), LogStream::Stderr);
        let write = Bytes::from(vec![b'\n'; PERMIT]);
        let written = std::iter::repeat_with(|| pipe.write(write.clone())).take_while(Result::is_ok).count();
        assert_eq!(written, WAITING / PERMIT);
        assert!(matches!(pipe.write(write), Err(StreamError::Trap(_))));
    }

    #[tokio::test]
    async fn an_ended_guest_leaves_nothing_behind() {
        let sink = Arc::new(Memory { room: 2, ..Memory::default() });
        let mut pipe = LogPipe::new(sink.clone(), LogStream::Stdout);
        pipe.write(Bytes::from_static(b"a\nb")).unwrap();
        pipe.finish().await;
        assert_eq!(*sink.lines.lock().unwrap(), ["a", "b"]);
    }
}
