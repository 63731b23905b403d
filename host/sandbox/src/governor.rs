//! One container's hold on its instances: what they have used together, and what keeps them back: its share of the
//! processor, its memory limit, a pause.
//!
//! Every poll of a guest goes through [`Governor::run`], which is where all of it happens:
//!
//! - **Pause.** While the container is paused no poll reaches a guest. One that is computing stands still at
//!   its next epoch; calls, checks and jobs that come meanwhile wait.
//! - **Processor share.** As the kernel's CFS quota: in each period of 100 ms the container may use `nano_cpus` × 100 ms
//!   of processor time, over all its instances; whoever asks for more sleeps until the next period. A poll lasts until
//!   the guest waits or yields, so a period may be overrun by a few milliseconds per instance; the overrun is taken from
//!   the periods that follow.
//! - **Metering.** Two looks at the clock around each poll. What the poll spent inside a model, or in another container's
//!   guest whose answer it was reading, is kept apart.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The span over which a processor share is kept.
const PERIOD: Duration = Duration::from_millis(100);

/// The least time a container gets in a period, whatever it was given: Docker's own floor.
const LEAST_QUOTA: Duration = Duration::from_millis(1);

const NANO_CPUS_PER_CPU: u128 = 1_000_000_000;

/// The hold on one container's instances. Clones are the same hold: give one to the jobs that run inside a
/// service's container.
#[derive(Clone, Debug, Default)]
pub struct Governor(Arc<Inner>);

/// What a container has used, and uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time of guest code and of the host's work for it, such as pictures; without models.
    pub cpu: Duration,
    /// Time guests spent inside a model on their own thread. A model's other threads are not counted here.
    pub model: Duration,
    /// Instances alive, idle ones too.
    pub instances: u64,
    /// Bytes they hold: linear memories, pictures, tensors.
    pub memory: u64,
    pub memory_peak: u64,
    /// Calls and jobs that ended for lack of memory.
    pub out_of_memory: u64,
    pub throttling: Throttling,
}

/// How often and how long its processor share held a container back: what a cgroup's `cpu.stat` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods of 100 ms in which a guest asked for time while there was a share.
    pub periods: u64,
    /// Those of them in which it was made to wait.
    pub throttled_periods: u64,
    /// From the first wait of each such period to its end.
    pub throttled_time: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    /// Nanoseconds.
    cpu: AtomicU64,
    model: AtomicU64,
    instances: AtomicU64,
    memory: AtomicU64,
    memory_peak: AtomicU64,
    out_of_memory: AtomicU64,

    /// Bytes; 0 as long as the guest's own limit counts.
    memory_limit: AtomicUsize,
    /// 0 for no cap.
    nano_cpus: AtomicU64,
    /// Looked at only while there is a cap.
    period: Mutex<Option<Period>>,
    paused: AtomicBool,
    unpaused: Notify,
}

impl Governor {
    pub fn usage(&self) -> Usage {
        let Inner { cpu, model, instances, memory, memory_peak, out_of_memory, .. } = &*self.0;
        Usage {
            cpu: Duration::from_nanos(cpu.load(Ordering::Relaxed)),
            model: Duration::from_nanos(model.load(Ordering::Relaxed)),
            instances: instances.load(Ordering::Relaxed),
            memory: memory.load(Ordering::Relaxed),
            memory_peak: memory_peak.load(Ordering::Relaxed),
            out_of_memory: out_of_memory.load(Ordering::Relaxed),
            throttling: self.0.period().map(|period| period.throttling).unwrap_or_default(),
        }
    }

    /// Billionths of a processor all instances together may use; `None` or 0 lifts the cap. Counts at once.
    pub fn set_nano_cpus(&self, nano_cpus: Option<u64>) {
        self.0.nano_cpus.store(nano_cpus.unwrap_or(0), Ordering::Relaxed);
    }

    /// Memory limit in bytes of instances made from now on, in place of [`crate::state::Guest::memory`].
    pub fn set_memory(&self, bytes: usize) {
        self.0.memory_limit.store(bytes, Ordering::Relaxed);
    }

    /// Guest code stands still, within one epoch, until [`Governor::unpause`].
    pub fn pause(&self) {
        self.0.paused.store(true, Ordering::SeqCst);
    }

    pub fn unpause(&self) {
        self.0.paused.store(false, Ordering::SeqCst);
        self.0.unpaused.notify_waiters();
    }

    pub fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::SeqCst)
    }

    /// Drive `guest`, letting it run only when it may. `around` is made before each poll and dropped after it.
    pub(crate) async fn run<T, A>(&self, around: impl Fn() -> A, guest: impl Future<Output = T>) -> T {
        let mut guest = pin!(guest);
        let mut wait = None;
        poll_fn(|context| {
            ready!(self.poll_turn(&mut wait, context));
            let _around = around();
            let _turn = Turn::new(&self.0);
            guest.as_mut().poll(context)
        })
        .await
    }

    /// Ready when guest code may run.
    fn poll_turn(&self, wait: &mut Option<Wait>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(waiting) = wait {
                ready!(waiting.as_mut().poll(context));
                *wait = None;
            }
            // What was waited for may be gone again: another instance took the period's time, or a second pause came.
            if !self.is_paused() && self.0.late(Instant::now).is_none() {
                return Poll::Ready(());
            }
            *wait = Some(Box::pin(self.clone().turn()));
        }
    }

    async fn turn(self) {
        loop {
            let unpaused = self.0.unpaused.notified();
            if self.is_paused() {
                unpaused.await;
            } else if let Some(until) = self.0.late(Instant::now) {
                tokio::time::sleep_until(until.into()).await;
            } else {
                return;
            }
        }
    }

    pub(crate) fn memory_limit(&self) -> Option<usize> {
        Some(self.0.memory_limit.load(Ordering::Relaxed)).filter(|limit| *limit != 0)
    }

    pub(crate) fn instance_made(&self) {
        self.0.instances.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn instance_gone(&self) {
        self.0.instances.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn held(&self, bytes: usize) {
        let before = self.0.memory.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.memory_peak.fetch_max(before + bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn released(&self, bytes: usize) {
        self.0.memory.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn ran_out_of_memory(&self) {
        self.0.out_of_memory.fetch_add(1, Ordering::Relaxed);
    }
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Inner {
    /// Processor time per period; `None` without a cap.
    fn quota(&self) -> Option<Duration> {
        match self.nano_cpus.load(Ordering::Relaxed) {
            0 => None,
            nano_cpus => {
                let nanos = PERIOD.as_nanos() * u128::from(nano_cpus) / NANO_CPUS_PER_CPU;
                Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(LEAST_QUOTA))
            }
        }
    }

    /// Until when the container has used its share up.
    fn late(&self, now: impl Fn() -> Instant) -> Option<Instant> {
        let quota = self.quota()?;
        let now = now();
        self.period().get_or_insert(Period::new(now)).late(now, quota)
    }

    fn period(&self) -> MutexGuard<'_, Option<Period>> {
        self.period.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn charge(&self, cpu: u64, model: u64) {
        self.cpu.fetch_add(cpu, Ordering::Relaxed);
        if model > 0 {
            self.model.fetch_add(model, Ordering::Relaxed);
        }
        if self.nano_cpus.load(Ordering::Relaxed) > 0
            && let Some(period) = &mut *self.period()
        {
            period.used += Duration::from_nanos(cpu + model);
        }
    }
}

/// The running period, and what of its time is used; more than a period's when an overrun is still to be paid.
#[derive(Clone, Copy, Debug)]
struct Period {
    start: Instant,
    used: Duration,
    /// Somebody was made to wait in it.
    throttled: bool,
    /// Of this period and those before it.
    throttling: Throttling,
}

impl Period {
    fn new(start: Instant) -> Period {
        let throttling = Throttling { periods: 1, ..Throttling::default() };
        Period { start, used: Duration::ZERO, throttled: false, throttling }
    }

    fn late(&mut self, now: Instant, quota: Duration) -> Option<Instant> {
        let passed = now.saturating_duration_since(self.start).as_nanos() / PERIOD.as_nanos();
        if passed > 0 {
            (self.start, self.used) = match u32::try_from(passed) {
                Ok(passed) => (self.start + PERIOD * passed, self.used.saturating_sub(quota.saturating_mul(passed))),
                // Idle for years.
                Err(_) => (now, Duration::ZERO),
            };
            self.throttled = false;
            self.throttling.periods += 1;
        }
        if self.used < quota {
            return None;
        }
        let end = self.start + PERIOD;
        if !std::mem::replace(&mut self.throttled, true) {
            self.throttling.throttled_periods += 1;
            self.throttling.throttled_time += end.saturating_duration_since(now);
        }
        Some(end)
    }
}

thread_local! {
    /// Nanoseconds of the poll under way on this thread that are not its guest's own.
    static APART: Cell<Apart> = const { Cell::new(Apart { model: 0, other: 0 }) };
}

#[derive(Clone, Copy, Default)]
struct Apart {
    /// Inside models.
    model: u64,
    /// In polls of other containers' guests, nested in this one.
    other: u64,
}

/// One poll of a guest.
struct Turn<'a> {
    inner: &'a Inner,
    start: Instant,
    outer: Apart,
}

impl<'a> Turn<'a> {
    fn new(inner: &'a Inner) -> Turn<'a> {
        Turn { inner, outer: APART.take(), start: Instant::now() }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let elapsed = nanos(self.start.elapsed());
        let Apart { model, other } = APART.replace(Apart { other: self.outer.other + elapsed, ..self.outer });
        self.inner.charge(elapsed.saturating_sub(model + other), model);
    }
}

/// Run a model on the guest's thread: its time is not the guest's own.
pub(crate) fn model_now<T>(run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let answer = run();
    let apart = APART.get();
    APART.set(Apart { model: apart.model + nanos(start.elapsed()), ..apart });
    answer
}

/// [`model_now`] for each poll of `model`.
pub(crate) async fn model<T>(model: impl Future<Output = T>) -> T {
    let mut model = pin!(model);
    poll_fn(|context| model_now(|| model.as_mut().poll(context))).await
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_share_is_kept_per_period_and_an_overrun_is_paid_back() {
        let start = Instant::now();
        let quota = 20 * MS;
        let mut period = Period::new(start);
        assert_eq!(period.late(start, quota), None);
        period.used += 19 * MS;
        assert_eq!(period.late(start + 50 * MS, quota), None, "1 ms is left");
        period.used += 31 * MS;
        assert_eq!(period.late(start + 60 * MS, quota), Some(start + 100 * MS));
        assert_eq!(period.late(start + 100 * MS, quota), Some(start + 200 * MS), "30 ms of 50 are still owed");
        assert_eq!(period.late(start + 230 * MS, quota), None);
        assert_eq!(period.used, 10 * MS);
        assert_eq!(period.late(start + 900 * MS, quota), None);
        assert_eq!(period.used, Duration::ZERO, "idle time is not saved up");
        // The first and three that were begun later; 40 ms were left of the first, the second was owed as a whole.
        let counted = Throttling { periods: 4, throttled_periods: 2, throttled_time: 140 * MS };
        assert_eq!(period.throttling, counted);
    }

    #[test]
    fn quotas_follow_docker() {
        let governor = Governor::default();
        assert_eq!(governor.0.quota(), None);
        for (nano_cpus, quota) in
            [(500_000_000, 50 * MS), (4_000_000_000, 400 * MS), (1, MS), (u64::MAX, u32::MAX * MS)]
        {
            governor.set_nano_cpus(Some(nano_cpus));
            let seen = governor.0.quota().unwrap();
            assert!(seen == quota || (nano_cpus == u64::MAX && seen > quota), "{nano_cpus}: {seen:?}");
        }
        governor.set_nano_cpus(None);
        assert_eq!(governor.0.quota(), None);
    }

    #[test]
    fn models_and_other_guests_are_kept_apart() {
        let (caller, callee) = (Governor::default(), Governor::default());
        let spin = |span: Duration| {
            let start = Instant::now();
            while start.elapsed() < span {}
        };
        {
            let _turn = Turn::new(&caller.0);
            model_now(|| spin(4 * MS));
            let _nested = Turn::new(&callee.0);
            spin(2 * MS);
            model_now(|| spin(3 * MS));
        }
        let (caller, callee) = (caller.usage(), callee.usage());
        // Upper bounds would be a matter of luck on a busy machine; sums are not.
        assert!(caller.model >= 4 * MS && callee.model >= 3 * MS && callee.cpu >= 2 * MS, "{caller:?} {callee:?}");
        assert_eq!(APART.get().other, nanos(callee.cpu + callee.model + caller.cpu + caller.model));
    }

    #[tokio::test]
    async fn a_paused_guest_is_not_polled() {
        let governor = Governor::default();
        governor.pause();
        let polled = Cell::new(0);
        let mut run = pin!(governor.run(|| (), async { polled.set(polled.get() + 1) }));
        assert!(poll_once(run.as_mut()).await.is_pending());
        assert_eq!(polled.get(), 0);
        governor.unpause();
        governor.pause();
        assert!(poll_once(run.as_mut()).await.is_pending(), "paused again before it got its turn");
        governor.unpause();
        run.await;
        assert_eq!(polled.get(), 1);
    }

    async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
    }
}
