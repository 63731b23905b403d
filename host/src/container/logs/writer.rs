//! The one thread that writes all logs. Containers with waiting lines stand in a queue, and each gets a small turn: one
//! that floods delays the others by one turn each, and waits itself.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::feed::Feed;
use crate::error::{Error, ErrorKind, Result};

/// Lines of one turn.
const TURN: usize = 64;

/// Dropping it ends the thread once all waiting lines are written.
pub struct LogWriter {
    queue: Queue,
}

/// Containers with waiting lines.
#[derive(Clone, Default)]
pub struct Queue {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    feeds: Mutex<Feeds>,
    more: Condvar,
}

#[derive(Default)]
struct Feeds {
    waiting: VecDeque<Arc<Feed>>,
    closed: bool,
}

impl LogWriter {
    pub fn start() -> Result<LogWriter> {
        let queue = Queue::default();
        let thread = std::thread::Builder::new().name("wharf-logs".to_owned());
        let work = queue.clone();
        thread.spawn(move || work.work()).map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot start the thread that writes logs").because(error)
        })?;
        Ok(LogWriter { queue })
    }

    pub fn queue(&self) -> Queue {
        self.queue.clone()
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.queue.feeds().closed = true;
        self.queue.shared.more.notify_all();
    }
}

impl Queue {
    /// The feed sees to it that it stands here once at most.
    pub fn push(&self, feed: Arc<Feed>) {
        self.feeds().waiting.push_back(feed);
        self.shared.more.notify_one();
    }

    fn work(&self) {
        while let Some(feed) = self.pop() {
            if feed.write_some(TURN) {
                self.push(feed);
            }
        }
    }

    fn pop(&self) -> Option<Arc<Feed>> {
        let mut feeds = self.feeds();
        loop {
            if let Some(feed) = feeds.waiting.pop_front() {
                return Some(feed);
            }
            if feeds.closed {
                return None;
            }
            feeds = self.shared.more.wait(feeds).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn feeds(&self) -> MutexGuard<'_, Feeds> {
        self.shared.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
