//! What transfers under way keep from each other and from the collector: one download of a blob at a time, whoever
//! wants it, and no collecting meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::image::{Digest, Hold, Images};

#[derive(Default)]
pub struct Flights(Mutex<HashMap<Digest, Arc<AsyncMutex<()>>>>);

impl Flights {
    /// Wait until nobody else fetches `digest`. Then look whether it is there already.
    pub async fn enter(&self, digest: &Digest) -> OwnedMutexGuard<()> {
        let flight = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            flights.retain(|_, flight| Arc::strong_count(flight) > 1);
            flights.entry(digest.clone()).or_default().clone()
        };
        flight.lock_owned().await
    }
}

/// A [`Hold`] for async code: the last one to go may start the collector, which blocks.
pub struct Held(Option<Hold>);

impl Held {
    pub fn new(images: &Images) -> Held {
        Held(Some(images.hold()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let hold = self.0.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(hold));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_and_nothing_is_kept() {
        let flights = Flights::default();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let first = flights.enter(&one).await;
        let other = flights.enter(&two).await;
        assert!(tokio::time::timeout(std::time::Duration::ZERO, flights.enter(&one)).await.is_err());
        drop((first, other));
        drop(flights.enter(&one).await);
        assert!(flights.0.lock().unwrap().len() <= 1);
    }
}
