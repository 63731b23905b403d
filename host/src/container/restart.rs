//! Whether and when a container that ended is started again. Pure: no clock, no task.

use std::time::Duration;

use super::spec::RestartPolicy;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Having been up this long counts as having started well: waiting begins anew.
const STEADY: Duration = Duration::from_secs(10);

/// How long to wait before the next start: doubling from 100 ms to a minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackOff {
    last: Option<Duration>,
}

impl BackOff {
    /// `up`: how long it ran this time.
    pub fn next(&mut self, up: Duration) -> Duration {
        let wait = match self.last {
            Some(last) if up < STEADY => (last * 2).min(LONGEST_WAIT),
            _ => FIRST_WAIT,
        };
        self.last = Some(wait);
        wait
    }
}

/// Whether to start it again now that it ended by itself with `code`, after `restarts` restarts since somebody started
/// it.
pub fn again(policy: RestartPolicy, code: i32, restarts: u32) -> bool {
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max } => code != 0 && (max == 0 || restarts < max),
    }
}

/// Whether a starting host brings it back.
pub fn on_boot(policy: RestartPolicy, was_running: bool, by_hand: bool, started_before: bool) -> bool {
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always => started_before,
        RestartPolicy::UnlessStopped => started_before && !by_hand,
        RestartPolicy::OnFailure { .. } => was_running && !by_hand,
    }
}

#[cfg(test)]
mod tests {
    use super::RestartPolicy::*;
    use super::*;

    #[test]
    fn waiting_doubles_to_a_minute_and_begins_anew_after_a_steady_run() {
        let mut back_off = BackOff::default();
        let waits: Vec<_> = (0..12).map(|_| back_off.next(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(back_off.next(STEADY), FIRST_WAIT);
        assert_eq!(back_off.next(STEADY - Duration::from_nanos(1)), FIRST_WAIT * 2);
    }

    #[test]
    fn policies_decide_by_code_and_count() {
        for (policy, code, restarts, restarted) in [
            (No, 1, 0, false),
            (Always, 0, 99, true),
            (UnlessStopped, 0, 99, true),
            (OnFailure { max: 0 }, 0, 0, false),
            (OnFailure { max: 0 }, 1, 99, true),
            (OnFailure { max: 3 }, 1, 2, true),
            (OnFailure { max: 3 }, 1, 3, false),
        ] {
            assert_eq!(again(policy, code, restarts), restarted, "{policy:?}, code {code}, {restarts} restarts");
        }
    }

    #[test]
    fn a_starting_host_brings_back_what_the_policy_says() {
        //   policy                 was running, by hand, started before
        for (policy, was_running, by_hand, started, back) in [
            (No, true, false, true, false),
            (Always, true, false, true, true),
            (Always, false, true, true, true),
            (Always, false, false, false, false),
            (UnlessStopped, true, false, true, true),
            (UnlessStopped, false, true, true, false),
            (UnlessStopped, false, false, false, false),
            (OnFailure { max: 3 }, true, false, true, true),
            (OnFailure { max: 3 }, false, false, true, false),
            (OnFailure { max: 3 }, true, true, true, false),
        ] {
            assert_eq!(on_boot(policy, was_running, by_hand, started), back, "{policy:?} {was_running} {by_hand}");
        }
    }
}
