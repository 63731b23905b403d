//! When a running guest must let others have the thread.
//!
//! The epoch goes on while a guest waits for a model in the host. Were it to yield at its first instruction after
//! that, each such request would go through tokio's queue once more, mostly to another thread that has to be woken:
//! some 0.1 ms where the cores are busy.

use std::time::{Duration, Instant};

use crate::engine::EPOCH;

/// The longest without a yield, the host's work included: how late a caller that left may be noticed.
const LONGEST: Duration = EPOCH.saturating_mul(10);

/// One guest's time since it last yielded.
pub(crate) struct Turn {
    began: Instant,
    /// Of it, what the host worked for the guest.
    hosted: Duration,
}

impl Turn {
    pub(crate) fn begin() -> Turn {
        Turn { began: Instant::now(), hosted: Duration::ZERO }
    }

    /// What began at `since` and ends now was the host's work, not the guest's.
    pub(crate) fn hosted_since(&mut self, since: Instant) {
        self.hosted += since.elapsed();
    }

    /// Whether it is over. Looked at once an epoch at most.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over_after(self.began.elapsed())
    }

    fn is_over_after(&self, total: Duration) -> bool {
        total.saturating_sub(self.hosted) >= EPOCH || total >= LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_work_does_not_count() {
        let turn = Turn { hosted: EPOCH * 3, ..Turn::begin() };
        assert!(!turn.is_over_after(EPOCH * 3));
        assert!(turn.is_over_after(EPOCH * 4));
        assert!(Turn::begin().is_over_after(EPOCH));
    }

    #[test]
    fn a_guest_that_only_calls_the_host_yields_too() {
        let turn = Turn { hosted: LONGEST, ..Turn::begin() };
        assert!(turn.is_over_after(LONGEST));
    }
}
