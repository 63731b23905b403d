//! Lines of containers, on their way to whoever keeps them. The channel is bounded: a guest that floods its
//! log waits, and nobody else does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use wharf_sandbox::log::{LogSink, LogStream};

/// Lines under way; each is at most 16 KiB.
const LINES: usize = 1024;

/// One line of a container's output, without its newline.
#[derive(Clone, Debug)]
pub struct LogLine {
    pub container: Arc<str>,
    pub stream: LogStream,
    pub text: Bytes,
}

/// Where a container's lines enter.
#[derive(Clone)]
pub struct ContainerLog {
    container: Arc<str>,
    lines: mpsc::Sender<LogLine>,
}

/// The channel that all containers of a host write to: make a [`ContainerLog`] of the sender for each.
pub fn channel() -> (mpsc::Sender<LogLine>, mpsc::Receiver<LogLine>) {
    mpsc::channel(LINES)
}

impl ContainerLog {
    pub fn new(container: impl Into<Arc<str>>, lines: mpsc::Sender<LogLine>) -> ContainerLog {
        ContainerLog { container: container.into(), lines }
    }
}

impl LogSink for ContainerLog {
    fn try_write(&self, stream: LogStream, text: Bytes) -> bool {
        let line = LogLine { container: self.container.clone(), stream, text };
        // A closed channel means the host is stopping: the line is dropped, the guest need not wait.
        !matches!(self.lines.try_send(line), Err(mpsc::error::TrySendError::Full(_)))
    }

    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            // The place itself is given back: another line of this container may take it first, and then the
            // writer simply waits again.
            let _ = self.lines.reserve().await;
        })
    }
}
