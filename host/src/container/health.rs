//! Health checks: what a `HEALTHCHECK` means here, and what its results add up to. Pure: no clock, no task.
//!
//! A component has no shell and no `curl`, and needs neither: the forms people write for a web service are read as what
//! they mean, a path that must answer. `CMD` with a component of the image runs it.

use std::collections::VecDeque;
use std::time::Duration;

use super::runtime::{Probe, ProbeResult};
use super::snapshot::{HealthReport, HealthStatus, ProbeRecord};
use super::spec::Healthcheck;
use crate::error::{Error, Result};

/// Results kept for `inspect`.
const KEPT: usize = 5;

/// Bytes kept of a check's output.
const OUTPUT: usize = 4096;

/// `None`: no check, as `NONE` and an empty test say.
pub fn parse(test: &[String]) -> Result<Option<Probe>> {
    let words: Vec<&str> = test.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["NONE"] | [""] => Ok(None),
        ["CMD-SHELL", line] => shell(line).map(Some),
        ["CMD", argv @ ..] if !argv.is_empty() => command(argv).map(Some),
        _ => Err(Error::invalid(format!(
            "Unknown healthcheck type '{}' (expected 'CMD', 'CMD-SHELL' or 'NONE')",
            words.first().copied().unwrap_or_default()
        ))),
    }
}

fn command(argv: &[&str]) -> Result<Probe> {
    if let Some(path) = http_path(argv) {
        return Ok(Probe::Http(path));
    }
    let is_component = argv.first().is_some_and(|program| program.starts_with('/') && program.ends_with(".wasm"));
    if is_component || argv.len() > 1 && argv.first().is_some_and(|program| program.starts_with('/')) {
        return Ok(Probe::Exec(argv.iter().map(|word| (*word).to_owned()).collect()));
    }
    Err(unknown(&argv.join(" ")))
}

/// One command of a shell line; `|| exit 1` says nothing new.
fn shell(line: &str) -> Result<Probe> {
    let first = line.split("||").next().unwrap_or_default().trim();
    let words: Vec<&str> = first.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
    if ["&&", "|", ";", "$(", "`"].iter().any(|operator| first.contains(operator)) {
        return Err(unknown(line));
    }
    command(&words).map_err(|_| unknown(line))
}

fn unknown(line: &str) -> Error {
    Error::invalid(format!(
        "health check `{line}` cannot run: a component has no shell. Write the path that must answer, e.g. HEALTHCHECK CMD \
         /healthz, or a component of the image, e.g. HEALTHCHECK CMD [\"/check.wasm\"]"
    ))
}

/// `/healthz`, `curl … URL`, `wget … URL`.
fn http_path(argv: &[&str]) -> Option<String> {
    match argv {
        [path] if path.starts_with('/') && !path.ends_with(".wasm") => Some((*path).to_owned()),
        [program, options @ ..] if is_fetcher(program) => options.iter().rev().find_map(|word| own_path(word)),
        _ => None,
    }
}

fn is_fetcher(program: &str) -> bool {
    ["curl", "wget"].contains(&program.rsplit('/').next().unwrap_or_default())
}

/// The path of a URL that means the container itself.
fn own_path(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host =
        authority.strip_prefix("[::1]").map_or_else(|| authority.split(':').next().unwrap_or_default(), |_| "[::1]");
    let own = scheme == "http" && ["localhost", "127.0.0.1", "0.0.0.0", "[::1]"].contains(&host);
    own.then(|| if path.is_empty() { "/".to_owned() } else { path.to_owned() })
}

/// What the results so far say.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    status: HealthStatus,
    failing_streak: u32,
    log: VecDeque<ProbeRecord>,
}

impl Tracker {
    /// Take a result, `up` after the start; the new status if it changed. During the start period failures do not
    /// count, but a success does.
    pub fn record(&mut self, check: &Healthcheck, up: Duration, record: ProbeRecord) -> Option<HealthStatus> {
        let before = self.status;
        if record.code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if self.status != HealthStatus::Starting || up >= check.start_period {
            self.failing_streak += 1;
            if self.failing_streak >= check.retries.max(1) {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.log.len() == KEPT {
            self.log.pop_front();
        }
        self.log.push_back(record);
        (self.status != before).then_some(self.status)
    }

    /// How long to wait for the next check.
    pub fn wait(&self, check: &Healthcheck, up: Duration) -> Duration {
        if self.status == HealthStatus::Starting && up < check.start_period {
            check.start_interval.min(check.interval)
        } else {
            check.interval
        }
    }

    pub fn report(&self) -> HealthReport {
        let log = self.log.iter().cloned().collect();
        HealthReport { status: self.status, failing_streak: self.failing_streak, log }
    }
}

/// The start of a check's output; it is kept in memory.
pub fn shorten(result: ProbeResult) -> ProbeResult {
    let mut output = result.output;
    if output.len() > OUTPUT {
        let end = (0..=OUTPUT).rev().find(|at| output.is_char_boundary(*at)).unwrap_or(0);
        output.truncate(end);
    }
    ProbeResult { output, ..result }
}

/// Docker's word.
pub fn word(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Starting => "starting",
        HealthStatus::Healthy => "healthy",
        HealthStatus::Unhealthy => "unhealthy",
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::HealthStatus::*;
    use super::*;

    fn parsed(test: &[&str]) -> Result<Option<Probe>> {
        parse(&test.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_usual_forms_are_understood() {
        let http = |path: &str| Some(Probe::Http(path.to_owned()));
        for (test, expected) in [
            (&[][..], None),
            (&["NONE"], None),
            (&["CMD", "/healthz"], http("/healthz")),
            (&["CMD-SHELL", "/healthz"], http("/healthz")),
            (&["CMD-SHELL", "curl -f http://localhost:5000/healthz || exit 1"], http("/healthz")),
            (&["CMD-SHELL", "curl --fail --silent \"http://127.0.0.1:5000/a?b=c\""], http("/a?b=c")),
            (&["CMD", "curl", "-f", "http://localhost"], http("/")),
            (&["CMD", "curl", "-f", "localhost:5000/x", "-o", "/dev/null"], http("/x")),
            (&["CMD", "/usr/bin/wget", "-qO-", "http://[::1]:5000/x"], http("/x")),
            (&["CMD-SHELL", "wget --spider -q http://0.0.0.0:5000/ready"], http("/ready")),
            (&["CMD", "/check.wasm"], Some(Probe::Exec(vec!["/check.wasm".into()]))),
            (&["CMD", "/check.wasm", "-v"], Some(Probe::Exec(vec!["/check.wasm".into(), "-v".into()]))),
        ] {
            assert_eq!(parsed(test).unwrap(), expected, "{test:?}");
        }
    }

    #[test]
    fn what_cannot_run_is_refused_with_a_way_out() {
        for test in [
            &["CMD"][..],
            &["CMD-SHELL", "pg_isready"],
            &["CMD-SHELL", "curl -f http://example.org/"],
            &["CMD-SHELL", "curl -f https://localhost/"],
            &["CMD-SHELL", "test -f /x && curl http://localhost/"],
            &["/healthz"],
            &["CMD-SHELL", ""],
        ] {
            assert!(parsed(test).is_err(), "{test:?}");
        }
        let error = parsed(&["CMD-SHELL", "pg_isready"]).unwrap_err().to_string();
        assert!(error.contains("`pg_isready`") && error.contains("HEALTHCHECK CMD /healthz"), "{error}");
    }

    #[test]
    fn results_add_up_to_a_status() {
        let check = Healthcheck { retries: 2, start_period: Duration::from_secs(10), ..Healthcheck::default() };
        let mut tracker = Tracker::default();
        let mut record = |up: u64, code: i32| {
            let (start, output) = (SystemTime::UNIX_EPOCH, String::new());
            let changed =
                tracker.record(&check, Duration::from_secs(up), ProbeRecord { start, end: start, code, output });
            let report = tracker.report();
            (changed, report.failing_streak, report.log.len())
        };
        assert_eq!(record(1, 1), (None, 0, 1), "within the start period");
        assert_eq!(record(11, 1), (None, 1, 2));
        assert_eq!(record(12, 1), (Some(Unhealthy), 2, 3));
        assert_eq!(record(13, 1), (None, 3, 4));
        assert_eq!(record(14, 0), (Some(Healthy), 0, 5));
        assert_eq!(record(15, 1), (None, 1, 5));
        assert_eq!(record(16, 0), (None, 0, 5));
    }

    #[test]
    fn checks_are_more_frequent_while_it_starts() {
        let check = Healthcheck { start_period: Duration::from_secs(60), ..Healthcheck::default() };
        let tracker = Tracker::default();
        assert_eq!(tracker.wait(&check, Duration::ZERO), Duration::from_secs(5));
        assert_eq!(tracker.wait(&check, Duration::from_secs(60)), Duration::from_secs(30));
    }

    #[test]
    fn output_is_cut_between_characters() {
        let result = shorten(ProbeResult { code: 1, output: "é".repeat(OUTPUT) });
        assert_eq!(result.output.len(), OUTPUT);
    }
}
