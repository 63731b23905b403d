//! The bounded queue of one model. Pure: it is told the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::policy::{Decision, Policy, Timing};

/// A request, as far as the queue looks at it.
pub trait Waiting {
    /// Rows along dimension 0.
    fn elements(&self) -> usize;

    fn deadline(&self) -> Option<Instant>;

    /// Nobody waits for it any more.
    fn is_over(&self) -> bool;

    /// It is being dropped because its deadline has passed: tell whoever waits.
    fn expire(&self);

    /// Whether both can run in one batch.
    fn joins(&self, other: &Self) -> bool;
}

#[derive(Debug)]
pub struct Queue<T> {
    entries: VecDeque<T>,
    /// The sum over `entries`.
    elements: usize,
    policy: Policy,
    pub dropped: Dropped,
}

/// Entries that left the queue without having run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub cancelled: u64,
    pub expired: u64,
}

/// The queue is full: the entry comes back, with the limit in elements.
#[derive(Debug)]
pub struct Full<T> {
    pub entry: T,
    pub limit: usize,
}

impl<T: Waiting> Queue<T> {
    pub fn new(policy: Policy) -> Self {
        Queue { entries: VecDeque::new(), elements: 0, policy, dropped: Dropped::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Elements that wait.
    pub fn elements(&self) -> usize {
        self.elements
    }

    pub fn earliest_deadline(&self) -> Option<Instant> {
        self.entries.iter().filter_map(Waiting::deadline).min()
    }

    /// Add to the end. An empty queue takes a request of any size, or the largest could never run.
    pub fn push(&mut self, entry: T, now: Instant) -> Result<(), Box<Full<T>>> {
        let limit = self.policy.capacity();
        let fits = |queue: &Self| queue.is_empty() || queue.elements.saturating_add(entry.elements()) <= limit;
        if !fits(self) {
            self.sweep(now);
        }
        if !fits(self) {
            return Err(Box::new(Full { entry, limit }));
        }
        self.elements = self.elements.saturating_add(entry.elements());
        self.entries.push_back(entry);
        Ok(())
    }

    /// All that waits, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.elements = 0;
        self.entries.drain(..)
    }

    /// Drop what need not run any more.
    pub fn sweep(&mut self, now: Instant) {
        let dropped = &mut self.dropped;
        self.entries.retain(|entry| {
            if entry.is_over() {
                dropped.cancelled += 1;
                return false;
            }
            let expired = entry.deadline().is_some_and(|deadline| deadline <= now);
            if expired {
                dropped.expired += 1;
                entry.expire();
            }
            !expired
        });
        self.count_again();
    }

    /// Take the next batch: the oldest entry and those that join it, as the policy decides. Entries that do
    /// not join stay where they are.
    pub fn take(&mut self, now: Instant, per_element: Duration) -> Vec<T> {
        self.sweep(now);
        let timing = Timing { now, earliest_deadline: self.earliest_deadline(), per_element };
        let Some(oldest) = self.entries.front() else { return Vec::new() };
        let joining: Vec<usize> = if self.policy.max_batch > 1 {
            let joins = |(_, entry): &(usize, &T)| entry.joins(oldest);
            std::iter::once(0)
                .chain(self.entries.iter().enumerate().skip(1).filter(joins).map(|(index, _)| index))
                .take(self.policy.max_batch)
                .collect()
        } else {
            vec![0]
        };
        let elements = joining.iter().filter_map(|index| self.entries.get(*index)).map(Waiting::elements);
        let Decision::Dispatch(count) = self.policy.decide(elements, timing) else { return Vec::new() };
        // Each removal moves the later ones up by one.
        let taken = joining
            .into_iter()
            .take(count)
            .enumerate()
            .filter_map(|(removed, index)| self.entries.remove(index - removed))
            .collect();
        self.count_again();
        taken
    }

    fn count_again(&mut self) {
        self.elements = self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.elements()));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Debug, Default)]
    struct Request {
        id: u32,
        elements: usize,
        deadline: Option<Instant>,
        kind: u32,
        over: Cell<bool>,
        expired: Cell<bool>,
    }

    impl Waiting for Request {
        fn elements(&self) -> usize {
            self.elements
        }

        fn deadline(&self) -> Option<Instant> {
            self.deadline
        }

        fn is_over(&self) -> bool {
            self.over.get()
        }

        fn expire(&self) {
            self.expired.set(true);
        }

        fn joins(&self, other: &Self) -> bool {
            self.kind == other.kind
        }
    }

    fn request(id: u32) -> Request {
        Request { id, elements: 1, ..Request::default() }
    }

    fn ids(taken: &[Request]) -> Vec<u32> {
        taken.iter().map(|request| request.id).collect()
    }

    fn queue(max_batch: usize) -> Queue<Request> {
        Queue::new(Policy { max_batch })
    }

    #[test]
    fn batches_keep_the_order_and_leave_what_does_not_join() {
        let now = Instant::now();
        let mut queue = queue(3);
        for id in 0..6 {
            queue.push(Request { kind: id % 2, ..request(id) }, now).unwrap();
        }
        assert_eq!(ids(&queue.take(now, Duration::ZERO)), [0, 2, 4]);
        assert_eq!(queue.elements(), 3);
        assert_eq!(ids(&queue.take(now, Duration::ZERO)), [1, 3, 5]);
        assert!(queue.take(now, Duration::ZERO).is_empty());
    }

    #[test]
    fn a_full_queue_names_its_limit() {
        let now = Instant::now();
        let mut queue = queue(1);
        for id in 0..64 {
            queue.push(request(id), now).unwrap();
        }
        let full = queue.push(request(64), now).unwrap_err();
        assert_eq!((full.entry.id, full.limit), (64, 64));
        assert_eq!(ids(&queue.take(now, Duration::ZERO)), [0]);
        queue.push(request(65), now).unwrap();
    }

    #[test]
    fn an_empty_queue_takes_a_request_of_any_size() {
        let now = Instant::now();
        let mut queue = queue(1);
        queue.push(Request { elements: 1000, ..request(0) }, now).unwrap();
        assert!(queue.push(request(1), now).is_err());
        assert_eq!(ids(&queue.take(now, Duration::ZERO)), [0]);
    }

    #[test]
    fn what_nobody_waits_for_is_dropped_and_counted() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut queue = queue(8);
        queue.push(Request { deadline: Some(later), ..request(0) }, now).unwrap();
        queue.push(Request { over: Cell::new(true), ..request(1) }, now).unwrap();
        queue.push(Request { deadline: Some(later + Duration::from_secs(1)), ..request(2) }, now).unwrap();
        assert_eq!(queue.earliest_deadline(), Some(later));
        assert_eq!(ids(&queue.take(later, Duration::ZERO)), [2]);
        assert_eq!(queue.dropped, Dropped { cancelled: 1, expired: 1 });
    }

    #[test]
    fn room_is_made_by_dropping_the_dead() {
        let now = Instant::now();
        let mut queue = queue(1);
        for id in 0..64 {
            queue.push(Request { over: Cell::new(id % 2 == 0), ..request(id) }, now).unwrap();
        }
        queue.push(request(64), now).unwrap();
        assert_eq!(queue.elements(), 33);
    }
}
