//! An instance's standard streams: what it reads comes from a channel, what it writes goes to the container's log line
//! by line or, for whoever watches a job, to a channel as it was written.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::log::{LogPipe, LogSink, LogStream, PERMIT, WAITING};

/// Where a guest's output goes.
#[derive(Clone)]
pub enum Output {
    /// To a log, a line at a time.
    Lines(Arc<dyn LogSink>),
    /// As it was written, at most 64 KiB at a time. A full channel makes the guest wait; one that nobody reads any more
    /// takes everything.
    Chunks(mpsc::Sender<(LogStream, Bytes)>),
}

/// stdout or stderr of one instance. Clones, and all handles a guest opens, are the same stream.
#[derive(Clone)]
pub(crate) struct Stdout {
    pipe: Pipe,
    terminal: bool,
}

#[derive(Clone)]
enum Pipe {
    Lines(LogPipe),
    Chunks(ChunkPipe),
}

impl Stdout {
    pub(crate) fn new(output: &Output, stream: LogStream, terminal: bool) -> Stdout {
        let pipe = match output {
            Output::Lines(sink) => Pipe::Lines(LogPipe::new(sink.clone(), stream)),
            Output::Chunks(channel) => Pipe::Chunks(ChunkPipe::new(channel.clone(), stream)),
        };
        Stdout { pipe, terminal }
    }

    /// Resolves when all that was written has been taken.
    pub(crate) async fn finish(&mut self) {
        match &mut self.pipe {
            Pipe::Lines(pipe) => pipe.finish().await,
            Pipe::Chunks(pipe) => pipe.ready().await,
        }
    }
}

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdoutStream for Stdout {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        match &self.pipe {
            Pipe::Lines(pipe) => Box::new(pipe.clone()),
            Pipe::Chunks(pipe) => Box::new(pipe.clone()),
        }
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only 0.3 guests ask for this one, and they are refused when their component is loaded.
        Box::new(tokio::io::sink())
    }
}

#[derive(Clone)]
struct ChunkPipe {
    stream: LogStream,
    channel: mpsc::Sender<(LogStream, Bytes)>,
    /// Chunks the channel had no room for.
    waiting: Arc<Mutex<VecDeque<Bytes>>>,
}

impl ChunkPipe {
    fn new(channel: mpsc::Sender<(LogStream, Bytes)>, stream: LogStream) -> ChunkPipe {
        ChunkPipe { stream, channel, waiting: Arc::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing waits any more.
    fn drain(&self, waiting: &mut VecDeque<Bytes>) -> bool {
        while let Some(chunk) = waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full((_, chunk))) = self.channel.try_send((self.stream, chunk)) {
                waiting.push_front(chunk);
                return false;
            }
        }
        true
    }
}

#[async_trait::async_trait]
impl Pollable for ChunkPipe {
    async fn ready(&mut self) {
        while !self.drain(&mut self.waiting()) {
            // The place itself is given back: the other stream may take it, and then this one waits again.
            let _ = self.channel.reserve().await;
        }
    }
}

impl OutputStream for ChunkPipe {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > PERMIT {
            return Err(StreamError::trap("write is larger than the permit"));
        }
        let mut waiting = self.waiting();
        if waiting.iter().map(Bytes::len).sum::<usize>() + bytes.len() > WAITING {
            return Err(StreamError::trap("write without a permit"));
        }
        if !bytes.is_empty() {
            waiting.push_back(bytes);
        }
        self.drain(&mut waiting);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if self.drain(&mut self.waiting()) { PERMIT } else { 0 })
    }
}

/// stdin of one instance. All handles a guest opens read from the same place.
#[derive(Clone)]
pub(crate) struct Stdin {
    source: Arc<Mutex<Source>>,
    terminal: bool,
}

struct Source {
    /// `None` after the end.
    channel: Option<mpsc::Receiver<Bytes>>,
    buffer: Bytes,
}

impl Stdin {
    /// `None` is an empty stdin.
    pub(crate) fn new(channel: Option<mpsc::Receiver<Bytes>>, terminal: bool) -> Stdin {
        Stdin { source: Arc::new(Mutex::new(Source { channel, buffer: Bytes::new() })), terminal }
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Ready when there are bytes, or will never be any.
    fn poll_fill(&mut self, context: &mut std::task::Context<'_>) -> Poll<()> {
        while self.buffer.is_empty()
            && let Some(channel) = &mut self.channel
        {
            match ready!(channel.poll_recv(context)) {
                Some(bytes) => self.buffer = bytes,
                None => self.channel = None,
            }
        }
        Poll::Ready(())
    }

    /// What is there now, without waiting.
    fn fill(&mut self) {
        while self.buffer.is_empty()
            && let Some(channel) = &mut self.channel
        {
            match channel.try_recv() {
                Ok(bytes) => self.buffer = bytes,
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => self.channel = None,
            }
        }
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdinStream for Stdin {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        // Only 0.3 guests ask for this one, and they are refused when their component is loaded.
        Box::new(tokio::io::empty())
    }
}

#[async_trait::async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {
        poll_fn(|context| self.source().poll_fill(context)).await;
    }
}

#[async_trait::async_trait]
impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut source = self.source();
        source.fill();
        if source.buffer.is_empty() && source.channel.is_none() {
            return Err(StreamError::Closed);
        }
        let size = size.min(source.buffer.len());
        Ok(source.buffer.split_to(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn chunks_pass_as_they_are_and_wait_for_room() {
        let (sender, mut chunks) = mpsc::channel(1);
        let mut pipe = ChunkPipe::new(sender, LogStream::Stderr);
        pipe.write(Bytes::from_static(b"one\npar")).unwrap();
        pipe.write(Bytes::from_static(b"tial")).unwrap();
        assert_eq!(pipe.check_write().unwrap(), 0);
        assert_eq!(chunks.recv().await.unwrap(), (LogStream::Stderr, Bytes::from_static(b"one\npar")));
        pipe.ready().await;
        assert_eq!(pipe.check_write().unwrap(), PERMIT);
        assert_eq!(chunks.recv().await.unwrap().1, "tial");
        drop(chunks);
        assert_eq!(pipe.check_write().unwrap(), PERMIT, "whom nobody reads may still write");
        pipe.write(Bytes::from_static(b"lost")).unwrap();
        pipe.ready().await;
    }

    #[test]
    fn who_ignores_a_full_channel_is_trapped() {
        let (sender, _chunks) = mpsc::channel(1);
        let mut pipe = ChunkPipe::new(sender, LogStream::Stdout);
        let write = Bytes::from(vec![0; PERMIT]);
        let written = std::iter::repeat_with(|| pipe.write(write.clone())).take_while(Result::is_ok).count();
        assert_eq!(written, 1 + WAITING / PERMIT);
    }

    #[tokio::test]
    async fn input_is_shared_between_handles_and_ends() {
        let (sender, receiver) = mpsc::channel(4);
        let mut stdin = Stdin::new(Some(receiver), false);
        let mut second = stdin.clone();
        assert_eq!(stdin.read(4).unwrap(), "", "nothing yet, and no end");
        for chunk in ["", "hello"] {
            sender.send(Bytes::from_static(chunk.as_bytes())).await.unwrap();
        }
        stdin.ready().await;
        assert_eq!(stdin.read(2).unwrap(), "he");
        assert_eq!(second.read(9).unwrap(), "llo");
        drop(sender);
        second.ready().await;
        assert!(matches!(stdin.read(1), Err(StreamError::Closed)));
        assert!(matches!(Stdin::new(None, false).read(1), Err(StreamError::Closed)));
    }
}
