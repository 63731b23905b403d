//! How much to run at once. Work-conserving: a lane that is free takes what is there and never waits for
//! more; while all lanes are busy the queue grows into the next batch by itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Requests that fit in no batch still may wait, up to this many elements per model.
const LEAST_CAPACITY: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Elements (rows along dimension 0) per run. 1 means no batching: on CPUs a batch costs as much as its
    /// members one by one.
    pub max_batch: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing waits.
    Idle,
    /// Run this many of the oldest requests that can be joined.
    Dispatch(usize),
}

/// What the policy knows of time.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub now: Instant,
    /// Of everything that waits.
    pub earliest_deadline: Option<Instant>,
    pub per_element: Duration,
}

impl Policy {
    /// Elements that may wait.
    pub fn capacity(&self) -> usize {
        self.max_batch.saturating_mul(4).max(LEAST_CAPACITY)
    }

    /// `elements` of the requests that can be joined, oldest first.
    pub fn decide(&self, elements: impl IntoIterator<Item = usize>, timing: Timing) -> Decision {
        let mut total = 0usize;
        let mut requests = 0;
        for count in elements {
            let grown = total.saturating_add(count);
            // The oldest always goes, even when it alone is more than a batch.
            if requests > 0 && (grown > self.max_batch || timing.is_too_late_for(grown)) {
                break;
            }
            total = grown;
            requests += 1;
        }
        if requests == 0 { Decision::Idle } else { Decision::Dispatch(requests) }
    }
}

impl Timing {
    /// Whether a batch of this size would, by the estimate, miss the earliest deadline. One that is missed
    /// anyway does not hold the others up.
    fn is_too_late_for(&self, elements: usize) -> bool {
        let Some(deadline) = self.earliest_deadline else { return false };
        let left = deadline.saturating_duration_since(self.now);
        let one = self.per_element;
        let all = one.saturating_mul(u32::try_from(elements).unwrap_or(u32::MAX));
        one <= left && all > left
    }
}

/// A moving average of the time one element takes.
#[derive(Debug, Default)]
pub struct Estimate(AtomicU64);

impl Estimate {
    /// Zero before the first run.
    pub fn per_element(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }

    pub fn observe(&self, run: Duration, elements: usize) {
        let sample = run.as_nanos() / elements.max(1) as u128;
        let sample = u64::try_from(sample).unwrap_or(u64::MAX).max(1);
        let before = self.0.load(Relaxed);
        // Racing updates may lose a sample: it is an estimate.
        let after = if before == 0 { sample } else { before - before / 8 + sample / 8 };
        self.0.store(after.max(1), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { max_batch: 8 };

    fn timing(left: Option<u64>, per_element: u64) -> Timing {
        let now = Instant::now();
        let earliest_deadline = left.map(|left| now + Duration::from_millis(left));
        Timing { now, earliest_deadline, per_element: Duration::from_millis(per_element) }
    }

    #[test]
    fn an_idle_lane_takes_what_is_there() {
        assert_eq!(POLICY.decide([], timing(None, 1)), Decision::Idle);
        assert_eq!(POLICY.decide([1], timing(None, 1)), Decision::Dispatch(1));
        assert_eq!(POLICY.decide([1, 2, 3], timing(None, 1)), Decision::Dispatch(3));
    }

    #[test]
    fn batches_are_limited_in_elements() {
        assert_eq!(POLICY.decide([4, 4, 1], timing(None, 1)), Decision::Dispatch(2));
        assert_eq!(POLICY.decide([4, 5], timing(None, 1)), Decision::Dispatch(1));
        assert_eq!(POLICY.decide([100, 1], timing(None, 1)), Decision::Dispatch(1));
        assert_eq!(Policy { max_batch: 1 }.decide([1, 1], timing(None, 1)), Decision::Dispatch(1));
        assert_eq!(POLICY.decide([usize::MAX, usize::MAX], timing(None, 1)), Decision::Dispatch(1));
    }

    #[test]
    fn the_earliest_deadline_keeps_batches_small() {
        assert_eq!(POLICY.decide([1, 1, 1, 1], timing(Some(25), 10)), Decision::Dispatch(2));
        // It will be missed whatever is done: the others need not suffer.
        assert_eq!(POLICY.decide([1, 1, 1, 1], timing(Some(5), 10)), Decision::Dispatch(4));
    }

    #[test]
    fn the_queue_holds_four_batches_and_at_least_64_elements() {
        assert_eq!(Policy { max_batch: 1 }.capacity(), 64);
        assert_eq!(Policy { max_batch: 32 }.capacity(), 128);
    }

    #[test]
    fn the_estimate_follows_the_samples() {
        let estimate = Estimate::default();
        assert_eq!(estimate.per_element(), Duration::ZERO);
        estimate.observe(Duration::from_millis(8), 4);
        assert_eq!(estimate.per_element(), Duration::from_millis(2));
        for _ in 0..100 {
            estimate.observe(Duration::from_millis(10), 1);
        }
        assert!(estimate.per_element() > Duration::from_millis(9));
    }
}
