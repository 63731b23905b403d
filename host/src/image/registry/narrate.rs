//! What is told of a transfer while it goes on, in Docker's words and not too often.

use std::time::{Duration, Instant};

use crate::image::Progress;

/// Between two reports on one layer: as often as a terminal is redrawn.
const INTERVAL: Duration = Duration::from_millis(100);

pub type Listener<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// One layer's story.
pub struct Story<'a> {
    listener: Listener<'a>,
    id: String,
    last: Option<Instant>,
}

impl<'a> Story<'a> {
    pub fn new(listener: Listener<'a>, id: &str) -> Story<'a> {
        Story { listener, id: id.to_owned(), last: None }
    }

    pub fn tell(&mut self, status: &str) {
        self.last = None;
        (self.listener)(Progress::Status {
            id: Some(self.id.clone()),
            status: status.to_owned(),
            current: None,
            total: None,
        });
    }

    /// `current` of `total` bytes, told if the last time is long enough ago, and at the end.
    pub fn moved(&mut self, status: &str, current: u64, total: u64) {
        if current < total && self.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return;
        }
        self.last = Some(Instant::now());
        (self.listener)(Progress::Status {
            id: Some(self.id.clone()),
            status: status.to_owned(),
            current: Some(current),
            total: Some(total),
        });
    }
}

/// Of the whole, not of one layer.
pub fn tell(listener: Listener<'_>, status: String) {
    listener(Progress::Status { id: None, status, current: None, total: None });
}
