//! The load generator: a fixed number of callers that each wait for their answer (closed loop), or
//! requests that start at a fixed rate whether or not earlier ones are answered (open loop).
//!
//! In the open loop latency counts from the moment a request was *meant* to start. A server that stalls
//! for a second therefore owes that second to every request of it, not to the one it was serving
//! ("coordinated omission").

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::http::Connection;

/// Open loop: callers kept ready. More requests than this in flight wait for a connection, and that
/// wait is part of their latency.
const OPEN_LOOP_CONNECTIONS: usize = 64;
/// How long requests still in flight at the end of an open loop are waited for.
const DRAIN: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    Closed { connections: usize },
    Open { per_second: f64 },
}

#[derive(Clone, Debug)]
pub struct Load {
    pub address: SocketAddr,
    pub request: Bytes,
    pub pace: Pace,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What one run of a load saw in its measured part.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Ascending.
    pub latencies: Vec<Duration>,
    pub elapsed: Duration,
    /// Answers other than 200, broken connections, and, in an open loop, requests never answered.
    pub errors: u64,
    pub first_error: Option<String>,
    /// Processor time the server used.
    pub server_cpu: Duration,
}

impl Observation {
    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn cpu_per_request(&self) -> Duration {
        self.server_cpu.checked_div(self.latencies.len() as u32).unwrap_or_default()
    }

    /// Nearest-rank percentile; zero when nothing was answered.
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = (percent / 100.0 * self.latencies.len() as f64).ceil() as usize;
        self.latencies.get(rank.max(1) - 1).copied().unwrap_or_default()
    }
}

impl Load {
    /// Run it on a thread of its own, as `wrk -t1` does. `server_cpu` reads the processor time the
    /// server has used so far.
    pub fn run(&self, server_cpu: impl Fn() -> Result<Duration>) -> Result<Observation> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self.pace {
                Pace::Closed { connections } => self.closed(connections, server_cpu).await,
                Pace::Open { per_second } => self.open(per_second, server_cpu).await,
            }
        })
    }

    async fn closed(&self, connections: usize, server_cpu: impl Fn() -> Result<Duration>) -> Result<Observation> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..connections {
            let (mut caller, stop) = (Caller::new(self), stop.clone());
            callers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    caller.call(sent).await;
                }
                caller.log
            });
        }
        tokio::time::sleep(self.warm_up).await;
        let (from, cpu_before) = (Instant::now(), server_cpu()?);
        tokio::time::sleep(self.measured).await;
        let (until, cpu_after) = (Instant::now(), server_cpu()?);
        stop.store(true, Ordering::Relaxed);

        let log = collect(&mut callers, DRAIN).await;
        // By completion: a request under way at either edge counts once, in the window it ends in.
        let latencies = log.answered.iter().filter(|a| (from..until).contains(&a.done)).map(Answer::latency);
        let failures = log.failures.iter().filter(|f| (from..until).contains(&f.at));
        Ok(observation(latencies, failures, until - from, cpu_after.saturating_sub(cpu_before)))
    }

    async fn open(&self, per_second: f64, server_cpu: impl Fn() -> Result<Duration>) -> Result<Observation> {
        let schedule = Arc::new(Schedule::new(per_second));
        let pacer = std::thread::spawn({
            let (schedule, total) = (schedule.clone(), self.warm_up + self.measured);
            move || schedule.release_until(total)
        });
        let mut callers = JoinSet::new();
        for _ in 0..OPEN_LOOP_CONNECTIONS {
            let (mut caller, schedule) = (Caller::new(self), schedule.clone());
            callers.spawn(async move {
                while let Some(intended) = schedule.next().await {
                    caller.call(intended).await;
                }
                caller.log
            });
        }
        let from = schedule.start + self.warm_up;
        let until = from + self.measured;
        tokio::time::sleep_until(from.into()).await;
        let cpu_before = server_cpu()?;
        tokio::time::sleep_until(until.into()).await;
        let cpu_after = server_cpu()?;

        // Normally every request is answered soon after the window. Callers that still have a queue of
        // requests to send after `DRAIN` are told to forget it, and get as long again to come home.
        let mut log = Log::default();
        log.add(collect(&mut callers, DRAIN).await);
        schedule.abandon();
        log.add(collect(&mut callers, DRAIN).await);
        callers.abort_all();
        let _ = pacer.join();

        // By intended start: every request of the window counts, however late its answer.
        let latencies: Vec<_> =
            log.answered.iter().filter(|a| (from..until).contains(&a.start)).map(Answer::latency).collect();
        let failures: Vec<_> = log.failures.iter().filter(|f| (from..until).contains(&f.start)).collect();
        let meant = (self.measured.as_secs_f64() * per_second) as u64;
        let settled = (latencies.len() + failures.len()) as u64;
        let mut observation = observation(
            latencies.into_iter(),
            failures.into_iter(),
            self.measured,
            cpu_after.saturating_sub(cpu_before),
        );
        // A request more or less at the edges of the window is rounding, not loss.
        let unanswered = meant.saturating_sub(settled + 1);
        if unanswered > 0 {
            observation.errors += unanswered;
            observation.first_error.get_or_insert_with(|| format!("{unanswered} requests were not answered in time"));
        }
        Ok(observation)
    }
}

/// When each request of an open loop is due. A thread releases them, because the timers of the async
/// runtime only count whole milliseconds.
struct Schedule {
    start: Instant,
    /// Seconds, and no `Duration`: at high rates whole nanoseconds would change the rate.
    interval: f64,
    released: Semaphore,
    taken: AtomicU64,
    abandoned: AtomicBool,
}

impl Schedule {
    fn new(per_second: f64) -> Self {
        let interval = 1.0 / per_second.max(0.1);
        // The connections get a moment to open before the first request is due.
        let start = Instant::now() + Duration::from_millis(50);
        Self { start, interval, released: Semaphore::new(0), taken: AtomicU64::new(0), abandoned: false.into() }
    }

    fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(self.interval * number as f64)
    }

    fn release_until(&self, total: Duration) {
        let count = (total.as_secs_f64() / self.interval) as u64;
        let mut released = 0;
        while released < count && !self.abandoned.load(Ordering::Relaxed) {
            let due = self.due(released);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let passed = self.start.elapsed().as_secs_f64() / self.interval;
            let now_due = (passed as u64 + 1).clamp(released + 1, count);
            self.released.add_permits((now_due - released) as usize);
            released = now_due;
        }
        while self.taken.load(Ordering::Relaxed) < count && !self.abandoned.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.released.close();
    }

    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.released.close();
    }

    /// Wait for the next request that is due; when it was meant to start. `None` when all were given out.
    async fn next(&self) -> Option<Instant> {
        self.released.acquire().await.ok()?.forget();
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        Some(self.due(number))
    }
}

struct Answer {
    start: Instant,
    done: Instant,
}

impl Answer {
    fn latency(&self) -> Duration {
        self.done - self.start
    }
}

struct Failure {
    start: Instant,
    at: Instant,
    message: String,
}

#[derive(Default)]
struct Log {
    answered: Vec<Answer>,
    failures: Vec<Failure>,
}

impl Log {
    fn add(&mut self, other: Log) {
        self.answered.extend(other.answered);
        self.failures.extend(other.failures);
    }
}

/// One caller: sends the request again and again on one connection, opened anew after an error.
struct Caller {
    address: SocketAddr,
    request: Bytes,
    connection: Option<Connection>,
    log: Log,
}

impl Caller {
    fn new(load: &Load) -> Self {
        Self { address: load.address, request: load.request.clone(), connection: None, log: Log::default() }
    }

    async fn call(&mut self, start: Instant) {
        match self.exchange().await {
            Ok(()) => self.log.answered.push(Answer { start, done: Instant::now() }),
            Err(error) => {
                self.log.failures.push(Failure { start, at: Instant::now(), message: format!("{error:#}") });
                // A server that refuses everything must not turn the generator into a busy loop.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn exchange(&mut self) -> Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.address).await?,
        };
        let response = connection.exchange(&self.request).await?;
        self.connection = Some(connection);
        anyhow::ensure!(response.status == 200, "{}: {}", response.status, String::from_utf8_lossy(&response.body));
        Ok(())
    }
}

/// The logs of the callers that end within `patience`.
async fn collect(callers: &mut JoinSet<Log>, patience: Duration) -> Log {
    let mut log = Log::default();
    let deadline = tokio::time::Instant::now() + patience;
    while let Ok(Some(joined)) = tokio::time::timeout_at(deadline, callers.join_next()).await {
        log.add(joined.unwrap_or_default());
    }
    log
}

fn observation<'a>(
    latencies: impl Iterator<Item = Duration>,
    failures: impl Iterator<Item = &'a Failure>,
    elapsed: Duration,
    server_cpu: Duration,
) -> Observation {
    let mut latencies: Vec<Duration> = latencies.collect();
    latencies.sort_unstable();
    let mut failures = failures.peekable();
    let first_error = failures.peek().map(|f| f.message.clone());
    Observation { latencies, elapsed, errors: failures.count() as u64, first_error, server_cpu }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server that answers every request on a thread of its own after `delay(request number)`.
    fn server(delay: fn(u64) -> Duration, status: &'static str) -> SocketAddr {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let count = Arc::new(AtomicU64::new(0));
                loop {
                    let (mut socket, _) = listener.accept().await.unwrap();
                    let count = count.clone();
                    tokio::spawn(async move {
                        let mut buffer = [0; 4096];
                        while socket.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                            tokio::time::sleep(delay(count.fetch_add(1, Ordering::Relaxed))).await;
                            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok");
                            let _ = socket.write_all(answer.as_bytes()).await;
                        }
                    });
                }
            });
        });
        told.recv().unwrap()
    }

    fn observe(address: SocketAddr, pace: Pace) -> Observation {
        let (warm_up, measured) = (Duration::from_millis(100), Duration::from_millis(500));
        let load = Load { address, request: crate::http::request("GET", "/", "", b""), pace, warm_up, measured };
        load.run(|| Ok(Duration::ZERO)).unwrap()
    }

    #[test]
    fn a_closed_loop_waits_for_each_answer() {
        let address = server(|_| Duration::from_millis(20), "200 OK");
        let seen = observe(address, Pace::Closed { connections: 2 });
        assert_eq!(seen.errors, 0, "{:?}", seen.first_error);
        assert!((10..=52).contains(&seen.latencies.len()), "{} answers", seen.latencies.len());
        assert!(seen.percentile(50.0) >= Duration::from_millis(20));
    }

    #[test]
    fn an_open_loop_keeps_its_rate_while_answers_are_slow() {
        let address = server(|_| Duration::from_millis(50), "200 OK");
        let seen = observe(address, Pace::Open { per_second: 200.0 });
        assert_eq!(seen.errors, 0, "{:?}", seen.first_error);
        assert!((98..=101).contains(&seen.latencies.len()), "{} answers", seen.latencies.len());
    }

    #[test]
    fn a_server_that_cannot_keep_up_owes_the_wait() {
        // 64 connections at 1 s each: 64 answers a second at best, 400 asked for.
        let address = server(|_| Duration::from_secs(1), "200 OK");
        let seen = observe(address, Pace::Open { per_second: 400.0 });
        assert!(seen.errors > 0);
        assert!(seen.latencies.last().unwrap() > &Duration::from_millis(1500), "{:?}", seen.latencies.last());
    }

    #[test]
    fn refusals_are_errors_not_answers() {
        let address = server(|_| Duration::ZERO, "503 Service Unavailable");
        let seen = observe(address, Pace::Closed { connections: 1 });
        assert!(seen.latencies.is_empty() && seen.errors > 0);
        assert_eq!(seen.first_error.as_deref(), Some("503: ok"));
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let latencies = (1..=100).map(Duration::from_millis).collect();
        let (elapsed, server_cpu) = (Duration::from_secs(1), Duration::from_millis(50));
        let seen = Observation { latencies, elapsed, errors: 0, first_error: None, server_cpu };
        assert_eq!(seen.percentile(50.0), Duration::from_millis(50));
        assert_eq!(seen.percentile(99.0), Duration::from_millis(99));
        assert_eq!(seen.percentile(100.0), Duration::from_millis(100));
        assert_eq!(seen.cpu_per_request(), Duration::from_micros(500));
    }
}
