//! Signals: SIGTERM and SIGINT ask for a shutdown, once politely and once more at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;

use crate::error::{Error, ErrorKind, Result};

pub struct Signals(Mutex<(Signal, Signal)>);

impl Signals {
    /// From here on SIGTERM and SIGINT no longer kill the process.
    pub fn install() -> Result<Signals> {
        let install =
            |kind| signal(kind).map_err(|error| Error::new(ErrorKind::Io, "cannot handle signals").because(error));
        Ok(Signals(Mutex::new((install(SignalKind::terminate())?, install(SignalKind::interrupt())?))))
    }

    /// Wait for the next signal.
    pub async fn wait(&self) {
        let mut signals = self.0.lock().await;
        let (terminate, interrupt) = &mut *signals;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
