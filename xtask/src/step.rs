//! Headlines with elapsed time, and running child programs so that a failure names the program and the step.

use std::ffi::OsStr;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a bounded child is looked at; only delays the end of programs that take seconds anyway.
const POLL: Duration = Duration::from_millis(50);

/// A task's steps, counted so that a reader of the log knows how far it is.
pub struct Steps {
    started: Instant,
    done: usize,
    total: usize,
}

impl Steps {
    pub fn new(total: usize) -> Self {
        Self { started: Instant::now(), done: 0, total }
    }

    /// Runs one step under a headline. Its error says which step it was.
    pub fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.done += 1;
        let label = format!("[{}/{}] {name}", self.done, self.total);
        eprintln!("\n==> {label}");
        let started = Instant::now();
        let outcome = work().with_context(|| format!("step {label} failed after {}", seconds(started.elapsed())))?;
        eprintln!("    {name}: {} (total {})", seconds(started.elapsed()), seconds(self.started.elapsed()));
        Ok(outcome)
    }

    pub fn elapsed(&self) -> String {
        seconds(self.started.elapsed())
    }
}

fn seconds(elapsed: Duration) -> String {
    let whole = elapsed.as_secs();
    if whole < 60 {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// One line of news inside a step.
pub fn note(text: impl std::fmt::Display) {
    eprintln!("    {text}");
}

/// Runs a program with its output passed through; anything but success is an error that shows the command line.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    check(command, status)
}

/// As `run`, but for programs whose standard output is the answer.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| cannot_start(command))?;
    check(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a quiet program succeeds; `false` also when it does not exist.
pub fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// As `run`, but ends the program when it takes longer than `limit`.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| cannot_start(command))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return check(command, status);
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("`{}` took longer than {}", line(command), seconds(limit));
        }
        std::thread::sleep(POLL);
    }
}

/// Becomes the program: signals reach it directly and its exit code is ours. Returns only on failure.
pub fn become_program(command: &mut Command) -> anyhow::Error {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    anyhow::Error::new(error).context(cannot_start(command))
}

pub fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("`{}` ended with {status}", line(command))
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", line(command))
}

fn line(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_is_named() {
        let mut steps = Steps::new(3);
        let error = steps.run("clippy", || -> Result<()> { bail!("one warning") }).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("step [1/3] clippy failed after") && text.ends_with("one warning"), "{text}");
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let error = run_within(Command::new("sleep").arg("60"), Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("`sleep 60` took longer than"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.to_string().contains("cannot start `no-such-program-here`"), "{error}");
    }

    #[test]
    fn long_times_are_given_in_minutes() {
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(seconds(Duration::from_millis(1240)), "1.2 s");
    }
}
