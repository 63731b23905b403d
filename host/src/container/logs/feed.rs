//! Where a container's lines enter: a bounded queue towards the disk, and a copy to each attached client. Neither drops
//! a line: with either full, the guest waits. Only a client that takes nothing for a long time is let go.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use super::journal::Journal;
use super::line::Line;
use super::writer::Queue;
use crate::container::runtime::{BoxFuture, Output, Stream};

/// Lines on their way to the disk, per container.
const LINES: usize = 512;

/// Bytes of them; a line is at most 16 KiB.
const BYTES: usize = 256 << 10;

/// Lines on their way to one attached client.
const ATTACHED: usize = 512;

/// How long a full client may take nothing before it is let go: a terminal may be stopped for a while, but a service
/// must not stand still for ever because somebody forgot one.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Feed {
    /// `None` with `--log-driver none`.
    journal: Option<Arc<Journal>>,
    queue: Queue,
    state: Mutex<State>,
    room: Notify,
    /// Lines that reached the journal.
    written: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Line>,
    bytes: usize,
    accepted: u64,
    /// Stands in the writer's queue, or is being written.
    queued: bool,
    attached: Vec<Client>,
}

#[derive(Clone)]
struct Client {
    lines: mpsc::Sender<(Stream, Bytes)>,
    stdout: bool,
    stderr: bool,
}

impl Client {
    fn wants(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

impl Feed {
    pub fn new(journal: Option<Arc<Journal>>, queue: Queue) -> Arc<Feed> {
        let (state, room) = (Mutex::default(), Notify::new());
        Arc::new(Feed { journal, queue, state, room, written: watch::Sender::new(0) })
    }

    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref()
    }

    /// Counts lines that were written.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Everything written from now on.
    pub fn attach(&self, stdout: bool, stderr: bool) -> mpsc::Receiver<(Stream, Bytes)> {
        let (lines, receiver) = mpsc::channel(ATTACHED);
        self.state().attached.push(Client { lines, stdout, stderr });
        receiver
    }

    /// Clients see the end once they have taken what is there.
    pub fn detach_all(&self) {
        self.state().attached.clear();
        self.room.notify_waiters();
    }

    /// Resolves once everything accepted so far is in the log.
    pub async fn flushed(&self) {
        let accepted = self.state().accepted;
        // The sender is in `self`, so it cannot end.
        let _ = self.written.subscribe().wait_for(|written| *written >= accepted).await;
    }

    /// A turn of the writer; `true` if there is more.
    pub fn write_some(&self, lines: usize) -> bool {
        let batch: Vec<Line> = {
            let mut state = self.state();
            let count = lines.min(state.waiting.len());
            state.waiting.drain(..count).collect()
        };
        if let Some(journal) = &self.journal {
            journal.append(&batch);
        }
        let more = {
            let mut state = self.state();
            state.bytes -= batch.iter().map(|line| line.text.len()).sum::<usize>();
            state.queued = !state.waiting.is_empty();
            state.queued
        };
        self.written.send_modify(|written| *written += batch.len() as u64);
        self.room.notify_waiters();
        more
    }

    fn accept(self: &Arc<Self>, stream: Stream, text: Bytes) -> bool {
        let mut state = self.state();
        if self.blocked(&mut state, Some(stream)).is_some() {
            return false;
        }
        if state.attached.iter().any(|client| client.wants(stream)) {
            let mut line = BytesMut::with_capacity(text.len() + 1);
            line.extend_from_slice(&text);
            line.extend_from_slice(b"\n");
            let line = line.freeze();
            for client in state.attached.iter().filter(|client| client.wants(stream)) {
                // There is room, as only this feed sends; one that has gone meanwhile needs no line.
                let _ = client.lines.try_send((stream, line.clone()));
            }
        }
        if self.journal.is_none() {
            return true;
        }
        state.bytes += text.len();
        state.accepted += 1;
        state.waiting.push_back(Line { time: SystemTime::now(), stream, text });
        if !state.queued {
            state.queued = true;
            drop(state);
            self.queue.push(self.clone());
        }
        true
    }

    /// What keeps a line of this stream (or of any) from being taken.
    fn blocked(&self, state: &mut State, stream: Option<Stream>) -> Option<Blocked> {
        state.attached.retain(|client| !client.lines.is_closed());
        if state.waiting.len() >= LINES || state.bytes >= BYTES {
            return Some(Blocked::Disk);
        }
        let wanting = |client: &&Client| stream.is_none_or(|stream| client.wants(stream));
        let mut full = state.attached.iter().filter(wanting).filter(|client| client.lines.capacity() == 0);
        full.next().map(|client| Blocked::Client(client.lines.clone()))
    }

    async fn ready(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let blocked = self.blocked(&mut self.state(), None);
            match blocked {
                None => return,
                Some(Blocked::Disk) => room.await,
                Some(Blocked::Client(lines)) => {
                    if timeout(PATIENCE, lines.reserve()).await.is_err() {
                        tracing::warn!(
                            "an attached client has taken nothing for {} s and is let go",
                            PATIENCE.as_secs()
                        );
                        self.state().attached.retain(|client| !client.lines.same_channel(&lines));
                    }
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Blocked {
    Disk,
    Client(mpsc::Sender<(Stream, Bytes)>),
}

/// A feed as the runtime sees it.
pub struct Sink(pub Arc<Feed>);

impl Output for Sink {
    fn try_write(&self, stream: Stream, line: Bytes) -> bool {
        self.0.accept(stream, line)
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.ready())
    }
}
